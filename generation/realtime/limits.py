"""How many messages a client may send."""

from __future__ import annotations

import time
from typing import Final

#: Messages in a second, and how many may come at once after a quiet one.
RATE: Final = 60
#: Messages over the rate, with no quiet second in between, after which the connection is ended.
MOST_REFUSED: Final = 2 * RATE


class MessageRate:
    """A token bucket. ``refused`` is how many messages were over the rate since it was last full."""

    def __init__(self) -> None:
        self._left = float(RATE)
        self._at = time.monotonic()
        self.refused = 0

    def take(self) -> bool:
        """Whether one more message is within the rate."""
        now = time.monotonic()
        self._left = min(RATE, self._left + (now - self._at) * RATE)
        self._at = now
        if self._left >= RATE:
            self.refused = 0
        if self._left >= 1:
            self._left -= 1
            return True
        self.refused += 1
        return False
