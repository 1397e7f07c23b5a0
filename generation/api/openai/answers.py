"""The answer to a call for images, made when its requests have ended. Images are encoded as the client reads them."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from django.urls import reverse

from generation.api.openai.errors import (
    FINAL,
    TIMING,
    Fault,
    Refused,
    fault_of,
    fault_of_request,
    milliseconds_since,
)
from generation.models import GenerationAttempt, GenerationRequest
from generation.requests import representations, selectors
from generation.requests.events import Preview
from generation.requests.waits import Answer
from generation.states import TERMINAL, AttemptOutcome, Status
from generation.storage import images, signed_urls

logger = logging.getLogger(__name__)

#: Stored bytes that are encoded at once; divisible by three, so that only the last part is padded.
_STEP: Final = 48 * 1024
#: What vendors count in tokens.
_TOKENS: Final = ("input_text", "input_image", "output_text", "output_image")


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """A stored image in base64. ``size`` is that of its stored bytes."""

    key: str
    size: int

    def __len__(self) -> int:
        return 4 * -(-self.size // 3)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the text in parts. Raises ``OSError``."""
        left = self.size
        for part in images.chunks(self.key, _STEP):
            left -= len(part)
            yield base64.b64encode(part)
        if left:
            raise OSError("the stored image has another size than before")


#: A body: text, and the images in it.
Part = bytes | Encoded


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """All that the answer to a call depends on besides its requests. ``headers`` are those of every answer to it."""

    request_ids: Sequence[str]
    quality: str
    response_format: str
    stream: bool
    #: By the monotonic clock.
    started: float
    #: For which the call is held.
    seconds: float
    #: Raises an exception if the caller must not get an answer any more.
    check: Callable[[], None]
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The beginning of the names of events.
    about: str = "image_generation"

    def finish(self, all_ended: bool) -> Answer:
        """Return the answer after the wait. The requests are read again, since the last may have ended meanwhile."""
        try:
            self.check()
            return self._success(self._ended_requests())
        except Exception as error:
            return self.fail(fault_of(error, {}))

    def preview(self, preview: Preview) -> Iterator[bytes]:
        """Yield the event of a preview. Raises ``OSError`` before the first part if the file cannot be read."""
        kind = f"{self.about}.partial_image"
        start = f'event: {kind}\ndata: {{"type":"{kind}","b64_json":"'.encode()
        facts = {
            "partial_image_index": preview.number,
            "size": f"{preview.width}x{preview.height}",
            "quality": self.quality,
            "background": "opaque",
            "output_format": preview.key.rpartition(".")[2],
            "created_at": int(time.time()),
        }
        try:
            for part in images.chunks(preview.key, _STEP):
                yield start + base64.b64encode(part)
                start = b""
        except OSError:
            if start:
                raise
            # The event has begun, and a part of a preview is better than no image in the end.
            logger.warning("a preview broke off while it was sent")
        yield b'"' + _members(facts) + b"}\n\n"

    def fail(self, fault: Fault) -> Answer:
        """Return the answer with an error, which ends a stream as an event."""
        if self.stream:
            return Answer(body=[fault.event()])
        return fault.answer(self._headers())

    def _headers(self) -> dict[str, str]:
        return {**self.headers, TIMING: milliseconds_since(self.started)}

    def _ended_requests(self) -> list[GenerationRequest]:
        """Return the requests in their order. Raises :class:`generation.api.openai.errors.Refused` if one of them has
        not ended or is not stored any more."""
        found = selectors.requests_by_id(self.request_ids)
        for request_id in self.request_ids:
            if request_id not in found:
                message = f"The request {request_id} is not stored any more"
                raise Refused(Fault(status=404, message=message, code="not_found"))
            if found[request_id].status not in TERMINAL:
                raise Refused(self._not_ended(request_id))
        return [found[request_id] for request_id in self.request_ids]

    def _not_ended(self, request_id: str) -> Fault:
        if time.monotonic() < self.started + self.seconds:
            # The process stops. The call that the client sends again joins this one.
            message = "The server restarts, and the work goes on. Send the call again"
            headers = {"retry-after": "1", "x-should-retry": "true"}
            return Fault(status=503, message=message, code="restarting", headers=headers)
        status = representations.absolute(reverse("generation:status", args=[request_id]))
        message = f"The image is not ready yet, and the work goes on. Its status is at {status}"
        return Fault(status=504, message=message, code="still_running", headers=FINAL)

    def _success(self, requests: Sequence[GenerationRequest]) -> Answer:
        """Return the answer with the images that came. Without any, raises the first request's error as
        :class:`generation.api.openai.errors.Refused`; raises ``OSError`` if an image cannot be read."""
        completed = [request for request in requests if request.status == Status.COMPLETED]
        if not completed:
            raise Refused(fault_of_request(requests[0]))
        parts = self._event(completed[0]) if self.stream else self._body(completed)
        if self.stream:
            return Answer(body=_encoded(parts))
        headers = self._headers() | {"content-type": "application/json", "content-length": str(sum(map(len, parts)))}
        costs = [request.result.get("cost") for request in completed]
        if known := [Decimal(str(cost)) for cost in costs if cost is not None]:
            headers["x-vga-cost-usd"] = f"{sum(known):f}"
        if failed := len(requests) - len(completed):
            headers["x-vga-failed"] = str(failed)
        return Answer(headers=headers, body=_encoded(parts))

    def _body(self, completed: Sequence[GenerationRequest]) -> list[Part]:
        parts: list[Part] = [f'{{"created":{_newest_end(completed)},"data":['.encode()]
        for index, request in enumerate(completed):
            parts.append(b"," if index else b"")
            revised = request.result.get("revised_prompt")
            more = {"revised_prompt": revised} if revised else {}
            if self.response_format == "url":
                parts.append(json.dumps({"url": _url(request), **more}).encode())
            else:
                parts += [b'{"b64_json":"', _image(request), b'"', _members(more), b"}"]
        return [*parts, b"]", _members(self._facts(completed)), b"}"]

    def _event(self, request: GenerationRequest) -> list[Part]:
        kind = f"{self.about}.completed"
        start = f'event: {kind}\ndata: {{"type":"{kind}","b64_json":"'.encode()
        facts = {"created_at": _newest_end([request]), **self._facts([request])}
        return [start, _image(request), b'"', _members(facts), b"}\n\n"]

    def _facts(self, completed: Sequence[GenerationRequest]) -> dict[str, Any]:
        """Return what is said of all images. Size and format are those of the first."""
        result = completed[0].result
        facts = {
            "background": "opaque",
            "output_format": images.EXTENSIONS[result["content_type"]],
            "quality": self.quality,
            "size": f"{result['width']}x{result['height']}",
        }
        return facts | _usage(completed)


