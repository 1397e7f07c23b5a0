"""What the adapters that speak HTTP share: the client, how long a vendor asks to wait, how much of an answer is read,
and what a broken connection means."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx2

from generation.states import ErrorCode
from workers.providers import vendors
from workers.providers.base import ProviderError
from workers.providers.vendors import MAX_ANSWER_BYTES, too_long

#: How long an idle connection is kept. Servers close theirs too, and a call that runs into that has an unknown outcome.
_IDLE_SECONDS: Final = 15.0

#: Nothing was sent, so nothing was paid for.
_NOT_SENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)


def new_client(*, timeout: float) -> httpx2.AsyncClient:
    """A client whose answers are bounded and whose connections are kept for the next call. ``timeout`` is how long, in
    seconds, a call may take at most; the client gives up a little later."""
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(timeout + vendors.SPARE_SECONDS, connect=vendors.CONNECT_SECONDS),
        # Without a bound of its own on connections: how many calls there are at once is the workers' business.
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=_IDLE_SECONDS),
        headers={"accept-encoding": "identity"},
        event_hooks={"response": [bound_answer]},
    )


def connection_error(vendor: str, cause: BaseException | None) -> ProviderError:
    """What it means that no whole answer came."""
    return vendors.unreachable(vendor) if isinstance(cause, _NOT_SENT) else vendors.broke_off(vendor)


def request_id(headers: Mapping[str, str]) -> str:
    """What the vendor calls the call."""
    return vendors.name(headers.get("x-request-id"))


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


async def bound_answer(response: httpx2.Response) -> None:
    """Let no more than :data:`MAX_ANSWER_BYTES` be read: for ``event_hooks={"response": [bound_answer]}``.

    It covers errors as well, whose body an SDK reads unasked. The caller asks for ``accept-encoding: identity``, since
    a compressed answer would be bounded only before it is inflated.
    """
    if response.headers.get("content-encoding", "identity") != "identity":
        raise ProviderError("The provider compressed its answer, unasked", code=ErrorCode.INVALID_IMAGE)
    if int(response.headers.get("content-length", "0")) > MAX_ANSWER_BYTES:
        raise too_long()
    assert isinstance(response.stream, httpx2.AsyncByteStream)  # noqa: S101  an async client's always is
    response.stream = _Bounded(response.stream)


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        left = MAX_ANSWER_BYTES
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise too_long()
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
