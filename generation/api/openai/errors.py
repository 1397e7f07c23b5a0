"""Errors in OpenAI's format: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.conf import settings
from django.http import HttpResponse
from rest_framework import exceptions

from generation.api import errors
from generation.api.images import ImageGone
from generation.models import GenerationRequest
from generation.providers.catalogue import UnsupportedRequest
from generation.requests.waits import Answer
from generation.states import ErrorCode, Status

#: The official SDKs send a call again after 409, 429 and 5xx, unless the answer has this header.
FINAL: Final = {"x-should-retry": "false"}
#: The header with the milliseconds that a call took.
TIMING: Final = "openai-processing-ms"
#: Status and code of the errors that have others here than elsewhere, by their code there.
_RENAMED: Final = {
    "over_budget": (429, "insufficient_quota"),
    "rate_limited": (429, "rate_limit_exceeded"),
    "scope_missing": (403, "insufficient_permissions"),
}
#: The fields of a body by the options that they set, or the fields of a submit.
PARAMS: Final[Mapping[str, str]] = {
    "model": "model",
    "aspectRatio": "size",
    "resolution": "size",
    "quality": "quality",
    "outputFormat": "output_format",
    "previews": "partial_images",
    "prompt": "prompt",
    "projectId": "vga.projectId",
    "priority": "vga.priority",
}
#: What precedes an option in a path: the item of a batch, as which several images are submitted, and ``metadata``.
_PREFIX: Final = re.compile(r"^(?:requests\[\d+\]\.)?(?:metadata\.)?")
_REFUSALS: Final = {ErrorCode.REFUSED_INPUT: "input", ErrorCode.REFUSED_OUTPUT: "output"}
_JSON: Final = {"content-type": "application/json"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """An error with its status, and its ``headers`` in lower case. ``details`` are further members of the object."""

    status: int
    message: str
    code: str
    param: str | None = None
    type: str = "invalid_request_error"
    headers: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> dict[str, Any]:
        """The body."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error | dict(self.details)}

    def response(self) -> HttpResponse:
        """Return the response of a view."""
        body = json.dumps(self.shown)
        return HttpResponse(body, status=self.status, headers=self.headers, content_type="application/json")

    def answer(self, headers: Mapping[str, str]) -> Answer:
        """Return the answer after a wait, with these additional headers."""
        body = json.dumps(self.shown).encode()
        of_body = _JSON | {"content-length": str(len(body))}
        return Answer(status=self.status, headers={**headers, **self.headers, **of_body}, body=[body])

    def event(self) -> bytes:
        """Return the event that ends a stream."""
        return f"event: error\ndata: {json.dumps({'type': 'error'} | self.shown)}\n\n".encode()


class Refused(exceptions.APIException):
    """A call is answered with a :class:`Fault`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def unsupported(reason: UnsupportedRequest, metadata: Mapping[str, Any]) -> Refused:
    """Return the error of a call that no configured model can fulfill. ``metadata`` is that of the body."""
    in_metadata = reason.option in metadata or reason.option not in PARAMS
    is_unknown_model = reason.option == "model"
    return Refused(
        Fault(
            status=404 if is_unknown_model else 400,
            message=reason.message,
            param=f"vga.metadata.{reason.option}" if in_metadata else PARAMS[reason.option],
            code="model_not_found" if is_unknown_model else "unsupported",
        )
    )


def exception_handler(error: Exception, context: dict[str, Any]) -> HttpResponse:
    """Return the response for an exception of a view (DRF's hook)."""
    return fault_of(error, context).response()


def fault_of(error: Exception, context: dict[str, Any]) -> Fault:
    """Return the fault for an exception, which is logged if it is unexpected."""
    if isinstance(error, Refused):
        return error.fault
    if isinstance(error, FileNotFoundError):
        error = ImageGone()
    usual = errors.exception_handler(error, context)
    status, code = _RENAMED.get(usual.data["code"], (usual.status_code, usual.data["code"]))
    headers = {name.lower(): value for name, value in usual.headers.items() if name.lower() != "content-type"}
    if "ratelimit-limit" in headers:
        headers |= rate_headers(
            limit=headers.pop("ratelimit-limit"),
            remaining=headers.pop("ratelimit-remaining"),
            seconds=int(headers.pop("ratelimit-reset")),
        )
    if code == "insufficient_quota" or status in {409, 410}:
        headers |= FINAL
    param = None
    if details := usual.data.get("errors"):
        path = _PREFIX.sub("", details[0]["path"])
        param, code = PARAMS.get(path, path) or None, details[0]["code"]
    if status == 401:
        code = "invalid_api_key"
    return Fault(status=status, message=usual.data["error"], param=param, code=code, headers=headers)


def rate_headers(*, limit: object, remaining: object, seconds: int) -> dict[str, str]:
    """Return the headers of a rate limit, which is reset after so many seconds."""
    minutes, rest = divmod(max(0, seconds), 60)
    return {
        "x-ratelimit-limit-requests": str(limit),
        "x-ratelimit-remaining-requests": str(remaining),
        "x-ratelimit-reset-requests": f"{minutes}m{rest}s" if minutes else f"{rest}s",
    }


def fault_of_request(request: GenerationRequest) -> Fault:
    """Return the fault for a request that ended without an image."""
    if request.status == Status.CANCELLED:
        message = f"The request {request.pk} was cancelled"
        return Fault(status=409, message=message, code="cancelled", headers=FINAL)
    error = request.error
    code, message = error["code"], str(error["message"])
    if stage := _REFUSALS.get(code):
        category = error.get("category")
        details = {"moderation_stage": stage, "categories": [category] if category else []}
        return Fault(
            status=400,
            message=message,
            type="image_generation_user_error",
            code="moderation_blocked",
            details={"moderation_details": details},
        )
    # The queue has made all retries that make sense, so another call would only cost once more.
    status = 400 if code == ErrorCode.INVALID_REQUEST else 502
    return Fault(status=status, message=message, code=code, headers=FINAL)


def milliseconds_since(started: float) -> str:
    """Return the milliseconds since this time of the monotonic clock."""
    return str(round((time.monotonic() - started) * 1000))


def not_served_here() -> Fault:
    """Return the fault of a call to the web process, which cannot wait for an image."""
    return Fault(status=404, message=f"Images are served at {address()}", code="not_served_here")


def address() -> str:
    """Return the base URL for clients: of the realtime process, at its own port unless a proxy serves both."""
    base = settings.REALTIME_BASE_URL or settings.PUBLIC_BASE_URL
    if settings.REALTIME_HAS_ITS_PORT:
        base = f"http://127.0.0.1:{settings.REALTIME_PORT}"
    return f"{base.replace('ws', 'http', 1) if base.startswith('ws') else base}/v1"
