"""Helpers of all vendors' adapters, for any protocol: one client per event loop, limits, and common errors."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import Final, Generic, TypeVar
from weakref import WeakKeyDictionary

from generation.providers.error_policy import ErrorScope
from generation.states import ErrorCode, ImageRole
from workers.providers.base import ImageRequest, ProviderError

#: Time limit for connecting, in seconds.
CONNECT_SECONDS: Final = 5.0
#: The runtime enforces the time limit of a call. The client's own time-out is longer by this number of seconds.
SPARE_SECONDS: float = 30.0

#: Maximum bytes that are read of an answer: the limit of :mod:`workers.image_check`, in base64 with some margin.
MAX_ANSWER_BYTES: Final = 80 * 1024 * 1024

#: The same for an answer in events: the image and three partial ones.
MAX_STREAM_BYTES: Final = 4 * MAX_ANSWER_BYTES
#: The content type of such an answer. An adapter that accepts it must bound each event.
EVENT_STREAM: Final = "text/event-stream"

#: Text of a vendor that may be stored and shown: a name, never a sentence.
_NAME: Final = re.compile(r"[A-Za-z0-9_.\[\]/-]{1,64}")

Client = TypeVar("Client")


class PerEventLoop(Generic[Client]):
    """One client, with its connections, for each event loop that makes calls."""

    def __init__(self, make: Callable[[], Client], close: Callable[[Client], Awaitable[None]]) -> None:
        self._make = make
        self._close = close
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Client] = WeakKeyDictionary()

    def get(self) -> Client:
        """Return the client of the running event loop, created on first use."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = self._make()
        return client

    async def close(self) -> None:
        """Close the client of the running event loop. The next call creates a new one."""
        if client := self._clients.pop(asyncio.get_running_loop(), None):
            await self._close(client)


def name(value: object) -> str:
    """Return a vendor's value if it is a name, such as a code or an id, else an empty string."""
    return value if isinstance(value, str) and _NAME.fullmatch(value) else ""


def image_extension(content_type: str) -> str:
    """Return the extension of a file of this type; vendors judge a file by its name as well."""
    return {"image/jpeg": "jpg", "image/webp": "webp"}.get(content_type, "png")


def reject_unsupported(vendor: str, is_used: Mapping[str, bool]) -> None:
    """Raise :class:`ProviderError` if an option is used that the vendor does not support, before anything is sent."""
    if names := [option for option, used in is_used.items() if used]:
        raise unsupported(f"{vendor} does not support {' or '.join(names)}")


def reject_images(vendor: str, request: ImageRequest, *, roles: Mapping[str, int], most: int, mask: bool) -> None:
    """Raise :class:`ProviderError` if the request has images that the vendor does not take, by role or in number, or a
    mask that it does not take: none is dropped in silence."""
    given = Counter(image.role for image in request.references)
    if wrong := [role for role, count in given.items() if count > roles.get(role, 0)]:
        raise unsupported(f"{vendor} does not take so many images of the role {wrong[0]}")
    if len(request.references) > most:
        raise unsupported(f"{vendor} takes at most {most} images")
    if request.mask and not (mask and given[ImageRole.SOURCE]):
        raise unsupported(f"{vendor} does not take a mask" if not mask else "A mask needs an image to change")


def unsupported(message: str) -> ProviderError:
    """Return the error for a limit of the vendor or model that was found before anything was sent. Another provider may
    be called."""
    return ProviderError(message, code=ErrorCode.INVALID_REQUEST, sent=False, scope=ErrorScope.MODEL)


def unreachable(vendor: str) -> ProviderError:
    """Return the error for a failed connection: nothing was sent, so nothing was billed."""
    return ProviderError(f"{vendor} cannot be reached", code=ErrorCode.UNAVAILABLE, sent=False)


def unknown_outcome(vendor: str, call_id: str = "") -> ProviderError:
    """Return the error for a connection that broke after the request was sent, so that it may have been billed."""
    message = f"The connection to {vendor} broke off, so it is not known whether there is an image"
    return ProviderError(message, code=ErrorCode.UNKNOWN_OUTCOME, provider_request_id=call_id)


def unsendable_key() -> ProviderError:
    """Return the error for a key with characters that a header cannot contain. It shows no part of the key."""
    return ProviderError("The provider's key has invalid characters", code=ErrorCode.AUTH, sent=False)


def too_long(limit: int = MAX_ANSWER_BYTES) -> ProviderError:
    """Return the error for an answer with more bytes than the limit."""
    message = f"The provider's answer has more than {limit // 1024 // 1024} MB"
    return ProviderError(message, code=ErrorCode.INVALID_IMAGE)


def is_loopback(host: str) -> bool:
    """Return whether a host, given without a port, is on the loopback interface."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
