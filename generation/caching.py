"""Answers that are read so often that they may be a second or two old."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from cachetools import TTLCache, cached

P = ParamSpec("P")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class Brief(Protocol[P, R_co]):
    """A function whose answers are remembered."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def cache_clear(self) -> None:
        """Ask anew at the next question."""


def briefly(seconds: float, most: int = 1) -> Callable[[Callable[P, T]], Brief[P, T]]:
    """Remember what the function returned for so many seconds, of at most so many arguments: for what is quickly read.
    Whoever comes when it is over reads it, even where others are just reading it as well."""
    return cached(TTLCache(most, seconds), lock=threading.Lock())
