"""What was read some seconds ago and holds a while longer. Nobody waits for somebody else while holding a connection to
the database: where connections are scarce, the other one may need just that."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, ParamSpec, Protocol, TypeVar

from cachetools import TTLCache, cached
from django.db import connection

from generation import background

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)

#: What is made in less than so many seconds is made while somebody waits for it.
_QUICK: Final = 0.01
#: What takes long holds for so many times as long as it took, so that the database is not busy with it alone.
_REST: Final = 100
#: From one time to the next it does not come to take longer than so many times as long.
_MOST_GROWTH: Final = 2
#: What is this many times older than it should be is not shown to anybody any more.
_TOO_OLD: Final = 6


@dataclass(frozen=True, slots=True)
class _Made(Generic[T]):
    value: T
    at: float
    took: float


class Remembered(Generic[T]):
    """What a function without arguments returned, for some seconds. One thread at a time makes it anew; where that
    takes long, nobody waits for it but who asks first, or after nobody has asked for long."""

    def __init__(self, make: Callable[[], T], seconds: float) -> None:
        self._make = make
        self._seconds = seconds
        self._lock = threading.Lock()
        self._made: _Made[T] | None = None
        self.__doc__ = make.__doc__

    def __call__(self) -> T:
        made = self._made
        if made and self._age(made) < 1:
            return made.value
        if made and made.took > _QUICK and self._age(made) < _TOO_OLD:
            self._begin_anew()
            return made.value
        if not self._lock.acquire(blocking=False):
            if connection.in_atomic_block:
                return self._anew()
            connection.close()
            self._lock.acquire()
        try:
            made = self._made  # somebody may have made it meanwhile
            return made.value if made and self._age(made) < 1 else self._anew()
        finally:
            self._lock.release()

    def cache_clear(self) -> None:
        """Make it anew at the next question."""
        self._made = None

    def _age(self, made: _Made[T]) -> float:
        """1 is as old as it may be."""
        return (time.monotonic() - made.at) / max(self._seconds, _REST * made.took)

    def _anew(self) -> T:
        before, began = self._made, time.monotonic()
        value = self._make()
        now = time.monotonic()
        # An outage of some seconds must not pass for the time that it takes, or the figure would hold for an hour.
        took = min(now - began, _MOST_GROWTH * before.took) if before else now - began
        self._made = _Made(value, now, took)
        return value

    def _begin_anew(self) -> None:
        if not self._lock.acquire(blocking=False):
            return  # somebody is at it
        try:
            background.beside(self._in_background)
        except BaseException:
            self._lock.release()
            raise

    def _in_background(self) -> None:
        try:
            self._anew()
        except Exception as error:  # what there is holds a while longer, and then whoever asks hears of it
            logger.warning("%s could not be made anew: %s", self._make.__name__, error)
        finally:
            self._lock.release()
            connection.close()


def remembered(seconds: float) -> Callable[[Callable[[], T]], Remembered[T]]:
    """Remember what the function returns for so many seconds, or 100 times as long as it took where that is more."""
    return lambda make: Remembered(make, seconds)


class Brief(Protocol[P, R_co]):
    """A function whose answers are remembered."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def cache_clear(self) -> None:
        """Ask anew at the next question."""


def briefly(seconds: float, most: int = 1) -> Callable[[Callable[P, T]], Brief[P, T]]:
    """Remember what the function returned for so many seconds, of at most so many arguments: for what is quickly read.
    Whoever comes when it is over reads it, even where others are just reading it as well."""
    return cached(TTLCache(most, seconds), lock=threading.Lock())
