"""Recent durations of requests and occupancy of worker slots, for estimates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from generation.caching import ttl_cache
from generation.db import queries
from generation.db.execution import fetch_all
from generation.states import AttemptOutcome

#: Seconds for which a process caches the figures.
_LIFETIME: Final = 15
#: Number of newest completed requests that are read, and of the newest of a group that are used.
_NEWEST: Final = 2_000
_SAMPLE: Final = 200
#: Number of requests that suffices for the figures of a group; with fewer, those of a wider group are used.
ENOUGH: Final = 20


@dataclass(frozen=True, slots=True)
class Spread:
    """Quantiles, mean and standard deviation of durations in seconds."""

    p50: float
    p90: float
    mean: float
    deviation: float
    count: int = 0


#: Assumed while there is no measurement.
DEFAULT: Final = Spread(p50=30, p90=60, mean=30, deviation=15)


class Run(NamedTuple):
    """A completed request: its type, its model, whether images were sent with it, and the seconds from its first start
    to its image."""

    type: str
    model: str
    with_images: bool
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """The measured durations. ``occupancy`` is how long a start holds a slot, whatever its outcome."""

    by_model: Mapping[tuple[str, str, bool], Spread] = field(default_factory=dict)
    by_type: Mapping[str, Spread] = field(default_factory=dict)
    of_all: Spread = DEFAULT
    occupancy: Spread = DEFAULT

    def duration(self, type_: str, model: str, *, with_images: bool) -> Spread:
        """Return the durations of the narrowest group that has enough requests."""
        for spread in (self.by_model.get((type_, model, with_images)), self.by_type.get(type_)):
            if spread is not None and spread.count >= ENOUGH:
                return spread
        return self.of_all

    def is_measured(self, type_: str) -> bool:
        """Return whether there are enough requests of this type."""
        spread = self.by_type.get(type_)
        return spread is not None and spread.count >= ENOUGH


def spread(seconds: Sequence[float]) -> Spread:
    """Return the spread of durations, of which there is at least one."""
    ordered, count = sorted(seconds), len(seconds)
    mean = math.fsum(ordered) / count
    variance = math.fsum((value - mean) ** 2 for value in ordered) / count
    return Spread(
        p50=quantile(ordered, 0.5), p90=quantile(ordered, 0.9), mean=mean, deviation=math.sqrt(variance), count=count
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the quantile of values in ascending order, interpolated."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def figures_of(runs: Iterable[Run], occupancies: Sequence[float]) -> Figures:
    """Return the figures of completed requests, the newest first, and of all starts."""
    by_model: dict[tuple[str, str, bool], list[float]] = {}
    by_type: dict[str, list[float]] = {}
    of_all: list[float] = []
    for run in runs:
        for group in (by_model.setdefault(run[:3], []), by_type.setdefault(run.type, []), of_all):
            if len(group) < _SAMPLE:
                group.append(run.seconds)
    return Figures(
        by_model={key: spread(seconds) for key, seconds in by_model.items()},
        by_type={type_: spread(seconds) for type_, seconds in by_type.items()},
        of_all=spread(of_all) if of_all else DEFAULT,
        occupancy=spread(occupancies) if occupancies else DEFAULT,
    )


@ttl_cache(seconds=_LIFETIME)
def recent() -> Figures:
    """Return the figures of the newest requests, cached for seconds."""
    return read()


def read() -> Figures:
    """Return the figures of the newest requests."""
    runs: list[Run] = []
    occupancies: list[float] = []
    first_starts: dict[str, float] = {}
    for row in fetch_all(queries.DURATIONS, {"newest": _NEWEST}):
        attempt = _Attempt(*row)
        started = first_starts.setdefault(attempt.request, attempt.started_before)
        if attempt.outcome != AttemptOutcome.ABANDONED or attempt.was_called:
            occupancies.append(attempt.seconds)
        if attempt.outcome == AttemptOutcome.SUCCEEDED:
            runs.append(Run(attempt.type, attempt.model, attempt.with_images, started))
    return figures_of(runs, occupancies)


class _Attempt(NamedTuple):
    """A row of ``DURATIONS``. ``started_before`` is how long before the end of its request it started, in seconds."""

    request: str
    type: str
    with_images: bool
    model: str
    outcome: str
    was_called: bool
    seconds: float
    started_before: float
