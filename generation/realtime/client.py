"""One connected client, independent of the transport."""

from __future__ import annotations

import asyncio
import time
from enum import IntEnum
from typing import Final

from generation.realtime.authentication import Identity
from generation.realtime.send_queue import SendQueue
from generation.realtime.topics import Key
from generation.requests.events import Preview, Update

#: Maximum number of subscriptions of a client.
MAX_SUBSCRIPTIONS: Final = 200
#: Seconds after which a connection ends in any case; the event loop takes no timer without end.
_LONGEST_TIMER: Final = 30 * 24 * 3600.0
#: Maximum number of requests whose last sent sequence is stored per client.
_MAX_SEQUENCES: Final = 2_000


class CloseCode(IntEnum):
    """Why a connection is closed: 4000 plus the HTTP status."""

    NOT_AUTHENTICATED = 4401
    IDLE = 4408
    TOO_MANY_MESSAGES = 4429
    TOO_MANY_CONNECTIONS = 4429


class Listener:
    """One client: its identity, its subscriptions and its send queue."""

    def __init__(self) -> None:
        self.send_queue = SendQueue()
        self.identity: Identity | None = None
        self.keys: set[Key] = set()
        self.heard_at = time.monotonic()
        self._expiry: asyncio.TimerHandle | None = None
        self._sequences: dict[str, int] = {}

    def sign_in(self, identity: Identity) -> None:
        """Set the identity, and close the connection when its token or session expires."""
        self.sign_out()
        self.identity = identity
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(
            min(max(0, identity.seconds_left), _LONGEST_TIMER), self.send_queue.close, CloseCode.NOT_AUTHENTICATED
        )

    def sign_out(self) -> None:
        """Clear the identity and cancel the expiry timer, which would keep a reference to this object."""
        self.identity = None
        if self._expiry is not None:
            self._expiry.cancel()

    def frame(self, update: Update) -> str:
        """Return the update in the format of the transport."""
        return update.text

    def preview_frame(self, preview: Preview) -> str:
        """Return the preview in the format of the transport."""
        return preview.text

    def show(self, preview: Preview) -> None:
        """Send the preview, unless the client is behind."""
        self.send_queue.offer(self.preview_frame(preview))

    def deliver(self, update: Update) -> None:
        """Send the update, unless the client has this state or a later one: a status never goes backwards."""
        if self.record(update.request_id, update.sequence):
            self.send_queue.put(self.frame(update))

    def record(self, request_id: str, sequence: int) -> bool:
        """Store the sequence as sent to the client. Returns False if this sequence or a later one was sent before."""
        if sequence <= self._sequences.get(request_id, 0):
            return False
        self._sequences.pop(request_id, None)
        self._sequences[request_id] = sequence
        if len(self._sequences) > _MAX_SEQUENCES:
            del self._sequences[next(iter(self._sequences))]
        return True
