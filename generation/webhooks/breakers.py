"""A circuit breaker for each target of this process: a target that fails is probed by one delivery at a time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cachetools import LRUCache

from generation.webhooks.leases import Result

#: Failures in a row after which a target is probed.
_FAILURES: Final = 3
#: Seconds between two probes: the first pause, and the longest; each is twice the one before.
_FIRST_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 60.0
#: The most failing targets that are known.
_MOST_TARGETS: Final = 10_000


@dataclass(slots=True)
class _Breaker:
    failures: int = 0
    open_until: float = 0.0

    @property
    def is_open(self) -> bool:
        return self.failures >= _FAILURES


class Breakers:
    """The targets whose last attempt failed, and those that are being tried again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._breakers: LRUCache[str, _Breaker] = LRUCache(_MOST_TARGETS)
        #: The deliveries that are being sent to each target, also to those that have not failed.
        self._sending: Counter[str] = Counter()

    def begin(self, target: str) -> None:
        """A delivery to the target is being sent."""
        self._sending[target] += 1

    def end(self, target: str, result: Result) -> None:
        """A delivery to the target has ended. One that could not be sent says nothing about the target."""
        self._sending[target] -= 1
        if self._sending[target] <= 0:
            del self._sending[target]
        if result.was_interrupted or result.leased.error:
            return
        if result.has_succeeded:
            self._breakers.pop(target, None)
            return
        breaker = self._breakers.get(target) or _Breaker()
        breaker.failures += 1
        if breaker.is_open:
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(breaker.failures - _FAILURES, 10))
            breaker.open_until = self._clock() + pause
        self._breakers[target] = breaker

    def is_suspect(self, target: str) -> bool:
        """Return whether the last attempt of the target failed."""
        return target in self._breakers

    def is_blocked(self, target: str) -> bool:
        """Return whether the target gets no delivery at the moment, or no second one."""
        breaker = self._breakers.get(target)
        return breaker is not None and breaker.is_open and self._is_waiting(target, breaker)

    def _is_waiting(self, target: str, breaker: _Breaker) -> bool:
        return breaker.open_until > self._clock() or self._sending[target] > 0

    def lists(self) -> tuple[list[str], list[str], list[str]]:
        """Return the targets whose last attempt failed, and of them those that are probed now, and those that get no
        delivery at the moment."""
        suspects: list[str] = []
        probed: list[str] = []
        blocked: list[str] = []
        for target, breaker in list(self._breakers.items()):
            suspects.append(target)
            if breaker.is_open:
                (blocked if self._is_waiting(target, breaker) else probed).append(target)
        return suspects, probed, blocked
