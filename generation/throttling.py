"""How much one user and one address may ask for, with django-ratelimit on the shared cache.

django-ratelimit counts calls. Here a call counts what it costs, so that a batch counts its items, and a cache that is
away is stood in for by one in the process: then each process counts for itself, which is more than allowed but bounded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from django.conf import settings
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from django.http import HttpRequest
from django.utils.functional import cached_property
from django_ratelimit.core import get_usage
from redis.exceptions import RedisError
from rest_framework import status
from rest_framework.exceptions import APIException

from generation.addresses import client_address

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds in which a cache that failed is not asked again.
_PAUSE_AFTER_FAILURE: Final = 10.0
_cost: ContextVar[int] = ContextVar("cost", default=1)


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


class CountingCache(RedisCache):
    """Redis for django-ratelimit: an increment counts what the call costs, and without Redis it is counted here."""

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._here = LocMemCache("rate-limits", params)
        self._away_until = 0.0
        self._lifetime = 0

    @cached_property
    def _redis(self) -> Any:
        return self._cache.get_client(write=True)  # django makes a new one for each command

    def add(self, key: Any, value: Any, timeout: Any = 300, version: Any = None) -> bool:
        # The increment that follows counts and tells the sum, and begins the counter as well, in the same round trip.
        # Where there is no counter, nothing is given back.
        self._lifetime = timeout
        return _cost.get() < 0 and not self._try(lambda: self.has_key(key, version), lambda: key in self._here)

    def incr(self, key: Any, delta: int = 1, version: Any = None) -> int:
        cost = delta * _cost.get()
        name = self.make_and_validate_key(key, version)

        def there() -> int:
            with self._redis.pipeline(transaction=False) as both:
                both.set(name, 0, ex=self._lifetime, nx=True)
                both.incrby(name, cost)
                return int(both.execute()[-1])

        def here() -> int:
            self._here.add(key, 0, self._lifetime)
            return int(self._here.incr(key, cost))

        return self._try(there, here)

    def _try(self, there: Callable[[], T], here: Callable[[], T]) -> T:
        if time.monotonic() >= self._away_until:
            try:
                return there()
            except RedisError as error:
                self._away_until = time.monotonic() + _PAUSE_AFTER_FAILURE
                logger.warning("the cache is away, rates are counted in this process: %s", error)
        return here()


def spend(request: HttpRequest, group: str, rate: str, *, cost: int = 1, **keys: str) -> None:
    """Count the call against each key (a name → a value). Raises :class:`RateExceeded`; then nothing was counted."""
    counted: list[tuple[str, str]] = []
    for name, value in keys.items():
        usage = _count(request, f"{group}:{name}", rate, value, cost)
        counted.append((name, value))
        if usage["should_limit"]:
            for name_before, value_before in counted:
                _count(request, f"{group}:{name_before}", rate, value_before, -cost)
            raise RateExceeded(usage | {"count": usage["count"] - cost})


def count_sign_in(request: HttpRequest, username: str) -> None:
    """Count an attempt to sign in, by token or on the pages, for the name and the address. Raises
    :class:`RateExceeded`."""
    spend(request, "token", settings.TOKEN_RATE, address=client_address(request), username=username.lower())


def _count(request: HttpRequest, group: str, rate: str, value: str, cost: int) -> dict[str, int]:
    with _costing(cost):
        usage: dict[str, int] = get_usage(request, group=group, key=lambda *_: value, rate=rate, increment=True)
    return usage


@contextmanager
def _costing(cost: int) -> Iterator[None]:
    token = _cost.set(cost)
    try:
        yield
    finally:
        _cost.reset(token)
