"""``/v1/images``: calls that wait for their images."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Final

from django.conf import settings
from django.db import Error
from django.http import HttpResponse
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request

from generation.api.idempotency import current_user, fingerprint, limit_submits
from generation.api.openai import edits, repeats
from generation.api.openai.answers import Reply
from generation.api.openai.edit_forms import EditJSONParser, bound_edit, read_edit
from generation.api.openai.errors import Fault, Refused, not_served_here, rate_headers
from generation.api.openai.serializers import ImagesCall, read_call
from generation.api.openai.views import OpenAIViewSet
from generation.api.waiting import cancel_after, require_valid_key
from generation.requests import permissions, services, waits
from generation.requests.waits import Answer, Wait
from generation.states import Scope
from generation.telemetry import correlation

#: Headers in which the official SDKs send their time-out in seconds.
_TIMEOUTS: Final = ("x-stainless-read-timeout", "x-stainless-timeout")
#: Seconds that an answer needs to arrive before the client gives up, or half of a short time-out.
_ON_THE_WAY: Final = 5
_TOO_MANY_WAITS: Final = Fault(
    status=429,
    message="Too many calls of this user wait at the same time",
    code="rate_limit_exceeded",
    headers={"retry-after": "5"},
)


class _WaitingViewSet(OpenAIViewSet):
    """Submit requests and wait for their images."""

    @staticmethod
    def _require_realtime(request: Request) -> None:
        if not waits.can_wait(request._request):
            raise Refused(not_served_here())

    def _images(
        self,
        request: Request,
        call: ImagesCall,
        *,
        content: str,
        counted: Mapping[str, int] | None = None,
        about: str = "image_generation",
    ) -> HttpResponse:
        """Submit the call and wait for its images. ``content`` is its hash, ``counted`` the usage of its limits if it
        was counted already, and ``about`` begins the names of its events."""
        if not waits.take_place(request._request, current_user(request).pk):
            raise Refused(_TOO_MANY_WAITS)
        usage = dict(counted or {})

        def submit() -> list[str]:
            if not usage:
                usage.update(limit_submits(request, cost=len(call.drafts)))
            return _submit(request, call)

        permissions.check_projects(current_user(request), call.drafts)  # an earlier call may have had more rights
        place = repeats.submit_or_join(request, submit, content=content)
        if not usage:
            usage = limit_submits(request, cost=0)
        headers = {
            correlation.HEADER.lower(): correlation.current(),
            "x-vga-request-ids": ",".join(place.request_ids),
            **rate_headers(
                limit=usage["limit"], remaining=max(0, usage["limit"] - usage["count"]), seconds=usage["time_left"]
            ),
        }
        if call.ignored:
            headers["x-vga-ignored"] = ",".join(call.ignored)
        seconds = _holding_time(request)
        reply = Reply(
            request_ids=place.request_ids,
            quality=call.quality,
            response_format=call.response_format,
            stream=call.stream,
            started=self.started,
            seconds=seconds,
            check=partial(require_valid_key, request),
            headers=headers,
            about=about,
        )

        def refuse() -> Answer:
            repeats.leave(place)
            return _TOO_MANY_WAITS.answer(headers)  # a stream has not begun

        def finish(all_ended: bool) -> Answer:
            answer = reply.finish(all_ended)
            if place.joined:  # else a client that joins often makes the row longer each time
                with suppress(Error):  # the answer must come
                    repeats.stop_waiting(place)
            return answer

        wait = Wait(
            request_ids=place.request_ids,
            user_id=place.user.pk,
            seconds=seconds,
            finish=finish,
            refuse=refuse,
            leave=lambda: repeats.leave(place),
            events=call.stream,
            preview=reply.preview,
        )
        waits.ask(request._request, wait)
        content_type = "text/event-stream" if call.stream else "application/json"
        return HttpResponse(headers=headers, content_type=content_type)


class ImagesViewSet(_WaitingViewSet):
    """Images from a prompt."""

    scopes: ClassVar = {"generate": Scope.REQUESTS_WRITE}

    def generate(self, request: Request) -> HttpResponse:
        self._require_realtime(request)
        call = read_call(request.data, cancel_after=cancel_after(request))
        return self._images(request, call, content=fingerprint(request))


class EditsViewSet(_WaitingViewSet):
    """Images from a prompt and other images."""

    parser_classes = (EditJSONParser, MultiPartParser)
    scopes: ClassVar = {"edit": Scope.REQUESTS_WRITE}

    def initialize_request(self, request: Any, *arguments: Any, **more: Any) -> Request:
        """Bound the form before the first look at it."""
        bound_edit(request)
        return super().initialize_request(request, *arguments, **more)

    def edit(self, request: Request) -> HttpResponse:
        self._require_realtime(request)
        form = read_edit(request)
        # The model is chosen before the images are cleaned, which takes long.
        call = read_call(form.fields, cancel_after=cancel_after(request), given_images=edits.placeholders(form))
        permissions.check_projects(current_user(request), call.drafts)
        counted = limit_submits(request, cost=len(call.drafts))  # before the work
        identity = f"{request.headers.get('Cancel-After', '')}\n{form.fingerprint()}"
        content = hashlib.sha256(identity.encode()).hexdigest()
        call = replace(call, drafts=edits.with_uploads(current_user(request), form, call.drafts))
        return self._images(request, call, content=content, counted=counted, about="image_edit")


def _submit(request: Request, call: ImagesCall) -> list[str]:
    owner = current_user(request)
    if len(call.drafts) == 1:
        return [services.submit(owner=owner, draft=call.drafts[0]).pk]
    _, created = services.submit_batch(
        owner=owner, drafts=call.drafts, priority=call.drafts[0].priority, max_concurrent=None
    )
    return [one.pk for one in created]


def _holding_time(request: Request) -> float:
    """Return the seconds for which the call is held: a little less than the client waits."""
    held = float(settings.OPENAI_WAIT_SECONDS)
    for name in _TIMEOUTS:
        seconds = _seconds(request.headers.get(name, ""))
        if seconds is not None:
            held = min(held, max(seconds - _ON_THE_WAY, seconds / 2))
    return held


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
