"""How long it will take: from what was measured lately, what is ahead, and how many can work at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Final, NamedTuple

from django.conf import settings
from django.db.models import Count, Min, QuerySet, Sum
from django.db.models.functions import TruncMinute

from generation import pauses
from generation.clock import Now
from generation.db import queries
from generation.db.execution import fetch_one
from generation.models import GenerationAttempt, GenerationQueue, GenerationRequest, WorkerProcess
from generation.remembered import briefly, remembered
from generation.states import AttemptOutcome, ProcessKind

#: Seconds that one request is taken to last, as long as nothing was measured.
SECONDS_PER_REQUEST: Final = 30
_MINUTE: Final = timedelta(minutes=1)
#: A worker that missed this many heartbeats is not up.
_MISSED_HEARTBEATS: Final = 3
#: How many of the newest attempts durations are told from.
_SAMPLE: Final = 200


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Where a queued request stands: ``position`` from 1, ``estimated_wait`` in seconds; ``None`` while it is paused,
    since nobody knows for how long."""

    position: int
    estimated_wait: int | None


class Capacity(NamedTuple):
    """What is up at the moment: worker processes, and the requests that they can work on at once."""

    workers: int
    slots: int


class Waiting(NamedTuple):
    """What waits in a queue: how many, and since when the first of them."""

    length: int
    oldest: datetime | None


class Line:
    """The rows of the ledger of one weight, by the minute in which they were queued."""

    def __init__(self, minutes: Sequence[tuple[datetime, int, datetime]]) -> None:
        """``minutes`` are those in which rows were queued: when it began, how many, and the first of them."""
        minutes = sorted(minutes)
        self._starts = [start for start, _, _ in minutes]
        self._lengths = [length for _, length, _ in minutes]
        self._until = [0, *accumulate(self._lengths)]
        self.length = self._until[-1]
        self.oldest = min(oldest for _, _, oldest in minutes)

    def before(self, moment: datetime) -> int:
        """About how many were queued before this moment: of its own minute, as large a part as of it has passed."""
        passed = bisect_right(self._starts, moment)
        if passed == 0:
            return 0
        part = min(1.0, (moment - self._starts[passed - 1]) / _MINUTE)
        return self._until[passed - 1] + int(part * self._lengths[passed - 1])


def live_processes(kind: str) -> QuerySet[WorkerProcess]:
    """The processes of this kind whose heartbeat is fresh."""
    patience: timedelta = settings.HEARTBEAT_INTERVAL * _MISSED_HEARTBEATS
    return WorkerProcess.objects.filter(kind=kind, seen_at__gt=Now() - patience)


def live_workers() -> QuerySet[WorkerProcess]:
    """The workers whose heartbeat is fresh."""
    return live_processes(ProcessKind.WORKER)


@briefly(seconds=2)
def capacity() -> Capacity:
    """What is up, as of at most 2 s ago."""
    found = live_workers().aggregate(workers=Count("pk"), slots=Sum("slots"))
    return Capacity(found["workers"], found["slots"] or 0)


@remembered(seconds=1)
def ledger() -> dict[int, Line]:
    """What waits, by weight, as of about 1 s ago."""
    # Counting rows and no column of theirs, so that the index on the order has it all.
    rows = (
        GenerationQueue.objects.order_by()
        .annotate(minute=TruncMinute("queued_at", tzinfo=UTC))
        .values("priority_weight", "minute")
        .annotate(length=Count("*"), oldest=Min("queued_at"))
        .values_list("priority_weight", "minute", "length", "oldest")
    )
    found: dict[int, list[tuple[datetime, int, datetime]]] = {}
    for weight, *minute in rows:
        found.setdefault(weight, []).append(tuple(minute))
    return {weight: Line(minutes) for weight, minutes in found.items()}


@remembered(seconds=5)
def recent_durations() -> dict[str, float]:
    """Seconds that an attempt that gave a picture lasted lately, by type, and under ``""`` for all types together."""
    sample = (
        GenerationAttempt.objects.filter(outcome=AttemptOutcome.SUCCEEDED)
        .order_by("-pk")
        .values_list("request__type", "started_at", "finished_at")[:_SAMPLE]
    )
    lasted: dict[str, list[float]] = {}
    for type_, started_at, finished_at in sample:
        seconds = (finished_at - started_at).total_seconds() if finished_at else 0.0
        for name in (type_, ""):
            lasted.setdefault(name, []).append(seconds)
    return {name: sum(values) / len(values) for name, values in lasted.items()}


def forget() -> None:
    """Drop what was remembered, so that the next look is at the tables."""
    pauses.forget()
    for figures in (capacity, ledger, recent_durations):
        figures.cache_clear()


def queue_place(request: GenerationRequest) -> QueuePlace | None:
    """The place in the queue, or ``None`` for what is not queued (any more)."""
    if GenerationRequest.queue_entry.is_cached(request) and request.queue_entry.ahead is not None:
        entry = request.queue_entry  # a submit has just written it, and counted
        ahead = _ahead(request.queue_entry.ahead, entry.priority_weight, entry.queued_at)
    else:
        row = fetch_one(queries.COUNT_AHEAD, {"request": request.pk, "counted": queries.COUNTED})
        if row is None:
            return None
        ahead = _ahead(*row)
    wait = None if pauses.is_paused(request) else estimate(ahead, request.type)
    return QueuePlace(position=ahead + 1, estimated_wait=wait)


def estimate(ahead: int, type_: str) -> int:
    """Seconds until a request of this type, with so many ahead of it, has its picture; at least 1."""
    durations = recent_durations()
    usual = durations.get("", float(SECONDS_PER_REQUEST))
    slots = max(1, capacity().slots)
    return max(1, round(ahead * usual / slots + durations.get(type_, usual)))


def _ahead(counted: int, weight: int, queued_at: datetime) -> int:
    """Return how many come before what was queued then with this weight. Past so many as are ``counted`` one by one, it
    is told from how many were queued in which minute: a place in the thousands need not be exact, and takes the longer
    to count the longer the queue is."""
    if counted < queries.COUNTED:
        return counted
    lines = ledger()
    more_pressing = sum(line.length for higher, line in lines.items() if higher > weight)
    own = lines.get(weight)
    return max(counted, more_pressing + (own.before(queued_at) if own else 0))
