"""How much one user and one address may ask for, with django-ratelimit on the shared cache.

django-ratelimit counts calls, one counter after the other. Here a call counts what it costs, so that a batch counts
its items; all counters are one round trip; and a cache that is away is stood in for by one in the process: then each
process counts for itself, which is more than allowed but bounded.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
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

#: How many times as often as one address all addresses together may fail to sign in with one name.
NAME_FACTOR: Final = 20
#: Seconds for which a sign-in makes an address familiar for its name.
_FAMILIAR_FOR: Final = 90 * 24 * 3600


class RateExceeded(APIException):
    """Too much in too short a time."""

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
    """Redis for django-ratelimit, which tells what it would count and how long that is kept. Whoever asked it counts
    then, all counters in one round trip; without Redis they are counted here."""

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._here = LocMemCache("rate-limits", params)
        self._cooldown = Cooldown()
        self._lifetime = 0
        #: What django-ratelimit would have raised. Each thread has a cache of its own.
        self.named = Counter("", 0)

    @cached_property
    def _redis(self) -> Any:
        return self._cache.get_client(write=True)  # django makes a new one for each command

    def add(self, key: Any, value: Any, timeout: Any = 300, version: Any = None) -> bool:
        self._lifetime = timeout
        return False

    def incr(self, key: Any, delta: int = 1, version: Any = None) -> int:
        self.named = Counter(self.make_and_validate_key(key, version), self._lifetime)
        return 0

    def increment_all(self, counters: Sequence[Counter], cost: int) -> list[int]:
        """Count so much with each, which begins where it is not there. Returns what they are at."""

        def there() -> list[int]:
            with self._redis.pipeline(transaction=False) as pipe:
                for counter in counters:
                    pipe.set(counter.key, 0, ex=counter.lifetime, nx=True)
                    pipe.incrby(counter.key, cost)
                return [int(value) for value in pipe.execute()[1::2]]

        def here() -> list[int]:
            for counter in counters:
                self._here.add(counter.key, 0, counter.lifetime)
            return [int(self._here.incr(counter.key, cost)) for counter in counters]

        return self._try(there, here)

    def give_back(self, counters: Sequence[Counter], cost: int) -> None:
        """Take so much from each that is still there."""

        def there() -> list[Counter]:
            return [counter for counter in counters if self._redis.exists(counter.key)]

        def here() -> list[Counter]:
            return [counter for counter in counters if counter.key in self._here]

        if left := self._try(there, here):
            self.increment_all(left, -cost)

    def remember(self, mark: Counter) -> None:
        """Note that this has happened, for the lifetime of the mark from now on."""
        self._try(
            lambda: self._redis.set(mark.key, 1, ex=mark.lifetime), lambda: self._here.set(mark.key, 1, mark.lifetime)
        )

    def knows(self, mark: Counter) -> bool:
        """Return whether this has happened within the lifetime of the mark."""
        return self._try(lambda: bool(self._redis.exists(mark.key)), lambda: mark.key in self._here)

    def _try(self, there: Callable[[], T], here: Callable[[], T]) -> T:
        if not self._cooldown.is_active():
            try:
                return there()
            except RedisError as error:
                self._cooldown.start()
                # A server that became a replica keeps its connections; a new one looks the name up again.
                self._redis.connection_pool.disconnect()
                logger.warning("the cache is away, rates are counted in this process: %s", error)
        return here()


def consume(request: HttpRequest, group: str, rate: str, *, cost: int = 1, **keys: str) -> None:
    """Count the call against each key (a name → a value). Raises :class:`RateExceeded`; then nothing was counted."""
    usages, counters = zip(*(_counter(request, group, rate, *key) for key in keys.items()), strict=True)
    counts = _cache().increment_all(counters, cost)
    for usage, count in zip(usages, counts, strict=True):
        if count > usage["limit"]:
            _cache().give_back(counters, cost)
            raise RateExceeded(usage | {"count": count - cost})


def _cache() -> Any:
    return caches[DEFAULT_CACHE_ALIAS]


def _counter(request: HttpRequest, group: str, rate: str, name: str, value: str) -> tuple[dict[str, int], Counter]:
    usage = get_usage(request, group=f"{group}:{name}", key=lambda *_: value, rate=rate, increment=True)
    return usage, _cache().named


# --- Sign-in ----------------------------------------------------------------------------------------------------------


def limit_sign_in(request: HttpRequest, username: str) -> None:
    """Count an attempt to sign in, by token or on the pages. Raises :class:`RateExceeded`.

    The limit is per address: a limit per name would let a stranger lock the owner of the name out. Against guesses from
    many addresses a name has a limit over all of them, ``NAME_FACTOR`` times as high. It counts failures only, and it
    does not apply at an address where the name has signed in before.
    """
    consume(request, "token", settings.TOKEN_RATE, address=client_address(request))
    if not _cache().knows(_familiar(request, username)):
        consume(request, "token", _rate_of_names(), username=identifiers.user_key(username))


def remember_sign_in(request: HttpRequest, username: str) -> None:
    """Take back what :func:`limit_sign_in` counted for the name, and remember the address: the password was right."""
    familiar = _familiar(request, username)
    if not _cache().knows(familiar):
        _, counter = _counter(request, "token", _rate_of_names(), "username", identifiers.user_key(username))
        _cache().give_back([counter], 1)
    _cache().remember(familiar)


def _rate_of_names() -> str:
    limit, _, period = settings.TOKEN_RATE.partition("/")
    return f"{int(limit) * NAME_FACTOR}/{period}"


def _familiar(request: HttpRequest, username: str) -> Counter:
    who = f"{identifiers.user_key(username)}\n{client_address(request)}"
    key = _cache().make_key(f"signed-in:{hashlib.sha256(who.encode('utf-8', 'replace')).hexdigest()}")
    return Counter(key, _FAMILIAR_FOR)
