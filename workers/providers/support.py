"""What the adapter of any vendor needs, whatever it speaks: one client for each event loop, how long it waits, what a
broken connection means, and which of a vendor's words may be repeated."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import Final, Generic, TypeVar
from weakref import WeakKeyDictionary

from generation.providers.error_policy import ErrorScope
from generation.states import ErrorCode
from workers.providers.base import ProviderError

#: How long, in seconds, a connection may take to come about.
CONNECT_SECONDS: Final = 5.0
#: The runtime ends a call in time; this much later the connection gives up by itself.
SPARE_SECONDS: float = 30.0

#: The most bytes that are read of an answer: what :mod:`workers.image_check` takes, in base64 and with some room.
MAX_ANSWER_BYTES: Final = 60 * 1024 * 1024

#: What may be repeated of the words of a vendor: a name, never a sentence.
_NAME: Final = re.compile(r"[A-Za-z0-9_.\[\]/-]{1,64}")

Client = TypeVar("Client")


class PerEventLoop(Generic[Client]):
    """Keeps one client, and with it its connections, for each event loop that calls."""

    def __init__(self, make: Callable[[], Client], close: Callable[[Client], Awaitable[None]]) -> None:
        self._make = make
        self._close = close
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Client] = WeakKeyDictionary()

    def get(self) -> Client:
        """The client of the loop that runs, made on first use."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = self._make()
        return client

    async def close(self) -> None:
        """Close the connections of the loop that runs. The next call makes new ones."""
        if client := self._clients.pop(asyncio.get_running_loop(), None):
            await self._close(client)


def name(value: object) -> str:
    """A vendor's word if it is a name, such as a code or an id; else nothing."""
    return value if isinstance(value, str) and _NAME.fullmatch(value) else ""


def reject_unsupported(vendor: str, wanted: Mapping[str, bool]) -> None:
    """Raise :class:`ProviderError` for an option that the vendor has no field for, before anything is sent."""
    if names := [option for option, is_wanted in wanted.items() if is_wanted]:
        raise unsupported(f"{vendor} knows no {' and no '.join(names)}")


def unsupported(message: str) -> ProviderError:
    """For a limit of this vendor's or model's, found before anything is sent. Another provider may be asked."""
    return ProviderError(message, code=ErrorCode.INVALID_REQUEST, sent=False, scope=ErrorScope.MODEL)


def unreachable(vendor: str) -> ProviderError:
    """Nothing was sent, so nothing was paid for."""
    return ProviderError(f"{vendor} cannot be reached", code=ErrorCode.UNAVAILABLE, sent=False)


def unknown_outcome(vendor: str) -> ProviderError:
    """The request may have arrived, and then it was paid for."""
    message = f"The connection to {vendor} broke off, so it is not known whether there is an image"
    return ProviderError(message, code=ErrorCode.UNKNOWN_OUTCOME)


def unsendable_key() -> ProviderError:
    """For a key with characters that no header can hold: nothing of it is shown."""
    return ProviderError("The provider's key has characters that no key has", code=ErrorCode.AUTH, sent=False)


def too_long(most: int = MAX_ANSWER_BYTES) -> ProviderError:
    """The answer has more bytes than that."""
    message = f"The provider's answer has more than {most // 1024 // 1024} MB"
    return ProviderError(message, code=ErrorCode.INVALID_IMAGE)


def is_loopback(host: str) -> bool:
    """Whether a host, without a port, is on this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
