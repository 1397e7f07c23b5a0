"""Rate limits for users and addresses, with django-ratelimit on the shared cache.

django-ratelimit adds 1 to one counter after the other. Here a call adds its cost, so a batch counts its items, and all
counters take one round trip. If Redis is unavailable, each process counts in its own memory: the limit is then exceeded
at most by the number of processes.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from django.conf import settings
from django.core.cache import DEFAULT_CACHE_ALIAS, caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from django.http import HttpRequest
from django.utils.functional import cached_property
from django_ratelimit.core import get_usage
from redis.exceptions import RedisError
from rest_framework import status
from rest_framework.exceptions import APIException

from generation import identifiers
from generation.access.client_address import client_address
from generation.caching import Cooldown

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Add the cost to all counters if none of them then exceeds its limit. Returns the values with the cost.
_CONSUME: Final = """
local cost = tonumber(ARGV[1])
local counts, accepted = {}, true
for i, key in ipairs(KEYS) do
    counts[i] = (tonumber(redis.call('GET', key)) or 0) + cost
    accepted = accepted and counts[i] <= tonumber(ARGV[2 * i])
end
if accepted then
    for i, key in ipairs(KEYS) do
        if redis.call('INCRBY', key, cost) == cost then
            redis.call('EXPIRE', key, ARGV[2 * i + 1])
        end
    end
end
return counts
"""
#: A rate such as ``100/15m`` (s, m, h, d).
RATE: Final = re.compile(r"[1-9][0-9]{0,8}/(?:[1-9][0-9]{0,4})?[smhd]")
#: All addresses together may fail to sign in with one name this many times as often as one address.
NAME_FACTOR: Final = 20
#: Seconds for which a sign-in makes its address familiar for the name.
_FAMILIAR_FOR: Final = 90 * 24 * 3600


class RateExceeded(APIException):
    """The rate limit is exceeded. Its headers name the limit and the time to wait."""

    status_code = status.HTTP_429_TOO_MANY_REQUESTS
    default_detail = "Too many requests"
    default_code = "rate_limited"

    def __init__(self, usage: dict[str, int]) -> None:
        super().__init__()
        wait = str(max(1, usage["time_left"]))
        self.headers = {
            "Retry-After": wait,
            "RateLimit-Limit": str(usage["limit"]),
            "RateLimit-Remaining": str(max(0, usage["limit"] - usage["count"])),
            "RateLimit-Reset": wait,
        }


class Counter(NamedTuple):
    """A counter by its key in the cache, and the seconds for which it is kept."""

    key: str
    lifetime: int


class CountingCache(RedisCache):
    """Redis cache that records which counter django-ratelimit would increment, and for how long it is kept. The caller
    then increments all counters in one round trip; without Redis they are counted in this process."""

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._here = LocMemCache("rate-limits", params)
        self._cooldown = Cooldown()
        self._lifetime = 0
        #: The counter that django-ratelimit would have incremented. Each thread has its own cache object.
        self.named = Counter("", 0)

    @cached_property
    def _redis(self) -> Any:
        return self._cache.get_client(write=True)  # Django creates a new one for each command

    def add(self, key: Any, value: Any, timeout: Any = 300, version: Any = None) -> bool:
        self._lifetime = timeout
        return False

    def incr(self, key: Any, delta: int = 1, version: Any = None) -> int:
        self.named = Counter(self.make_and_validate_key(key, version), self._lifetime)
        return 0

    @cached_property
    def _consume(self) -> Any:
        return self._redis.register_script(_CONSUME)

    def consume(self, limits: Mapping[Counter, int], cost: int) -> list[int]:
        """Add the cost to each counter if none of them then exceeds its limit. Return their values with the cost."""

        def in_redis() -> list[int]:
            arguments = [text for counter, limit in limits.items() for text in (limit, counter.lifetime)]
            return [int(value) for value in self._consume([counter.key for counter in limits], [cost, *arguments])]

        def in_process() -> list[int]:
            for counter in limits:
                self._here.add(counter.key, 0, counter.lifetime)
            counts = [int(self._here.incr(counter.key, cost)) for counter in limits]
            if any(count > limit for count, limit in zip(counts, limits.values(), strict=True)):
                for counter in limits:
                    self._here.decr(counter.key, cost)
            return counts

        return self._try(in_redis, in_process)

    def refund(self, counter: Counter, cost: int) -> None:
        """Subtract the cost from the counter if it still exists."""

        def in_redis() -> None:
            if self._redis.exists(counter.key):
                self._consume([counter.key], [-cost, "inf", counter.lifetime])

        def in_process() -> None:
            if counter.key in self._here:
                self._here.decr(counter.key, cost)

        self._try(in_redis, in_process)

    def remember(self, mark: Counter) -> None:
        """Set the mark for its lifetime from now on."""
        self._try(
            lambda: self._redis.set(mark.key, 1, ex=mark.lifetime), lambda: self._here.set(mark.key, 1, mark.lifetime)
        )

    def knows(self, mark: Counter) -> bool:
        """Return whether the mark is set."""
        return self._try(lambda: bool(self._redis.exists(mark.key)), lambda: mark.key in self._here)

    def _try(self, in_redis: Callable[[], T], in_process: Callable[[], T]) -> T:
        if not self._cooldown.is_active():
            try:
                return in_redis()
            except RedisError as error:
                self._cooldown.start()
                # A server that became a replica keeps its connections; a new one looks the name up again.
                self._redis.connection_pool.disconnect()
                logger.warning("the cache is unavailable, rates are counted in this process: %s", error)
        return in_process()


class Limit(NamedTuple):
    """A rate for one kind of caller, such as ``user``, and its ``value``, such as the user's id."""

    name: str
    value: str
    rate: str


