"""Queue status and statistics of the last days, read from counters at the time of the call.

The last 24 hours are this hour and the 23 before it, the last hour is this one and the previous one, and days are UTC
days. An event counts in the hour in which it happens: a request submitted yesterday that fails today is a failure of
today.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.db.models import DurationField, ExpressionWrapper, F

from generation.db import counters
from generation.db.counters import COMPLETED, FAILED, SPENT, STARTED, SUBMITTED, Count
from generation.identifiers import oldest_id_within
from generation.models import GenerationRequest
from generation.queue import estimates, pauses, processes
from generation.queue.backlog import oldest_by_weight, owners
from generation.queue.fairness import OFF
from generation.requests.representations import timestamp
from generation.states import PARKED_WEIGHT, WEIGHTS, Status, queue_for

_DAY: Final = timedelta(days=1)
#: Hours before this one for the average wait, and for the last 24 hours; days before today for the last week.
_WAIT_HOURS: Final = 1
_DAY_HOURS: Final = 23
_DAYS: Final = 6
#: Number of newest completed requests among which the slowest are searched.
_SLOWEST_OF: Final = 300
#: Thresholds of the health status, as in the API guide.
_CRITICAL_FAILURE_RATE: Final = 0.5
_WARNING_FAILURE_RATE: Final = 0.2
_WARNING_QUEUE_LENGTH: Final = 100


class Waiting(NamedTuple):
    """The queued requests of one priority: their number, and the time since which the oldest waits."""

    length: int
    oldest: datetime | None


def health(failure_rate: float, queue_length: int) -> str:
    """Return ``healthy``, ``warning`` or ``critical``, by the rule of the API guide."""
    if failure_rate > _CRITICAL_FAILURE_RATE:
        return "critical"
    if failure_rate > _WARNING_FAILURE_RATE or queue_length > _WARNING_QUEUE_LENGTH:
        return "warning"
    return "healthy"


def queue_status() -> dict[str, Any]:
    """Return the current state of the queue."""
    lengths = counters.lengths()
    by_priority = backlog(lengths)
    length = sum(waiting.length for waiting in by_priority.values())
    oldest = min(filter(None, (waiting.oldest for waiting in by_priority.values())), default=None)
    up = processes.live_capacity()
    day = counters.recent("hour-error", [SUBMITTED, STARTED, COMPLETED, FAILED], before=_DAY_HOURS)
    starts = estimates.new_request_starts()
    return {
        "queueLength": length,
        "activeRequests": lengths.in_progress,
        "averageWaitTime": _rounded(counters.mean(count for count in _of(day, STARTED) if count.ago <= _WAIT_HOURS)),
        "owners": owners() if settings.FAIRNESS != OFF else None,
        "queuedByPriority": {priority: waiting.length for priority, waiting in by_priority.items()},
        "systemStatus": health(_ended(day)["failureRate"], length),
        "oldestQueuedAt": timestamp(oldest),
        "workers": up.workers,
        "capacity": up.slots,
        "paused": [
            {"scope": pause.scope, "value": pause.value or None, "since": timestamp(pause.since)}
            for pause in pauses.cached()
        ],
        "waitP50": {priority: start and start[0] for priority, start in starts.items()},
        "waitP90": {priority: start and start[1] for priority, start in starts.items()},
    }


def metrics() -> dict[str, Any]:
    """Return the statistics of the last 24 hours, of each of the last 7 days, and the backlog by priority."""
    lengths = counters.lengths()
    by_priority = backlog(lengths)
    length = sum(waiting.length for waiting in by_priority.values())
    day = _ended(counters.recent("hour-error", [SUBMITTED, COMPLETED, FAILED], before=_DAY_HOURS))
    return {
        **day,
        "queueLength": length,
        "activeRequests": lengths.in_progress,
        "healthStatus": health(day["failureRate"], length),
        "byDay": _by_day(),
        "backlog": {
            name: {"count": waiting.length, "oldest": timestamp(waiting.oldest)}
            for name, waiting in by_priority.items()
        },
    }


def slowest() -> list[tuple[str, str, timedelta]]:
    """Return the five slowest of the newest completed requests of the last day: id, owner and duration."""
    newest = GenerationRequest.objects.filter(status=Status.COMPLETED, pk__gte=oldest_id_within(_DAY)).order_by("-pk")
    rows = GenerationRequest.objects.filter(pk__in=newest.values("pk")[:_SLOWEST_OF])
    took = ExpressionWrapper(F("completed_at") - F("started_at"), DurationField())
    return list(rows.annotate(took=took).order_by("-took").values_list("pk", "owner__username", "took")[:5])


def backlog(lengths: counters.Lengths) -> dict[str, Waiting]:
    """Return the queued requests of each of the four priorities; retries count as low, and requests that wait for
    their images not at all."""
    result = {priority: Waiting(0, None) for priority in WEIGHTS}
    first = oldest_by_weight()
    for weight in {*lengths.rows, *first} - {PARKED_WEIGHT}:
        so_far = result[queue_for(weight)]
        oldest = min(filter(None, (so_far.oldest, first.get(weight))), default=None)
        result[queue_for(weight)] = Waiting(so_far.length + lengths.of_weight(weight), oldest)
    return result


def spent_today() -> float:
    """Return the US dollars spent since midnight (UTC)."""
    return sum(float(day.cost) for day in counters.recent("day", [SPENT], before=0))


def waits() -> list[Count]:
    """Return the waits from submit to first start, of the requests started in this hour and the previous one."""
    return counters.recent("hour-error", [STARTED], before=_WAIT_HOURS, histograms=True)


def _ended(counts: list[Count]) -> dict[str, Any]:
    total, completed, failed = (_number(counts, event) for event in (SUBMITTED, COMPLETED, FAILED))
    # While an old backlog is processed, more requests end than are submitted.
    divisor = max(total, completed + failed)
    return {
        "requestsTotal": total,
        "requestsCompleted": completed,
        "requestsFailed": failed,
        "averageGenerationTime": _rounded(counters.mean(_of(counts, COMPLETED))),
        "failureRate": round(failed / divisor, 4) if divisor else 0,
    }


def _by_day() -> list[dict[str, Any]]:
    by_date: dict[datetime, list[Count]] = {}
    for count in counters.recent("day", [SUBMITTED, COMPLETED, FAILED, SPENT], before=_DAYS):
        if count.count > 0 or count.cost > 0:
            by_date.setdefault(count.start, []).append(count)
    return [
        {
            "date": start.date().isoformat(),
            "totalRequests": _number(day, SUBMITTED),
            "averageProcessingTime": _rounded(counters.mean(_of(day, COMPLETED))),
            "failedCount": _number(day, FAILED),
            "cost": float(sum(count.cost for count in day)),
        }
        for start, day in sorted(by_date.items(), reverse=True)
    ]


def _of(counts: Iterable[Count], event: str) -> list[Count]:
    return [count for count in counts if count.event == event]


def _number(counts: Iterable[Count], event: str) -> int:
    return max(0, sum(count.count for count in _of(counts, event)))


def _rounded(seconds: float | None) -> float:
    return round(seconds, 3) if seconds else 0
