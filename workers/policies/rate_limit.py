"""How many calls of a provider may begin in a time, counted in Redis over all workers."""

from __future__ import annotations

import logging
from typing import Any, Final
from uuid import uuid4

from redis import Redis
from redis.exceptions import RedisError

from generation.caching import Cooldown

logger = logging.getLogger(__name__)

#: Redis answers sooner, or the rate is not kept: the provider itself still keeps it, and says so.
_PATIENCE: Final = 0.5
#: Before another try where the window does not say when it has room.
_SHORTEST_WAIT: Final = 0.05
#: A sorted set holds one member for each call, by its time. That time is the server's, so that a worker whose clock is
#: wrong neither stops the others nor is let through. Returns 0 if the call may begin, else the microseconds to wait.
_TAKE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local calls, window = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf')
local taken = redis.call('ZCARD', KEYS[1])
if taken < calls then
    redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[3])
    redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
    return 0
end
local ends = redis.call('ZRANGE', KEYS[1], taken - calls, taken - calls, 'WITHSCORES')
return ends[2] + window - now
"""


class RateLimiter:
    """A moving window for each provider."""

    def __init__(self, redis_url: str) -> None:
        redis = Redis.from_url(redis_url, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE)
        self._take: Any = redis.register_script(_TAKE)
        self._cooldown = Cooldown()

    def take(self, provider: str, *, calls: int, per_seconds: int) -> float:
        """Take one of so many calls in so many seconds. Returns 0, or after how many seconds there is one again, at
        most those of the window. Without Redis nothing is counted."""
        if self._cooldown.is_active():
            return 0.0
        try:
            arguments = [calls, per_seconds * 1_000_000, uuid4().hex]
            wait = int(self._take(keys=[f"vga:rate:{provider}"], args=arguments)) / 1_000_000
        except RedisError as error:
            self._cooldown.start()
            logger.warning("the rate of %s is not counted at the moment: %s", provider, error)
            return 0.0
        return min(max(wait, _SHORTEST_WAIT), per_seconds) if wait else 0.0
