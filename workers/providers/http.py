"""Shared by the adapters that speak HTTP: the client, how long a vendor asks to wait, and broken connections.

:mod:`.bodies` reads bodies, :mod:`.statuses` judges statuses, :mod:`.refusals` recognizes refusals.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx2

from workers.providers import support
from workers.providers.base import ProviderError, mark_sent
from workers.providers.bodies import bound_answer

#: How long an idle connection is kept. Servers close theirs too, and a call that runs into that has an unknown outcome.
_IDLE_SECONDS: Final = 15.0

#: Nothing was sent, so nothing was paid for.
_NOT_SENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.InvalidURL,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)
_LONGEST_TEXT: Final = 4000
_BREAKS: Final = re.compile(r"\r\n|[\t\n\v\f\r\x85\u2028\u2029]")
_UNSHOWABLE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef"
    + "".join(f"\\U{plane:04x}fffe\\U{plane:04x}ffff" for plane in range(17))
    + "]"
)
#: What no header may hold, such as the line's end of a file that a key was read from.
_UNSENDABLE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def new_client(
    *, timeout: float, on_response: Callable[[httpx2.Response], Awaitable[None]] | None = None
) -> httpx2.AsyncClient:
    """A client whose answers are bounded and whose connections are kept for the next call. ``timeout`` is how long, in
    seconds, a call may take at most; the client gives up a little later.

    It follows no redirect: a vendor's word is no reason to call whoever it names. ``on_response`` may raise
    :class:`ProviderError`.
    """
    limit = httpx2.Timeout(timeout + support.SPARE_SECONDS, connect=support.CONNECT_SECONDS)

    async def prepare(request: httpx2.Request) -> None:
        request.extensions["timeout"] = limit.as_dict()  # an SDK puts its own there
        request.extensions["trace"] = _trace
        if any(_UNSENDABLE.search(value) for _, value in request.headers.raw):
            raise support.unsendable_key()  # here, since what comes next would log it

    return httpx2.AsyncClient(
        timeout=limit,
        # Without a bound of its own on connections: how many calls there are at once is the workers' business.
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=_IDLE_SECONDS),
        headers={"accept-encoding": "identity"},
        follow_redirects=False,
        event_hooks={"request": [prepare], "response": [bound_answer, *([on_response] if on_response else [])]},
    )


async def _trace(event: str, info: Mapping[str, Any]) -> None:
    """Note when the request's first bytes leave. The connection, TLS and a proxy's CONNECT come before that."""
    if event.endswith(".send_request_headers.started") and getattr(info.get("request"), "method", b"") != b"CONNECT":
        mark_sent()


def connection_error(vendor: str, cause: BaseException | None) -> ProviderError:
    """What it means that no whole answer came."""
    return support.unreachable(vendor) if isinstance(cause, _NOT_SENT) else support.unknown_outcome(vendor)


def request_id(headers: Mapping[str, str]) -> str:
    """What the vendor calls the call."""
    return support.name(headers.get("x-request-id"))


def mapping(value: object) -> Mapping[str, object]:
    """The value if it is an object of JSON, else an empty one: a vendor's answer may have any shape."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[object]:
    """The same for a list."""
    return value if isinstance(value, list) else []


def sentence(value: object) -> str:
    """Return text of a vendor's that can be stored and shown.

    Only control characters, direction controls, surrogates and noncharacters go. A line break or a tab is a space.
    Joiners and variation selectors stay, since words and emoji need them.
    """
    if not isinstance(value, str):
        return ""
    return _UNSHOWABLE.sub("", _BREAKS.sub(" ", value[: 2 * _LONGEST_TEXT]))[:_LONGEST_TEXT]


def count(value: object) -> int:
    """The value if it is a number of things that somebody counted, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds to wait, by ``retry-after-ms``, else ``retry-after`` in seconds or as a date, which is by the vendor's
    clock and not by ours. ``None`` for what makes no sense or is over."""
    seconds = _number(headers.get("retry-after-ms", ""), 0.001)
    text = headers.get("retry-after", "")
    if seconds is None:
        seconds = _number(text)
    if seconds is None and (date := _date(text)):
        seconds = (date - (_date(headers.get("date", "")) or now or datetime.now(UTC))).total_seconds()
    return seconds if seconds is not None and seconds > 0 else None


def _number(text: str, unit: float = 1.0) -> float | None:
    try:
        number = float(text) * unit
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # A date without a zone is in UTC, as all dates of HTTP are.
    return date.replace(tzinfo=date.tzinfo or UTC)
