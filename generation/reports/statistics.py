"""How the whole is doing: the queue now, and the last days. All of it is read from counters, at the time of the call.

The last 24 hours are this hour and the 23 before it, the last hour is this one and the one before, and days are those
of UTC. What happened is counted in the hour in which it happened: a request that was submitted yesterday and failed
today is a failure of today.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from django.db.models import DurationField, ExpressionWrapper, F

from generation.db import counters
from generation.db.counters import COMPLETED, FAILED, SPENT, STARTED, SUBMITTED, Count
from generation.identifiers import oldest_id_within
from generation.models import GenerationRequest
from generation.queue import estimates, pauses, processes
from generation.requests.representations import timestamp
from generation.states import WEIGHTS, Status, queue_for

_DAY: Final = timedelta(days=1)
#: The hours before this one that count for the average wait, and for the last 24 hours; the days before today.
_WAIT_HOURS: Final = 1
_DAY_HOURS: Final = 23
_DAYS: Final = 6
#: The slowest are looked for among so many of the newest.
_SLOWEST_OF: Final = 300
#: The guide's limits of health.
_CRITICAL_FAILURE_RATE: Final = 0.5
_WARNING_FAILURE_RATE: Final = 0.2
_WARNING_QUEUE_LENGTH: Final = 100


class Waiting(NamedTuple):
    """What waits with one priority: how many, and since when the first of them."""

    length: int
    oldest: datetime | None


def health(failure_rate: float, queue_length: int) -> str:
    """``healthy``, ``warning`` or ``critical``, by the guide's rule."""
    if failure_rate > _CRITICAL_FAILURE_RATE:
        return "critical"
    if failure_rate > _WARNING_FAILURE_RATE or queue_length > _WARNING_QUEUE_LENGTH:
        return "warning"
    return "healthy"


def queue_status() -> dict[str, Any]:
    """The queue at this moment."""
    lengths = counters.lengths()
    waits = backlog(lengths)
    oldest = min(filter(None, (there.oldest for there in waits.values())), default=None)
    up = processes.live_capacity()
    day = counters.recent("hour-error", [SUBMITTED, STARTED, COMPLETED, FAILED], before=_DAY_HOURS)
    return {
        "queueLength": lengths.total,
        "activeRequests": lengths.in_progress,
        "averageWaitTime": _rounded(counters.mean(one for one in _of(day, STARTED) if one.ago <= _WAIT_HOURS)),
        "queuedByPriority": {priority: there.length for priority, there in waits.items()},
        "systemStatus": health(_ended(day)["failureRate"], lengths.total),
        "oldestQueuedAt": timestamp(oldest),
        "workers": up.workers,
        "capacity": up.slots,
        "paused": [
            {"scope": pause.scope, "value": pause.value or None, "since": timestamp(pause.since)}
            for pause in pauses.cached()
        ],
    }


def metrics() -> dict[str, Any]:
    """The last 24 hours, the last 7 days by day, and what waits by priority."""
    lengths = counters.lengths()
    day = _ended(counters.recent("hour-error", [SUBMITTED, COMPLETED, FAILED], before=_DAY_HOURS))
    return {
        **day,
        "queueLength": lengths.total,
        "activeRequests": lengths.in_progress,
        "healthStatus": health(day["failureRate"], lengths.total),
        "byDay": _by_day(),
        "backlog": {
            name: {"count": there.length, "oldest": timestamp(there.oldest)} for name, there in backlog(lengths).items()
        },
    }


def slowest() -> list[tuple[str, str, timedelta]]:
    """Of the newest that completed, those that took longest: id, owner and time."""
    newest = GenerationRequest.objects.filter(status=Status.COMPLETED, pk__gte=oldest_id_within(_DAY)).order_by("-pk")
    rows = GenerationRequest.objects.filter(pk__in=newest.values("pk")[:_SLOWEST_OF])
    took = ExpressionWrapper(F("completed_at") - F("started_at"), DurationField())
    return list(rows.annotate(took=took).order_by("-took").values_list("pk", "owner__username", "took")[:5])


def backlog(lengths: counters.Lengths) -> dict[str, Waiting]:
    """What waits, by priority, all four of them; retries wait among the low ones."""
    found = {priority: Waiting(0, None) for priority in WEIGHTS}
    first = estimates.oldest_by_weight()
    for weight in {*lengths.rows, *first}:
        so_far = found[queue_for(weight)]
        oldest = min(filter(None, (so_far.oldest, first.get(weight))), default=None)
        found[queue_for(weight)] = Waiting(so_far.length + lengths.of_weight(weight), oldest)
    return found


def spent_today() -> float:
    """US dollars that were spent since midnight (UTC)."""
    return sum(float(day.cost) for day in counters.recent("day", [SPENT], before=0))


def waits() -> list[Count]:
    """The waits from submit to the first start, of what was started in this hour and the one before."""
    return counters.recent("hour-error", [STARTED], before=_WAIT_HOURS, histograms=True)


def _ended(found: list[Count]) -> dict[str, Any]:
    total, completed, failed = (_number(found, event) for event in (SUBMITTED, COMPLETED, FAILED))
    # While an old backlog is worked off, more requests end than are submitted.
    of = max(total, completed + failed)
    return {
        "requestsTotal": total,
        "requestsCompleted": completed,
        "requestsFailed": failed,
        "averageGenerationTime": _rounded(counters.mean(_of(found, COMPLETED))),
        "failureRate": round(failed / of, 4) if of else 0,
    }


def _by_day() -> list[dict[str, Any]]:
    by_date: dict[datetime, list[Count]] = {}
    for one in counters.recent("day", [SUBMITTED, COMPLETED, FAILED, SPENT], before=_DAYS):
        if one.count > 0 or one.cost > 0:
            by_date.setdefault(one.start, []).append(one)
    return [
        {
            "date": start.date().isoformat(),
            "totalRequests": _number(day, SUBMITTED),
            "averageProcessingTime": _rounded(counters.mean(_of(day, COMPLETED))),
            "failedCount": _number(day, FAILED),
            "cost": float(sum(one.cost for one in day)),
        }
        for start, day in sorted(by_date.items(), reverse=True)
    ]


def _of(counts: Iterable[Count], event: str) -> list[Count]:
    return [one for one in counts if one.event == event]


def _number(counts: Iterable[Count], event: str) -> int:
    return max(0, sum(one.count for one in _of(counts, event)))


def _rounded(seconds: float | None) -> float:
    return round(seconds, 3) if seconds else 0
