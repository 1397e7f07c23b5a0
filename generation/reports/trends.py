"""The last 24 hours for staff: ended requests and waits by hour, failures by code; and the running requests."""

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

#: Hours before this one.
_BEFORE: Final = 23
#: Maximum number of running requests shown.
_SHOWN: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Hour:
    """Counts of the hour from ``start``: requests that ended, and the average wait of those that started.

    ``wait`` is in seconds, or None if no request started.
    """

    start: datetime
    completed: int
    failed: int
    wait: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """A worker or dispatcher that is up. ``busy`` of its ``slots`` are in use."""

    name: str
    kind: str
    slots: int
    busy: int
    started_at: datetime
    seen_at: datetime


def by_hour() -> list[Hour]:
    """Return the last 24 hours, oldest first; the newest is the current hour."""
    newest = counters.this_hour()
    ended: Counter[tuple[datetime, str]] = Counter()
    started: dict[datetime, list[Count]] = {}
    for count in counters.recent("hour-error", [STARTED, COMPLETED, FAILED], before=_BEFORE):
        ended[count.start, count.event] += count.count
        if count.event == STARTED:
            started.setdefault(count.start, []).append(count)
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
    """Return the error codes of the failures of the last 24 hours with their counts, most frequent first."""
    by_code: Counter[str] = Counter()
    for count in counters.recent("hour-error", [FAILED], before=_BEFORE):
        by_code[count.error_code] += count.count
    return sorted(((code, number) for code, number in by_code.items() if number > 0), key=lambda row: (-row[1], row[0]))


def running() -> list[GenerationRequest]:
    """Return up to 20 requests in progress, longest-running first, each with its attempt as ``under_way``."""
    requests = list(
        GenerationRequest.objects.filter(status=Status.IN_PROGRESS)
        .select_related("owner")
        .order_by("started_at")[:_SHOWN]
    )
    attempts = GenerationAttempt.objects.filter(
        request_id__in=[request.pk for request in requests], outcome=AttemptOutcome.RUNNING
    )
    by_request = {attempt.request_id: attempt for attempt in attempts}
    for request in requests:
        annotated: Any = request
        annotated.under_way = by_request.get(request.pk)
    return requests


def live_processes() -> list[Process]:
    """Return the workers and dispatchers with a fresh heartbeat."""
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