def _newest_end(completed: Sequence[GenerationRequest]) -> int:
    return int(max(request.completed_at.timestamp() for request in completed if request.completed_at))


def _image(request: GenerationRequest) -> Encoded:
    """Return the image for a body. Raises ``OSError``, so that the error comes before the body."""
    key = request.result["image_key"]
    return Encoded(key=key, size=images.size(key))


def _url(request: GenerationRequest) -> str:
    result = request.result
    return signed_urls.address("image", request.pk, result["image_key"], images.EXTENSIONS[result["content_type"]])


def _members(facts: Mapping[str, Any]) -> bytes:
    """Return the members as they follow others in an object."""
    return "".join(f",{json.dumps(name)}:{json.dumps(value)}" for name, value in facts.items()).encode()


def _usage(completed: Sequence[GenerationRequest]) -> dict[str, Any]:
    """Return the tokens that the vendors counted for the images, or nothing if they counted none."""
    attempts = GenerationAttempt.objects.filter(request__in=completed, outcome=AttemptOutcome.SUCCEEDED)
    counts = dict.fromkeys(_TOKENS, 0)
    for usage in attempts.values_list("usage", flat=True):
        for name in counts:
            counts[name] += usage.get(name, 0)
    if not any(counts.values()):
        return {}
    input_tokens = counts["input_text"] + counts["input_image"]
    output_tokens = counts["output_text"] + counts["output_image"]
    usage = {
        "input_tokens": input_tokens,
        "input_tokens_details": {"text_tokens": counts["input_text"], "image_tokens": counts["input_image"]},
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }
    return {"usage": usage}


def _encoded(parts: Sequence[Part]) -> Iterator[bytes]:
    for part in parts:
        if isinstance(part, bytes):
            yield part
        else:
            yield from part
