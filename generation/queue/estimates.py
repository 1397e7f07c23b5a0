"""Estimates of when requests start and end, from this process's caches: figures, slots, and the running requests."""

from __future__ import annotations

import math
from datetime import datetime
from typing import NamedTuple

from generation.models import GenerationRequest
from generation.queue import backlog, figures, forecasts, given_estimates, pauses, processes
from generation.queue.forecasts import Estimate, Start
from generation.states import WEIGHTS, PauseScope


class Place(NamedTuple):
    """The place of a queue row: how many rows come before it, at most ``queries.COUNTED`` of higher weights, as many of
    its own weight, and as many of these of the same owner; and its columns."""

    more_pressing: int
    earlier: int
    own: int
    weight: int
    turn: int
    queued_at: datetime
    available_at: datetime
    held: bool
    waits_for: str
    fair_key: str


def start(ahead: int, *, limit: float = math.inf) -> Start | None:
    """Return the uncorrected start of a request with so many requests ahead of it, or None if no worker is up.
    ``limit`` is how many of these requests may run at once, if that is less than the workers can do."""
    slots = min(float(processes.capacity().slots), limit)
    if slots <= 0:
        return None
    occupancy = figures.recent().occupancy
    return forecasts.start(ahead, slots=slots, running=backlog.cached_lengths().in_progress, occupancy=occupancy)


def group_start(ahead: int, *, most: int, running: int) -> Start:
    """Return the uncorrected start of a request with so many requests of its group ahead of it, of which at most
    ``most`` run at once."""
    return forecasts.start(ahead, slots=most, running=running, occupancy=figures.recent().occupancy)


def corrected(begin: Start) -> Start:
    """Return the start as it is given to clients."""
    return forecasts.corrected(begin, given_estimates.factors())


def estimate(request: GenerationRequest, begin: Start, *, model: str) -> Estimate:
    """Return the estimate of a request that starts then."""
    recent = figures.recent()
    duration = recent.duration(request.type, model, with_images=request.inputs is not None)
    return forecasts.estimate(begin, duration, is_measured=recent.is_measured(request.type))


def new_request_starts() -> dict[str, tuple[int, int] | None]:
    """Return by priority the rounded quantiles of the start of a new request that comes behind all others of its
    priority, or None if it would not start."""
    starts: dict[str, tuple[int, int] | None] = dict.fromkeys(WEIGHTS)
    paused = pauses.recent()
    for priority, weight in WEIGHTS.items():
        begin = start(backlog.behind_all(weight))
        is_paused = not {(PauseScope.EVERYTHING, ""), (PauseScope.PRIORITY, priority)}.isdisjoint(paused)
        if begin is not None and not is_paused:
            begin = corrected(begin)
            starts[priority] = forecasts.rounded(begin.p50), forecasts.rounded(begin.p90, up=True)
    return starts
