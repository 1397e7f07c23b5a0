"""What the adapters that speak HTTP share: how long a vendor asks to wait, and how much of an answer is read."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx2

from generation.states import ErrorCode
from workers.providers.base import ProviderError

#: The most bytes that are read of an answer: what :mod:`workers.images` takes, in base64 and with some room.
MAX_ANSWER_BYTES: Final = 60 * 1024 * 1024


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
        raise _too_long()
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
                raise _too_long()
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def _too_long() -> ProviderError:
    message = f"The provider's answer has more than {MAX_ANSWER_BYTES // 1024 // 1024} MB"
    return ProviderError(message, code=ErrorCode.INVALID_IMAGE)
