"""How many calls of a provider may begin in a time, counted in Redis over all workers."""

from __future__ import annotations

import logging
import time
from typing import Final

from limits import RateLimitItemPerSecond
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

#: Redis answers sooner, or the rate is not kept: the provider itself still keeps it, and says so.
_PATIENCE: Final = 0.5
#: After a failure, for how many seconds Redis is not asked.
_PAUSE_AFTER_FAILURE: Final = 10.0
#: Before another try where the window does not say when it has room.
_SHORTEST_WAIT: Final = 0.05


class RateLimiter:
    """A moving window for each provider."""

    def __init__(self, redis_url: str) -> None:
        storage = RedisStorage(redis_url, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE)
        self._windows = MovingWindowRateLimiter(storage)
        self._away_until = float("-inf")

    def take(self, provider: str, *, calls: int, per_seconds: int) -> float:
        """Take one of so many calls in so many seconds. Returns 0, or after how many seconds there is one again.
        Without Redis nothing is counted."""
        if time.monotonic() < self._away_until:
            return 0.0
        rate = RateLimitItemPerSecond(calls, per_seconds)
        try:
            if self._windows.hit(rate, "vga", "provider", provider):
                return 0.0
            oldest = self._windows.get_window_stats(rate, "vga", "provider", provider).reset_time
        except RedisError as error:
            self._away_until = time.monotonic() + _PAUSE_AFTER_FAILURE
            logger.warning("the rate of %s is not counted at the moment: %s", provider, error)
            return 0.0
        return max(oldest - time.time(), _SHORTEST_WAIT)
