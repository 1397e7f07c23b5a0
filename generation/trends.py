"""The last 24 hours for staff: what ended in each hour, how long it waited, why it failed. And what runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import Avg, Count, F, Q, QuerySet
from django.db.models.fields.json import KT
from django.db.models.functions import TruncHour

from generation import waiting
from generation.identifiers import oldest_id_within
from generation.models import GenerationAttempt, GenerationRequest, WorkerProcess
from generation.remembered import remembered
from generation.states import AttemptOutcome, ProcessKind, Status

_HOURS: Final = 24
#: Requests that were submitted longer ago are left out, whenever they ended.
_LOOKED_AT: Final = timedelta(days=2)
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


@remembered(seconds=30)
def by_hour() -> list[Hour]:
    """The last 24 hours, the oldest first; the newest is not over."""
    newest = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [newest - timedelta(hours=ago) for ago in reversed(range(_HOURS))]
    ended = (
        _recent()
        .filter(completed_at__gte=hours[0])
        .order_by()
        .annotate(hour=TruncHour("completed_at"))
        .values("hour")
        .annotate(
            completed=Count("pk", filter=Q(status=Status.COMPLETED)), failed=Count("pk", filter=Q(status=Status.FAILED))
        )
    )
    started = (
        GenerationAttempt.objects.filter(
            claim=1, request_id__gte=oldest_id_within(_LOOKED_AT), started_at__gte=hours[0]
        )
        .order_by()
        .annotate(hour=TruncHour("started_at"))
        .values("hour")
        .annotate(wait=Avg(F("started_at") - F("request__created_at")))
    )
    ends = {row["hour"]: (row["completed"], row["failed"]) for row in ended}
    waits = {row["hour"]: row["wait"].total_seconds() for row in started}
    return [
        Hour(
            start=hour,
            completed=ends.get(hour, (0, 0))[0],
            failed=ends.get(hour, (0, 0))[1],
            wait=waits.get(hour),
        )
        for hour in hours
    ]


@remembered(seconds=30)
def failures() -> list[tuple[str, int]]:
    """The error codes of what failed in the last 24 hours with how often each came, the most frequent first."""
    since = datetime.now(UTC) - timedelta(hours=_HOURS)
    rows = _recent().filter(status=Status.FAILED, completed_at__gte=since).order_by()
    counted = rows.annotate(code=KT("error__code")).values("code").annotate(count=Count("pk"))
    return sorted(((row["code"], row["count"]) for row in counted), key=lambda row: (-row[1], row[0]))


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


def processes() -> list[Process]:
    """The workers and dispatchers whose heartbeat is fresh."""
    busy = Counter(GenerationRequest.objects.filter(status=Status.IN_PROGRESS).values_list("worker", flat=True))
    up: list[WorkerProcess] = [
        *waiting.live_processes(ProcessKind.WORKER).order_by("started_at"),
        *waiting.live_processes(ProcessKind.DISPATCHER).order_by("started_at"),
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


def forget() -> None:
    """Drop what was remembered, so that the next look is at the tables."""
    by_hour.cache_clear()
    failures.cache_clear()


def _recent() -> QuerySet[GenerationRequest]:
    return GenerationRequest.objects.filter(pk__gte=oldest_id_within(_LOOKED_AT))
