"""How the whole is doing: the queue now, and the last days."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.db.models import Avg, Count, DurationField, ExpressionWrapper, F, Q, Sum
from django.db.models.functions import TruncDate

from generation import pauses, waiting
from generation.clock import Now
from generation.identifiers import oldest_id_within
from generation.models import GenerationAttempt, GenerationRequest, Spending
from generation.remembered import remembered
from generation.representations import timestamp
from generation.states import WEIGHTS, Status, queue_for

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_WEEK: Final = timedelta(days=7)
#: The average wait is told from at most this many of the newest first attempts.
_SAMPLE: Final = 500
#: The slowest are looked for among so many of the newest.
_SLOWEST_OF: Final = 2_000
#: The guide's limits of health.
_CRITICAL_FAILURE_RATE: Final = 0.5
_WARNING_FAILURE_RATE: Final = 0.2
_WARNING_QUEUE_LENGTH: Final = 100


def health(failure_rate: float, queue_length: int) -> str:
    """``healthy``, ``warning`` or ``critical``, by the guide's rule."""
    if failure_rate > _CRITICAL_FAILURE_RATE:
        return "critical"
    if failure_rate > _WARNING_FAILURE_RATE or queue_length > _WARNING_QUEUE_LENGTH:
        return "warning"
    return "healthy"


def queue_status() -> dict[str, Any]:
    """The queue at this moment; parts of it are some 10 s old."""
    waits = _backlog()
    length = sum(there["count"] for there in waits.values())
    oldest = [there["oldest"] for there in waits.values() if there["oldest"]]
    up = waiting.capacity()
    return {
        "queueLength": length,
        "activeRequests": GenerationRequest.objects.filter(status=Status.IN_PROGRESS).count(),
        "averageWaitTime": average_wait(),
        "queuedByPriority": {priority: there["count"] for priority, there in waits.items()},
        "systemStatus": health(_last_day()["failureRate"], length),
        "oldestQueuedAt": min(oldest, default=None),
        "workers": up.workers,
        "capacity": up.slots,
        "paused": [
            {"scope": pause.scope, "value": pause.value or None, "since": timestamp(pause.since)}
            for pause in pauses.lately()
        ],
    }


@remembered(seconds=10)
def metrics() -> dict[str, Any]:
    """The last 24 hours, the last 7 days by day, and what waits by priority; some 10 s old, the days 60 s."""
    waits = _backlog()
    length = sum(there["count"] for there in waits.values())
    day = _last_day()
    return {
        **day,
        "queueLength": length,
        "activeRequests": GenerationRequest.objects.filter(status=Status.IN_PROGRESS).count(),
        "healthStatus": health(day["failureRate"], length),
        "byDay": _by_day(),
        "backlog": waits,
    }


@remembered(seconds=30)
def slowest() -> list[tuple[str, str, timedelta]]:
    """Of the newest that completed, those that took longest: id, owner and time; some 30 s old."""
    newest = GenerationRequest.objects.filter(status=Status.COMPLETED, pk__gte=oldest_id_within(_DAY)).order_by("-pk")
    rows = GenerationRequest.objects.filter(pk__in=newest.values("pk")[:_SLOWEST_OF])
    took = ExpressionWrapper(F("completed_at") - F("started_at"), DurationField())
    return list(rows.annotate(took=took).order_by("-took").values_list("pk", "owner__username", "took")[:5])


def forget() -> None:
    """Drop what was remembered, so that the next look is at the tables."""
    waiting.forget()
    for figures in (metrics, average_wait, _last_day, _by_day, slowest):
        figures.cache_clear()


def backlog() -> dict[str, waiting.Waiting]:
    """What waits, by priority, all four of them; retries wait among the low ones."""
    found = {priority: waiting.Waiting(0, None) for priority in WEIGHTS}
    for weight, there in waiting.ledger().items():
        so_far = found[queue_for(weight)]
        oldest = min(filter(None, (so_far.oldest, there.oldest)), default=None)
        found[queue_for(weight)] = waiting.Waiting(so_far.length + there.length, oldest)
    return found


def spent_today() -> float:
    """US dollars that were spent since midnight (UTC)."""
    return float(_spent_since(timedelta(0)).get(datetime.now(UTC).date(), 0))


def _backlog() -> dict[str, dict[str, Any]]:
    return {name: {"count": there.length, "oldest": timestamp(there.oldest)} for name, there in backlog().items()}


@remembered(seconds=5)
def average_wait() -> float:
    """Seconds from submit to the first start, over those of the last hour."""
    newest = GenerationAttempt.objects.filter(claim=1).order_by("-pk").values("pk")[:_SAMPLE]
    waited = GenerationAttempt.objects.filter(pk__in=newest, started_at__gte=Now() - _HOUR).aggregate(
        mean=Avg(F("started_at") - F("request__created_at"))
    )["mean"]
    return round(waited.total_seconds(), 3) if waited else 0.0


@remembered(seconds=10)
def _last_day() -> dict[str, Any]:
    found = GenerationRequest.objects.filter(pk__gte=oldest_id_within(_DAY)).aggregate(
        total=Count("pk"),
        completed=Count("pk", filter=Q(status=Status.COMPLETED)),
        failed=Count("pk", filter=Q(status=Status.FAILED)),
        lasted=Avg(F("completed_at") - F("started_at"), filter=Q(status=Status.COMPLETED)),
    )
    return {
        "requestsTotal": found["total"],
        "requestsCompleted": found["completed"],
        "requestsFailed": found["failed"],
        "averageGenerationTime": round(found["lasted"].total_seconds(), 3) if found["lasted"] else 0,
        "failureRate": round(found["failed"] / found["total"], 4) if found["total"] else 0,
    }


@remembered(seconds=60)  # it reads a week, of which the last seconds are nothing
def _by_day() -> list[dict[str, Any]]:
    days = (
        GenerationRequest.objects.filter(pk__gte=oldest_id_within(_WEEK))
        .order_by()
        .annotate(date=TruncDate("created_at"))
        .values("date")
        .annotate(
            total=Count("pk"),
            lasted=Avg(F("completed_at") - F("started_at"), filter=Q(status=Status.COMPLETED)),
            failed=Count("pk", filter=Q(status=Status.FAILED)),
        )
    )
    by_date = {day["date"]: day for day in days}
    spent = _spent_since(_WEEK)
    nothing: dict[str, Any] = {"total": 0, "lasted": None, "failed": 0}
    return [
        {
            "date": date.isoformat(),
            "totalRequests": day["total"],
            "averageProcessingTime": round(day["lasted"].total_seconds(), 3) if day["lasted"] else 0,
            "failedCount": day["failed"],
            "cost": float(spent.get(date, 0)),
        }
        # What was paid after midnight may be for requests of the day before.
        for date in sorted({*by_date, *spent}, reverse=True)
        for day in [by_date.get(date, nothing)]
    ]


def _spent_since(age: timedelta) -> dict[date, Decimal]:
    since = datetime.now(UTC) - age
    rows = Spending.objects.filter(day__gte=since.date(), cost__gt=0).order_by().values_list("day")
    return dict(rows.annotate(cost=Sum("cost")))
