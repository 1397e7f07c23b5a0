"""Slices of each case that alternate with those of the others, of which the middle one counts.

What else the machine does for a moment then hits one slice of every case, and not every slice of one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final, TypeVar

T = TypeVar("T")

SLICES: Final = 5


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of a slice. ``p50``, ``p99`` and ``slowest`` are in ms."""

    calls: float
    seconds: float
    p50: float
    p99: float
    slowest: float

    @property
    def rate(self) -> float:
        """Calls in a second."""
        return self.calls / self.seconds


def in_turns(
    cases: Mapping[str, Callable[[], T]], *, slices: int, before_each: Callable[[], object] = lambda: None
) -> dict[str, list[T]]:
    """The slices of each case; ``before_each`` is called before every round."""
    taken: dict[str, list[T]] = {name: [] for name in cases}
    for _ in range(slices):
        before_each()
        for name, measure in cases.items():
            taken[name].append(measure())
    return taken


def middle(slices: Sequence[Measured]) -> Measured:
    """Of each column the middle one; of the calls and seconds those of the slice with the middle rate."""
    by_rate = sorted(slices, key=lambda one: one.rate)[len(slices) // 2]
    columns = [column.name for column in fields(Measured) if column.name not in {"calls", "seconds"}]
    times = {name: statistics.median(getattr(one, name) for one in slices) for name in columns}
    return Measured(calls=by_rate.calls, seconds=by_rate.seconds, **times)


def repeated(act: Callable[[], object], *, seconds: float) -> Measured:
    """Do it again and again for so long, one after the other."""
    taken: list[float] = []
    began = time.perf_counter()
    until = began + seconds
    while (now := time.perf_counter()) < until:
        act()
        taken.append((time.perf_counter() - now) * 1000)
    lasted = time.perf_counter() - began
    taken.sort()
    return Measured(
        calls=len(taken),
        seconds=lasted,
        p50=statistics.median(taken),
        p99=taken[int(len(taken) * 0.99)],
        slowest=taken[-1],
    )
