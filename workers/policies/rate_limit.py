"""Rate limits of providers: a sliding window in Redis, shared by all workers."""

from __future__ import annotations

import logging
from typing import Any, Final
from uuid import uuid4

from redis import Redis
from redis.exceptions import RedisError

from generation.caching import Cooldown

logger = logging.getLogger(__name__)

#: Time limit of Redis in seconds. Past it, the call begins unlimited; the provider still enforces its own rate limit.
_TIMEOUT: Final = 0.5
#: Minimum wait in seconds.
_SHORTEST_WAIT: Final = 0.05
#: A sorted set has one member for each call, scored by its time. It is the server's time, so that a worker with a wrong
#: clock neither blocks the others nor exceeds the limit. Returns 0 if the call may begin, else microseconds to wait.
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
    """A sliding window for each provider."""

    def __init__(self, redis_url: str) -> None:
        redis = Redis.from_url(redis_url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT)
        self._take: Any = redis.register_script(_TAKE)
        self._cooldown = Cooldown()

    def take(self, provider: str, *, calls: int, per_seconds: int) -> float:
        """Count a call against the limit of ``calls`` in ``per_seconds``. Return 0 if it may begin, else the seconds to
        wait, at most the length of the window. If Redis is unavailable, return 0 without counting."""
        if self._cooldown.is_active():
            return 0.0
        try:
            arguments = [calls, per_seconds * 1_000_000, uuid4().hex]
            wait = int(self._take(keys=[f"vga:rate:{provider}"], args=arguments)) / 1_000_000
        except RedisError as error:
            self._cooldown.start()
            logger.warning("the rate limit of %s is not enforced at the moment: %s", provider, error)
            return 0.0
        return min(max(wait, _SHORTEST_WAIT), per_seconds) if wait else 0.0
