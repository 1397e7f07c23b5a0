"""Queue positions and wait estimates, from recent durations, the requests ahead and the capacity of the workers."""

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
from generation.states import PARKED_WEIGHT, WEIGHTS

#: Assumed duration of a request in seconds while there is no measurement.
SECONDS_PER_REQUEST: Final = 30
_HOUR: Final = timedelta(hours=1)
#: Number of attempts that suffices for the mean duration of a type; older hours are then ignored.
_ENOUGH_ATTEMPTS: Final = 50


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """Position of a queued request, from 1, and its estimated wait in seconds; ``estimated_wait`` is None while the
    request is paused, since the length of a pause is unknown. It is ``held`` while its batch or its API key has no free
    slot. Both figures are None while the request is parked."""

    position: int | None
    estimated_wait: int | None
    held: bool = False


#: Of a request that waits for its images.
PARKED: Final = QueuePosition(None, None)

#: The lengths of the queue, at most 1 s old; for estimates.
_cached_lengths: Final = ttl_cache(seconds=1)(counters.lengths)

#: A loose index scan: one probe of the index on the queue's order for each weight, and one past the last.
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
    """Return the earliest ``queued_at`` of each weight."""
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST)
        return {weight: queued_at.astimezone(UTC) for weight, queued_at in cursor.fetchall()}


@ttl_cache(seconds=2)
def recent_durations() -> dict[str, float]:
    """Return the mean seconds of attempts that gave an image, by type, and of all types under ``""``.

    Of the last 24 hours (UTC), only the newest are used: as many as contain enough attempts of the type.
    """
    by_hour = sorted(counters.recent("hour-type", [counters.COMPLETED], before=23), key=attrgetter("start"))
    by_type: dict[str, list[counters.Count]] = {}
    for hour in reversed(by_hour):
        by_type.setdefault(hour.type, []).append(hour)
    used = {type_: list(_newest_sufficient(hours)) for type_, hours in by_type.items()}
    used[""] = [hour for hours in used.values() for hour in hours]
    return {type_: seconds for type_, hours in used.items() if (seconds := counters.mean(hours)) is not None}


def _newest_sufficient(hours: Iterable[counters.Count]) -> Iterator[counters.Count]:
    attempts = 0
    for hour in hours:
        yield hour
        attempts += hour.count
        if attempts >= _ENOUGH_ATTEMPTS:
            return


def queue_position(request: GenerationRequest) -> QueuePosition | None:
    """Return the queue position, or None if the request is not queued (any more).

    A request that was just submitted needs no query: the submit has counted the queue rows ahead, and the other figures
    come from this process's caches, at most 2 s old.
    """
    if request.is_parked:
        return PARKED
    if request.ahead is not None:
        return position(request, request.ahead, WEIGHTS[request.priority], None)
    row = fetch_one(queries.COUNT_AHEAD, {"request": request.pk, "counted": queries.COUNTED})
    return None if row is None else position(request, *row)


def position(
    request: GenerationRequest, ahead: int, weight: int, queued_at: datetime | None, *, held: bool = False
) -> QueuePosition:
    """Return the queue position of a request with so many counted queue rows ahead of its own."""
    if weight == PARKED_WEIGHT:
        return PARKED
    if ahead >= queries.COUNTED:
        ahead = max(ahead, _estimated_ahead(weight, queued_at))
    wait = None if pauses.is_paused(request) else estimate(ahead, request.type)
    return QueuePosition(position=ahead + 1, estimated_wait=wait, held=held)


def estimate(ahead: int, type_: str) -> int:
    """Return the seconds until a request of this type with ``ahead`` requests before it is completed; at least 1."""
    durations = recent_durations()
    mean = durations.get("", float(SECONDS_PER_REQUEST))
    slots = max(1, processes.capacity().slots)
    return max(1, round(ahead * mean / slots + durations.get(type_, mean)))


def _estimated_ahead(weight: int, queued_at: datetime | None) -> int:
    """Estimate the queue rows ahead from the lengths by weight and hour.

    Rows of the hour in which the request was queued count as if they were queued at even intervals.
    """
    lengths = _cached_lengths()
    higher = sum(lengths.of_weight(other) for other in lengths.rows if other > weight)
    if queued_at is None:
        return higher + lengths.of_weight(weight) - 1
    own_hour = queued_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    by_hour = lengths.rows.get(weight, {})
    earlier = sum(length for hour, length in by_hour.items() if hour < own_hour)
    first, last = _span(weight, own_hour)
    share = (queued_at - first) / (last - first) if first and last and first < last else 0.0
    return higher + max(0, earlier) + round(max(0, by_hour.get(own_hour, 0) - 1) * min(1.0, max(0.0, share)))


@ttl_cache(seconds=1, maxsize=256)
def _span(weight: int, hour: datetime) -> tuple[datetime | None, datetime | None]:
    """Return the first and the last ``queued_at`` of a weight in the hour, at most 1 s old like the lengths."""
    # Two probes of the index on the queue's order.
    rows = GenerationQueue.objects.filter(priority_weight=weight, queued_at__range=(hour, hour + _HOUR))
    found = rows.aggregate(first=Min("queued_at"), last=Max("queued_at"))
    return found["first"], found["last"]
