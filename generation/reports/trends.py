"""The last 24 hours for staff: what ended in each hour, how long it waited, why it failed. And what runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from generation.db import counters
from generation.db.counters import COMPLETED, FAILED, STARTED, Count
from generation.models import GenerationAttempt, GenerationRequest, WorkerProcess
from generation.queue import processes
from generation.states import AttemptOutcome, ProcessKind, Status

#: The hours before this one.
_BEFORE: Final = 23
#: The most requests that are shown as running.
_SHOWN: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Hour:
    """What ended in the hour that begins at ``start``, and the seconds that what started in it had waited, on average;
    ``None`` where nothing started."""

    start: datetime
    completed: int
    failed: int
    wait: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """A worker or dispatcher that is up. ``busy`` of its ``slots`` are taken."""

    name: str
    kind: str
    slots: int
    busy: int
    started_at: datetime
    seen_at: datetime


def by_hour() -> list[Hour]:
    """The last 24 hours, the oldest first; the newest is not over."""
    newest = counters.this_hour()
    ended: Counter[tuple[datetime, str]] = Counter()
    started: dict[datetime, list[Count]] = {}
    for one in counters.recent("hour-error", [STARTED, COMPLETED, FAILED], before=_BEFORE):
        ended[one.start, one.event] += one.count
        if one.event == STARTED:
            started.setdefault(one.start, []).append(one)
    hours = [newest - timedelta(hours=ago) for ago in reversed(range(_BEFORE + 1))]
    return [
        Hour(
            start=hour,
            completed=max(0, ended[hour, COMPLETED]),
            failed=max(0, ended[hour, FAILED]),
            wait=counters.mean(started.get(hour, ())),
        )
        for hour in hours
    ]


def failures() -> list[tuple[str, int]]:
    """The error codes of what failed in the last 24 hours with how often each came, the most frequent first."""
    counted: Counter[str] = Counter()
    for one in counters.recent("hour-error", [FAILED], before=_BEFORE):
        counted[one.error_code] += one.count
    return sorted(((code, count) for code, count in counted.items() if count > 0), key=lambda row: (-row[1], row[0]))


def running() -> list[GenerationRequest]:
    """What workers are at now, the longest first; the first 20. ``under_way`` is the attempt."""
    found = list(
        GenerationRequest.objects.filter(status=Status.IN_PROGRESS)
        .select_related("owner")
        .order_by("started_at")[:_SHOWN]
    )
    attempts = GenerationAttempt.objects.filter(
        request_id__in=[request.pk for request in found], outcome=AttemptOutcome.RUNNING
    )
    by_request = {attempt.request_id: attempt for attempt in attempts}
    for request in found:
        shown: Any = request
        shown.under_way = by_request.get(request.pk)
    return found


def live_processes() -> list[Process]:
    """The workers and dispatchers whose heartbeat is fresh."""
    busy = Counter(GenerationRequest.objects.filter(status=Status.IN_PROGRESS).values_list("worker", flat=True))
    up: list[WorkerProcess] = [
        *processes.live_processes(ProcessKind.WORKER).order_by("started_at"),
        *processes.live_processes(ProcessKind.DISPATCHER).order_by("started_at"),
    ]
    return [
        Process(
            name=process.name,
            kind=process.kind,
            slots=process.slots,
            busy=busy[process.name],
            started_at=process.started_at,
            seen_at=process.seen_at,
        )
        for process in up
    ]
