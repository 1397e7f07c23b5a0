"""One client, whatever it is connected by."""

from __future__ import annotations

import asyncio
import time
from enum import IntEnum
from typing import Final

from generation.realtime.authentication import Identity
from generation.realtime.send_queue import SendQueue
from generation.realtime.topics import Key
from generation.requests.events import Update

#: What one client may watch.
MAX_SUBSCRIPTIONS: Final = 200
#: Requests of which it is remembered how far the client was told.
_REMEMBERED: Final = 2_000


class CloseCode(IntEnum):
    """Why a connection is ended: 4000 and HTTP's status."""

    NOT_AUTHENTICATED = 4401
    IDLE = 4408
    TOO_MANY_MESSAGES = 4429
    TOO_MANY_CONNECTIONS = 4429


class Listener:
    """One client: who it is, what it watches, and what waits to be sent to it."""

    def __init__(self) -> None:
        self.outbox = SendQueue()
        self.identity: Identity | None = None
        self.keys: set[Key] = set()
        self.heard_at = time.monotonic()
        self._expiry: asyncio.TimerHandle | None = None
        self._sequences: dict[str, int] = {}

    def sign_in(self, identity: Identity) -> None:
        """Until the token or session expires."""
        self.sign_out()
        self.identity = identity
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(max(0, identity.seconds_left), self.outbox.close, CloseCode.NOT_AUTHENTICATED)

    def sign_out(self) -> None:
        """It is nobody's any more, so no timer holds on to it."""
        self.identity = None
        if self._expiry is not None:
            self._expiry.cancel()

    def frame(self, update: Update) -> str:
        """The update as this client gets it."""
        return update.text

    def deliver(self, update: Update) -> None:
        """Send it, unless the client has that state or a later one: a status does not go backwards."""
        if self.note(update.request_id, update.sequence):
            self.outbox.put(self.frame(update))

    def note(self, request_id: str, sequence: int) -> bool:
        """Remember that the client is told this state. Returns whether it is news to it."""
        if sequence <= self._sequences.get(request_id, 0):
            return False
        self._sequences.pop(request_id, None)
        self._sequences[request_id] = sequence
        if len(self._sequences) > _REMEMBERED:
            del self._sequences[next(iter(self._sequences))]
        return True
