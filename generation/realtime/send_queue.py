"""What waits to be sent to one client: bounded, so that who does not read costs no more than this."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

#: Past this a client is too slow. Texts of updates are shared between clients, so most of the bytes are counted often
#: and held once.
MOST_MESSAGES: Final = 1_000
MOST_BYTES: Final = 1024 * 1024
#: Seconds for which one message may wait for the client to read. Then its connection ends without a good-bye.
PATIENCE: Final = 20
#: Close code of the WebSocket registry: Try Again Later.
TRY_AGAIN_LATER: Final = 1013


class Closed(Exception):  # noqa: N818  an end and not an error
    """Nothing more is to be sent; ``code`` says why, as WebSocket close codes do, and ``reason`` in words."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code)
        self.code, self.reason = code, reason


class SendQueue:
    """A queue of texts whose reader is the one task that sends them."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._taken = asyncio.Event()
        self._code = 0
        self._reason = ""

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is taken."""
        return self._code != 0

    def put(self, text: str) -> None:
        """Send it after what waits. Never blocks: where too much waits, all of it is dropped and the client closed."""
        if self._code:
            return
        # Asked before it is added, so that one large snapshot goes to whoever reads.
        if len(self._texts) >= MOST_MESSAGES or self._bytes > MOST_BYTES:
            self._texts.clear()
            self.close(TRY_AGAIN_LATER)
            return
        self._texts.append(text)
        self._bytes += len(text)
        self._news.set()

    def close(self, code: int, reason: str = "") -> None:
        """Send what waits and nothing after it. The first reason counts."""
        if not self._code:
            self._code, self._reason = code, reason
        self._news.set()
        self._taken.set()

    async def room(self) -> None:
        """Return once less than half of the bounds is used, or it is closed: for what is sent because the client asked,
        and can be looked up as late as it reads."""
        while not self._code and (len(self._texts) > MOST_MESSAGES // 2 or self._bytes > MOST_BYTES // 2):
            self._taken.clear()
            await self._taken.wait()

    async def get(self) -> str:
        """The next text. Raises :class:`Closed` once there is none and will be none."""
        while not self._texts:
            if self._code:
                raise Closed(self._code, self._reason)
            self._news.clear()
            await self._news.wait()
        text = self._texts.popleft()
        self._bytes -= len(text)
        self._taken.set()
        return text
