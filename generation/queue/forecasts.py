"""Estimates of waits from figures. Pure functions, which ``tests/support/simulation.py`` checks with simulated days."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from generation.queue.figures import Spread, quantile

#: Standard deviations from the median of a normal distribution to its 90 % quantile.
_TO_P90: Final = 1.28
#: Relative standard deviation of a wait because of what happens later: other owners submit, and requests are retried.
_LATER: Final = 0.4
#: Measured waits that suffice for factors, the share of them that p90's factor covers, and the bounds of the factors.
#: The share is above 90 %, since waits of the same hour are alike and the next hour differs. Simulated days
#: showed which values cover 85 % to 95 %, whatever the load.
_ENOUGH: Final = 50
_COVERED: Final = 0.95
_BOUNDS: Final = (0.5, 3.0)
#: Seconds under which a wait counts as none.
NO_WAIT: Final = 1.0


class Start(NamedTuple):
    """The seconds until a request starts: exceeded with a chance of 50 % and of 10 %."""

    p50: float
    p90: float

    def at_least(self, seconds: float) -> Start:
        """Return the start of a request that cannot start before so many seconds."""
        return Start(max(self.p50, seconds), max(self.p90, seconds))


class Factors(NamedTuple):
    """What the quantiles of a start are multiplied by."""

    p50: float = 1.0
    p90: float = 1.0


class Measured(NamedTuple):
    """A start as it was estimated, as it was given to the client, and the seconds that it took."""

    estimated: Start
    given: Start
    seconds: float

    @property
    def counts(self) -> bool:
        """Whether the request had to wait. Those that start at once would hide wrong estimates of the others."""
        return self.seconds >= NO_WAIT or self.given.p50 >= NO_WAIT


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """An estimate as clients see it, in rounded seconds. ``basis`` is ``measured`` or ``default``."""

    start_p50: int
    start_p90: int
    done_p50: int
    done_p90: int
    basis: str

    def as_json(self) -> dict[str, Any]:
        """Return the estimate as clients see it."""
        return {
            "startP50": self.start_p50,
            "startP90": self.start_p90,
            "doneP50": self.done_p50,
            "doneP90": self.done_p90,
            "basis": self.basis,
        }


def start(ahead: int, *, slots: float, running: int, occupancy: Spread) -> Start:
    """Return the start of a request with so many requests ahead of it.

    Free slots take the first ones at once. The others start one by one as slots become free, which is every
    ``mean / slots`` seconds.
    """
    turn = ahead + 1 - max(0, math.floor(slots) - running)
    if turn <= 0:
        return Start(0, 0)
    interval = occupancy.mean / slots
    p50 = turn * interval
    deviation = math.hypot(occupancy.deviation * math.sqrt(turn) / slots, _LATER * p50)
    return Start(p50, p50 + _TO_P90 * deviation + interval)


def corrected(estimated: Start, factors: Factors) -> Start:
    """Return the start as it is given to clients."""
    p50 = estimated.p50 * factors.p50
    return Start(p50, max(p50, estimated.p90 * factors.p90))


def factors(measured: Sequence[Measured]) -> Factors:
    """Return the factors that would have corrected the measured starts."""
    counted = [one for one in measured if one.counts]
    if len(counted) < _ENOUGH:
        return Factors()
    # The second on both sides keeps short waits from having extreme ratios.
    by_p50 = sorted((one.seconds + 1) / (one.estimated.p50 + 1) for one in counted)
    by_p90 = sorted((one.seconds + 1) / (one.estimated.p90 + 1) for one in counted)
    return Factors(_bounded(quantile(by_p50, 0.5)), _bounded(quantile(by_p90, _COVERED)))


def _bounded(value: float) -> float:
    lowest, highest = _BOUNDS
    return min(highest, max(lowest, value))


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """How well estimates were met: the shares of starts within each quantile, and the median relative error of p50."""

    count: int
    covered_p50: float
    covered_p90: float
    error: float


def accuracy(measured: Sequence[Measured]) -> Accuracy | None:
    """Return the accuracy of the given estimates, or None if no request had to wait."""
    counted = [one for one in measured if one.counts]
    if not counted:
        return None
    errors = sorted(abs(one.seconds - one.given.p50) / max(one.seconds, NO_WAIT) for one in counted)
    return Accuracy(
        count=len(counted),
        covered_p50=sum(one.seconds <= one.given.p50 for one in counted) / len(counted),
        covered_p90=sum(one.seconds <= one.given.p90 for one in counted) / len(counted),
        error=quantile(errors, 0.5),
    )


def estimate(begin: Start, duration: Spread, *, is_measured: bool) -> Estimate:
    """Return the estimate for clients of a request that starts then and lasts so long."""
    done_p50 = begin.p50 + duration.p50
    # Both are rarely late together.
    done_p90 = done_p50 + math.hypot(begin.p90 - begin.p50, duration.p90 - duration.p50)
    return Estimate(
        start_p50=rounded(begin.p50),
        start_p90=max(rounded(begin.p90, up=True), rounded(begin.p50)),
        done_p50=max(1, rounded(done_p50)),
        done_p90=max(1, rounded(done_p90, up=True), rounded(done_p50)),
        basis="measured" if is_measured else "default",
    )


def rounded(seconds: float, *, up: bool = False) -> int:
    """Round to 1 s below a minute, to 5 s below ten minutes, then to minutes."""
    step = 1 if seconds < 60 else 5 if seconds < 600 else 60
    steps = math.ceil(round(seconds / step, 6)) if up else math.floor(seconds / step + 0.5)
    return steps * step
