"""The bounded queue of messages to one client, so that a client that does not read cannot exhaust the memory."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

#: Past these bounds a client is too slow. The texts of updates are shared between clients, so most bytes are counted
#: several times and stored once.
MOST_MESSAGES: Final = 1_000
MOST_BYTES: Final = 1024 * 1024
#: Seconds for which one message may wait for the client to read. After that the connection ends without a close frame.
SEND_TIMEOUT: Final = 20
#: Close code of the WebSocket registry: Try Again Later.
TRY_AGAIN_LATER: Final = 1013


class Closed(Exception):  # noqa: N818  an end and not an error
    """The queue is closed and empty; ``code`` is a WebSocket close code, and ``reason`` its text."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code)
        self.code, self.reason = code, reason


class SendQueue:
    """A queue of texts with a single reader: the task that sends them."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque()
        self._bytes = 0
        self._readable = asyncio.Event()
        self._drained = asyncio.Event()
        self._code = 0
        self._reason = ""

    @property
    def is_closed(self) -> bool:
        """Return whether further texts are ignored."""
        return self._code != 0

    def put(self, text: str) -> None:
        """Append a text, without blocking. If the queue is full, clear it and close the connection."""
        if self._code:
            return
        # Checked before the text is added, so that a single large snapshot reaches a client that reads.
        if len(self._texts) >= MOST_MESSAGES or self._bytes > MOST_BYTES:
            self._texts.clear()
            self.close(TRY_AGAIN_LATER)
            return
        self._texts.append(text)
        self._bytes += len(text)
        self._readable.set()

    def offer(self, text: str) -> None:
        """Append a text that may be lost, unless more than half of the bounds is used."""
        if not self._is_half_full():
            self.put(text)

    def _is_half_full(self) -> bool:
        return len(self._texts) > MOST_MESSAGES // 2 or self._bytes > MOST_BYTES // 2

    def close(self, code: int, reason: str = "") -> None:
        """Close the connection after the queued texts. The first call's code and reason are used."""
        if not self._code:
            self._code, self._reason = code, reason
        self._readable.set()
        self._drained.set()

    async def wait_for_capacity(self) -> None:
        """Return once at most half of the bounds is used, or the queue is closed.

        For data that the client requested, so that it is queried only as fast as the client reads.
        """
        while not self._code and self._is_half_full():
            self._drained.clear()
            await self._drained.wait()

    async def get(self) -> str:
        """Return the next text. Raises :class:`Closed` if the queue is closed and empty."""
        while not self._texts:
            if self._code:
                raise Closed(self._code, self._reason)
            self._readable.clear()
            await self._readable.wait()
        text = self._texts.popleft()
        self._bytes -= len(text)
        self._drained.set()
        return text