def consume(request: HttpRequest, group: str, *rates: Limit, cost: int = 1) -> dict[str, int]:
    """Count the call against each of the limits, and return the usage with the least left. Raises
    :class:`RateExceeded`; then nothing is counted."""
    usages, counters = zip(*(_counter(request, group, rate) for rate in rates), strict=True)
    limits = {counter: usage["limit"] for counter, usage in zip(counters, usages, strict=True)}
    counts = _cache().consume(limits, cost)
    for usage, count in zip(usages, counts, strict=True):
        if count > usage["limit"]:
            raise RateExceeded(usage | {"count": count - cost})
    now = [usage | {"count": count} for usage, count in zip(usages, counts, strict=True)]
    return min(now, key=lambda usage: usage["limit"] - usage["count"])


def _cache() -> Any:
    return caches[DEFAULT_CACHE_ALIAS]


def _counter(request: HttpRequest, group: str, limit: Limit) -> tuple[dict[str, int], Counter]:
    usage = get_usage(
        request, group=f"{group}:{limit.name}", key=lambda *_: limit.value, rate=limit.rate, increment=True
    )
    return usage, _cache().named


# --- Sign-in ----------------------------------------------------------------------------------------------------------


def limit_sign_in(request: HttpRequest, username: str) -> None:
    """Count an attempt to sign in, by token or on the pages. Raises :class:`RateExceeded`.

    The limit is per address: a limit per name would let a stranger lock the owner of the name out. Against guesses from
    many addresses a name has a limit over all of them, ``NAME_FACTOR`` times as high. It counts failures only, and it
    does not apply at an address where the name has signed in before.
    """
    consume(request, "token", Limit("address", client_address(request), settings.TOKEN_RATE))
    if not _cache().knows(_familiar(request, username)):
        consume(request, "token", _limit_of_name(username))


def remember_sign_in(request: HttpRequest, username: str) -> None:
    """Take back what :func:`limit_sign_in` counted for the name, and remember the address: the password was right."""
    familiar = _familiar(request, username)
    if not _cache().knows(familiar):
        _, counter = _counter(request, "token", _limit_of_name(username))
        _cache().refund(counter, 1)
    _cache().remember(familiar)


def _limit_of_name(username: str) -> Limit:
    limit, _, period = settings.TOKEN_RATE.partition("/")
    return Limit("username", identifiers.user_key(username), f"{int(limit) * NAME_FACTOR}/{period}")


def _familiar(request: HttpRequest, username: str) -> Counter:
    who = f"{identifiers.user_key(username)}\n{client_address(request)}"
    key = _cache().make_key(f"signed-in:{hashlib.sha256(who.encode('utf-8', 'replace')).hexdigest()}")
    return Counter(key, _FAMILIAR_FOR)
