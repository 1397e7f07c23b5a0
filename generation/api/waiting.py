"""``Prefer: wait`` (RFC 7240) and ``Cancel-After`` of calls, and answers after a wait."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.utils.cache import patch_vary_headers
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_simplejwt.exceptions import InvalidToken

from generation.access import api_keys
from generation.access.grants import Grant
from generation.api.errors import InvalidValue, exception_handler
from generation.api.idempotency import current_user
from generation.requests import waits
from generation.requests.waits import Answer, Wait

#: Seconds of a bare ``wait``, if WAIT_MAX allows them.
_BARE: Final = 60
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
#: ``Retry-After`` of a call whose requests have not ended, in seconds.
_MOST_RETRY_AFTER: Final = 60
_CANCEL_AFTER: Final = re.compile(r"([0-9]{1,6})(s|m|h)")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600}
_SHORTEST: Final = timedelta(seconds=5)
_LONGEST: Final = timedelta(hours=24)


def preferred_wait(request: Request) -> int:
    """Return the seconds that the client prefers to wait, 0 for none. Other preferences and nonsense are ignored."""
    for preference in request.headers.get("Prefer", "").split(","):
        # A regular expression for the whole preference takes cubic time for many spaces.
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            seconds = value.strip().removeprefix('"').removesuffix('"').strip()
            if not seconds:
                return min(_BARE, settings.WAIT_MAX)
            return min(int(seconds), settings.WAIT_MAX) if _SECONDS.fullmatch(seconds) else 0
    return 0


def cancel_after(request: Request) -> timedelta | None:
    """Return the time after which the client wants its requests cancelled. Raises :class:`InvalidValue`: to ignore it
    would cost money."""
    header = request.headers.get("Cancel-After")
    if header is None:
        return None
    match = _CANCEL_AFTER.fullmatch(header.strip())
    after = timedelta(seconds=int(match[1]) * _UNITS[match[2]]) if match else timedelta(0)
    if not _SHORTEST <= after <= _LONGEST:
        raise InvalidValue("Cancel-After", "Use a time such as 90s, 5m or 2h, from 5s to 24h.", "invalid")
    return after


def after_wait(
    request: Request, response: Response, request_ids: Sequence[str], answer: Callable[[bool], Response]
) -> Response:
    """Have the server wait for the end of these requests, if there are any, the client prefers it and the server can
    wait.

    ``answer`` makes the response after the wait, and is told whether all have ended. Return the response for now.
    """
    patch_vary_headers(response, ["Prefer"])
    seconds = preferred_wait(request)
    if not (seconds and request_ids):
        return response

    def finish(has_ended: bool) -> Answer:
        later = answer(has_ended)
        later["Preference-Applied"] = f"wait={seconds}"
        return answer_of(later)

    waits.ask(
        request._request,
        Wait(
            request_ids=request_ids,
            user_id=current_user(request).pk,
            seconds=seconds,
            finish=reporting_errors(request, finish),
        ),
    )
    return response


def retry_after(estimate: int | None) -> str:
    """Return the value of ``Retry-After`` for requests that are expected to end after so many seconds."""
    return str(min(max(estimate or 1, 1), _MOST_RETRY_AFTER))


def reporting_errors(request: Request, finish: Callable[[bool], Answer]) -> Callable[[bool], Answer]:
    """Have an exception after the wait answered as one of the view. An API key must still be valid then."""

    def finish_or_report(has_ended: bool) -> Answer:
        try:
            require_valid_key(request)
            return finish(has_ended)
        except Exception as error:  # as DRF does around a view
            return answer_of(exception_handler(error, {"request": request}))

    return finish_or_report


def require_valid_key(request: Request) -> None:
    """Raise ``InvalidToken`` if the API key of the call is not valid any more, within the seconds of the cache."""
    if isinstance(request.auth, Grant) and not api_keys.is_valid(request.auth.key_id):
        raise InvalidToken


def answer_of(response: Response) -> Answer:
    """Return a response with data as an answer after a wait."""
    body = JSONRenderer().render(response.data)
    headers: dict[str, Any] = {**response.headers, "Content-Type": "application/json"}
    return Answer(status=response.status_code, headers=headers | {"Content-Length": str(len(body))}, body=(body,))
