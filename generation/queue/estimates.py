"""How long it will take: from what was measured lately, what is ahead, and how many can work at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Final

from django.db import connection
from django.db.models import Max, Min

from generation.caching import ttl_cache
from generation.db import counters, queries
from generation.db.execution import fetch_one
from generation.models import GenerationQueue, GenerationRequest
from generation.queue import pauses, processes

#: Seconds that one request is taken to last, as long as nothing was measured.
SECONDS_PER_REQUEST: Final = 30
_HOUR: Final = timedelta(hours=1)
#: Attempts of a type from which its duration is known well enough; older hours are then left out.
_ENOUGH_ATTEMPTS: Final = 50


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """Where a queued request stands: ``position`` from 1, ``estimated_wait`` in seconds; ``None`` while it is paused,
    since nobody knows for how long."""

    position: int
    estimated_wait: int | None


#: What waits and runs, as of at most 1 s ago; for estimates.
_cached_lengths: Final = ttl_cache(seconds=1)(counters.lengths)

#: One probe of the index on the queue's order for each weight, and one past the last: a loose index scan.
_OLDEST: Final = """
    WITH RECURSIVE first AS (
        (SELECT priority_weight, queued_at FROM generation_queue ORDER BY priority_weight DESC, queued_at LIMIT 1)
        UNION ALL
        SELECT following.priority_weight, following.queued_at
        FROM first CROSS JOIN LATERAL (
            SELECT priority_weight, queued_at FROM generation_queue
            WHERE priority_weight < first.priority_weight
            ORDER BY priority_weight DESC, queued_at LIMIT 1
        ) AS following
    )
    SELECT priority_weight, queued_at FROM first
"""


def oldest_by_weight() -> dict[int, datetime]:
    """Return when the first of each weight was queued."""
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST)
        return {weight: queued_at.astimezone(UTC) for weight, queued_at in cursor.fetchall()}


@ttl_cache(seconds=2)
def recent_durations() -> dict[str, float]:
    """Return the mean seconds of attempts that gave an image, by type, and of all types under ``""``.

    Of the last 24 hours (UTC), the newest count: as many as hold enough attempts.
    """
    by_hour = sorted(counters.recent("hour-type", [counters.COMPLETED], before=23), key=attrgetter("start"))
    found: dict[str, list[counters.Count]] = {}
    for one in reversed(by_hour):
        found.setdefault(one.type, []).append(one)
    enough = {type_: list(_newest_enough(hours)) for type_, hours in found.items()}
    enough[""] = [one for hours in enough.values() for one in hours]
    return {type_: seconds for type_, hours in enough.items() if (seconds := counters.mean(hours)) is not None}


def _newest_enough(hours: Iterable[counters.Count]) -> Iterator[counters.Count]:
    number = 0
    for hour in hours:
        yield hour
        number += hour.count
        if number >= _ENOUGH_ATTEMPTS:
            return


def queue_position(request: GenerationRequest) -> QueuePosition | None:
    """Return the place in the queue, or None if the request is not queued (any more).

    A request that was just submitted needs no query: the submit has counted the queue rows ahead, and all figures are
    those of this process, at most 2 s old.
    """
    queued_at = None
    if GenerationRequest.queue_entry.is_cached(request) and request.queue_entry.ahead is not None:
        ahead, weight = request.queue_entry.ahead, request.queue_entry.priority_weight
    else:
        row = fetch_one(queries.COUNT_AHEAD, {"request": request.pk, "counted": queries.COUNTED})
        if row is None:
            return None
        ahead, weight, queued_at = row
    if ahead >= queries.COUNTED:
        ahead = max(ahead, _estimated_ahead(weight, queued_at))
    wait = None if pauses.is_paused(request) else estimate(ahead, request.type)
    return QueuePosition(position=ahead + 1, estimated_wait=wait)


def estimate(ahead: int, type_: str) -> int:
    """Return the seconds until a request of this type, with so many ahead of it, has its image; at least 1."""
    durations = recent_durations()
    usual = durations.get("", float(SECONDS_PER_REQUEST))
    slots = max(1, processes.capacity().slots)
    return max(1, round(ahead * usual / slots + durations.get(type_, usual)))


def _estimated_ahead(weight: int, queued_at: datetime | None) -> int:
    """Estimate the queue rows ahead from the lengths by weight and hour. Of the hour in which the request was queued,
    it takes those that would be ahead if they were queued at even intervals."""
    lengths = _cached_lengths()
    pressing = sum(lengths.of_weight(other) for other in lengths.rows if other > weight)
    if queued_at is None:
        return pressing + lengths.of_weight(weight) - 1
    own_hour = queued_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    own = lengths.rows.get(weight, {})
    earlier = sum(length for hour, length in own.items() if hour < own_hour)
    # Two probes of the index on the queue's order.
    rows = GenerationQueue.objects.filter(priority_weight=weight, queued_at__range=(own_hour, own_hour + _HOUR))
    first, last = rows.aggregate(first=Min("queued_at"), last=Max("queued_at")).values()
    part = (queued_at - first) / (last - first) if first and first < last else 0.0
    return pressing + max(0, earlier) + round(max(0, own.get(own_hour, 0) - 1) * min(1.0, max(0.0, part)))
