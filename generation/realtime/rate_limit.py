"""How many messages a client may send. Each id of a list counts as a message of its own."""

from __future__ import annotations

import time
from typing import Final

from generation.realtime.client import MAX_SUBSCRIPTIONS

#: Messages in a second, of a client that goes on sending.
RATE: Final = 60
#: Messages that may come at once: enough to leave all subscriptions for as many others, or to subscribe to all again
#: after a reconnect.
BURST: Final = 2 * MAX_SUBSCRIPTIONS + RATE
#: Messages over the rate, with no quiet second in between, after which the connection is ended.
MOST_REFUSED: Final = 2 * RATE


class MessageRate:
    """A token bucket. ``refused`` is how many messages were over the rate since a quiet second."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._at = time.monotonic()
        self.refused = 0

    def take(self, count: int = 1) -> bool:
        """Return whether so many more messages are within the rate."""
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
