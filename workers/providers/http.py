"""What the adapters that speak HTTP share: the client, how long a vendor asks to wait, how much of an answer is read,
what it holds, and what a broken connection means."""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
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
    httpx2.InvalidURL,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)
_LONGEST_TEXT: Final = 4000
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
    limit = httpx2.Timeout(timeout + vendors.SPARE_SECONDS, connect=vendors.CONNECT_SECONDS)

    async def prepare(request: httpx2.Request) -> None:
        request.extensions["timeout"] = limit.as_dict()  # an SDK puts its own there
        if any(_UNSENDABLE.search(value) for _, value in request.headers.raw):
            raise vendors.unsendable_key()  # here, since what comes next would log it

    return httpx2.AsyncClient(
        timeout=limit,
        # Without a bound of its own on connections: how many calls there are at once is the workers' business.
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=_IDLE_SECONDS),
        headers={"accept-encoding": "identity"},
        follow_redirects=False,
        event_hooks={"request": [prepare], "response": [bound_answer, *([on_response] if on_response else [])]},
    )


def connection_error(vendor: str, cause: BaseException | None) -> ProviderError:
    """What it means that no whole answer came."""
    return vendors.unreachable(vendor) if isinstance(cause, _NOT_SENT) else vendors.broke_off(vendor)


def request_id(headers: Mapping[str, str]) -> str:
    """What the vendor calls the call."""
    return vendors.name(headers.get("x-request-id"))


def read_json(content: bytes | str) -> object:
    """Raises ``ValueError`` for whatever cannot be read."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_answer(content: bytes | str, headers: Mapping[str, str], vendor: str, number: str) -> Mapping[str, object]:
    """The JSON of an answer that is a success by its status. Raises :class:`ProviderError`."""
    if "json" not in headers.get("content-type", ""):
        # A page of some proxy's: the vendor itself has not answered, and the next attempt may reach it.
        message, code = f"Something other than {vendor} answered", ErrorCode.UNAVAILABLE
        raise ProviderError(message, code=code, provider_request_id=number)
    try:
        return mapping(read_json(content))
    except ValueError:
        # It came whole and was paid for; asking again would be paid for again.
        message, code = f"{vendor}'s answer cannot be read", ErrorCode.INVALID_IMAGE
        raise ProviderError(message, code=code, provider_request_id=number) from None


def read_picture(encoded: object, vendor: str, number: str) -> bytes:
    """The bytes behind the base64 of an answer. Raises :class:`ProviderError`."""
    try:
        return b64decode(encoded if isinstance(encoded, str) else "?", validate=True)
    except ValueError:
        message = f"{vendor}'s picture cannot be read"
        raise ProviderError(message, code=ErrorCode.INVALID_IMAGE, provider_request_id=number) from None


def mapping(value: object) -> Mapping[str, object]:
    """The value if it is an object of JSON, else an empty one: a vendor's answer may have any shape."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[object]:
    """The same for a list."""
    return value if isinstance(value, list) else []


def sentence(value: object) -> str:
    """Text of a vendor's that can be stored and shown, whatever it holds."""
    return "".join(filter(str.isprintable, value[:_LONGEST_TEXT])) if isinstance(value, str) else ""


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
