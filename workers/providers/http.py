"""Helpers of the adapters for HTTP: the client, connection errors, ``Retry-After``, and values of JSON.

:mod:`.bodies` reads bodies, :mod:`.statuses` judges statuses, :mod:`.refusals` recognizes refusals.
"""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Final

import httpx2

from workers.providers import support
from workers.providers.base import ProviderError, mark_sent
from workers.providers.bodies import bound_answer

#: How long an idle connection is kept open. It should end before the server closes it, since a call on a connection
#: that is being closed has an unknown outcome.
_IDLE_SECONDS: Final = 15.0

#: Errors after which nothing was sent, so that nothing was billed.
_NOT_SENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.InvalidURL,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)
_MAX_LENGTH: Final = 4000
_BREAKS: Final = re.compile(r"\r\n|[\t\n\v\f\r\x85\u2028\u2029]")
_UNSHOWABLE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef"
    + "".join(f"\\U{plane:04x}fffe\\U{plane:04x}ffff" for plane in range(17))
    + "]"
)
#: Characters that a header must not contain, such as the line break of a file that a key was read from.
_UNSENDABLE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


@cache
def _tls_context() -> ssl.SSLContext:
    """Return the TLS context of all clients. Reading the certificates takes 30 ms of processor time."""
    return httpx2.create_ssl_context()


def new_client(
    *, timeout: float, on_response: Callable[[httpx2.Response], Awaitable[None]] | None = None
) -> httpx2.AsyncClient:
    """Return a client that bounds answers and keeps connections for further calls.

    ``timeout`` is the time limit of a call in seconds, which the client exceeds by :data:`support.SPARE_SECONDS`.
    Redirects are not followed, since a vendor must not choose the hosts that this service calls. ``on_response`` may
    raise :class:`ProviderError`.
    """
    limit = httpx2.Timeout(timeout + support.SPARE_SECONDS, connect=support.CONNECT_SECONDS)

    async def prepare(request: httpx2.Request) -> None:
        request.extensions["timeout"] = limit.as_dict()  # replaces that of an SDK
        request.extensions["trace"] = _trace
        if any(_UNSENDABLE.search(value) for _, value in request.headers.raw):
            raise support.unsendable_key()  # raised here, since the client's own error would contain the key

    return httpx2.AsyncClient(
        verify=_tls_context(),
        timeout=limit,
        # The number of connections is not limited, since the workers limit the number of concurrent calls.
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=_IDLE_SECONDS),
        headers={"accept-encoding": "identity"},
        follow_redirects=False,
        event_hooks={"request": [prepare], "response": [bound_answer, *([on_response] if on_response else [])]},
    )


async def _trace(event: str, info: Mapping[str, Any]) -> None:
    """Mark the call as sent before its headers are written: after connecting, TLS and a proxy's CONNECT."""
    if event.endswith(".send_request_headers.started") and getattr(info.get("request"), "method", b"") != b"CONNECT":
        mark_sent()


def connection_error(vendor: str, cause: BaseException | None) -> ProviderError:
    """Return the error for a call without a complete answer."""
    return support.unreachable(vendor) if isinstance(cause, _NOT_SENT) else support.unknown_outcome(vendor)


def request_id(headers: Mapping[str, str]) -> str:
    """Return the vendor's id of the call, or an empty string."""
    return support.name(headers.get("x-request-id"))


def mapping(value: object) -> Mapping[str, object]:
    """Return the value if it is a JSON object, else an empty one: a vendor's answer may have any shape."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[object]:
    """Return the value if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def sentence(value: object) -> str:
    """Return a vendor's text in a form that can be stored and shown, or an empty string for another type.

    Control characters, direction controls, surrogates and noncharacters are removed. A line break or tab becomes a
    space. Joiners and variation selectors stay, since words and emoji need them.
    """
    if not isinstance(value, str):
        return ""
    return _UNSHOWABLE.sub("", _BREAKS.sub(" ", value[: 2 * _MAX_LENGTH]))[:_MAX_LENGTH]


def count(value: object) -> int:
    """Return the value if it is a positive integer, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Return the seconds to wait, or None if there is no valid time in the future.

    They come from ``retry-after-ms``, else from ``retry-after`` in seconds or as a date. A date is relative to the
    vendor's ``date`` header, not to this process's clock.
    """
    seconds = _number(headers.get("retry-after-ms", ""), 0.001)
    text = headers.get("retry-after", "")
    if seconds is None:
        seconds = _number(text)
    if seconds is None and (date := _date(text)):
        seconds = (date - (_date(headers.get("date", "")) or now or datetime.now(UTC))).total_seconds()
    return seconds if seconds is not None and seconds > 0 else None


def _number(text: str, unit: float = 1.0) -> float | None:
    try:
        value = float(text) * unit
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # A date without a time zone is in UTC, like all dates of HTTP.
    return date.replace(tzinfo=date.tzinfo or UTC)
