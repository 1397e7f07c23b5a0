"""Rate limit of a client's messages. Each id of a list counts as one message."""

from __future__ import annotations

import time
from typing import Final

from generation.realtime.client import MAX_SUBSCRIPTIONS

#: Sustained messages per second.
RATE: Final = 60
#: Messages allowed at once: enough to replace all subscriptions by others, or to subscribe to all again after a
#: reconnect.
BURST: Final = 2 * MAX_SUBSCRIPTIONS + RATE
#: Rejected messages, without a quiet second in between, after which the connection is closed.
MOST_REFUSED: Final = 2 * RATE


class MessageRate:
    """A token bucket. ``refused`` counts the messages over the rate since the last quiet second."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._at = time.monotonic()
        self.refused = 0

    def take(self, count: int = 1) -> bool:
        """Return whether ``count`` more messages are within the rate, and count them if so."""
        now = time.monotonic()
        self._left = min(BURST, self._left + (now - self._at) * RATE)
        self._at = now
        if self._left >= RATE:
            self.refused = 0
        if self._left >= count:
            self._left -= count
            return True
        self.refused += 1
        return False
