"""Caches of this process: answers that may be a few seconds old, and services that failed a moment ago."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, ParamSpec, Protocol, TypeVar
from weakref import WeakSet

from cachetools import TTLCache, cached

P = ParamSpec("P")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class Clearable(Protocol):
    """A cache that :func:`clear_all` clears."""

    def cache_clear(self) -> None:
        """Forget what is cached."""


class CachedFunction(Clearable, Protocol[P, R_co]):
    """A function whose results are cached."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


_registry: Final[WeakSet[Clearable]] = WeakSet()


def register(cache: Clearable) -> None:
    """Have :func:`clear_all` clear it, for as long as it exists."""
    _registry.add(cache)


class Cooldown:
    """A service that failed is not called again for some seconds, so that its callers answer fast meanwhile."""

    #: Seconds that are usual for a service in the same network.
    SECONDS: Final = 10.0

    def __init__(self) -> None:
        self.cache_clear()
        register(self)

    def start(self) -> None:
        """The service failed just now."""
        self._ends_at = time.monotonic() + self.SECONDS

    def is_active(self) -> bool:
        """Return whether the service failed within the last seconds."""
        return time.monotonic() < self._ends_at

    def cache_clear(self) -> None:
        """Call the service again at the next use."""
        self._ends_at = float("-inf")


def ttl_cache(seconds: float, maxsize: int = 1) -> Callable[[Callable[P, T]], CachedFunction[P, T]]:
    """Cache the function's results for so many seconds, for at most so many different arguments.

    For what is quickly read: after the time is over each caller reads it, also while another thread is reading it.
    """

    def decorate(function: Callable[P, T]) -> CachedFunction[P, T]:
        decorated: CachedFunction[P, T] = cached(TTLCache(maxsize, seconds), lock=threading.Lock())(function)
        register(decorated)
        return decorated

    return decorate


def clear_all() -> None:
    """Clear every cache of this process, and end every cooldown."""
    for cache in list(_registry):
        cache.cache_clear()
