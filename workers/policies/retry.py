"""The delay before another attempt."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

#: Maximum delay, also if a provider asks for a longer one.
LONGEST_DELAY: Final = timedelta(minutes=10)
#: Each delay is extended by up to this share at random, so that requests that failed together are not retried together.
_JITTER: Final = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """Exponential backoff: ``base`` before the second attempt, twice as long before each further one."""

    base: timedelta

    def delay(self, attempt: int, *, retry_after: float | None = None, spread: float | None = None) -> timedelta:
        """Return the delay after the attempt of this number, from 1. ``retry_after`` is the provider's minimum in
        seconds; ``spread`` is from 0 to 1, and random unless given."""
        exponent = min(attempt - 1, 30)  # avoids overflow; every base has reached the longest delay by then
        backoff: timedelta = self.base * 2**exponent
        share = random.random() if spread is None else spread  # noqa: S311  not for security
        delay = backoff * (1 + _JITTER * share)
        if retry_after is not None and retry_after > 0:
            delay = max(delay, timedelta(seconds=min(retry_after, LONGEST_DELAY.total_seconds())))
        return min(delay, LONGEST_DELAY)
