"""How long to wait before another attempt."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

#: However often it failed and whatever a provider says, nobody waits longer than this.
LONGEST_DELAY: Final = timedelta(minutes=10)
#: A delay is spread by up to this share, so that what failed together does not come back together.
_JITTER: Final = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """Exponential backoff: ``base`` before the second attempt, twice as long before each further one."""

    base: timedelta

    def delay(self, attempt: int, *, retry_after: float | None = None, spread: float | None = None) -> timedelta:
        """How long to wait after the attempt of this number, from 1. ``retry_after`` is in seconds; ``spread`` lies
        between 0 and 1 and is random unless given."""
        exponent = min(attempt - 1, 30)  # past this every base has reached the longest delay
        backoff: timedelta = self.base * 2**exponent
        chance = random.random() if spread is None else spread  # noqa: S311  spreads load, guards nothing
        wanted = backoff * (1 + _JITTER * chance)
        if retry_after is not None and retry_after > 0:
            wanted = max(wanted, timedelta(seconds=min(retry_after, LONGEST_DELAY.total_seconds())))
        return min(wanted, LONGEST_DELAY)
