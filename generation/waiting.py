"""How long it will take: from what was measured lately, what is ahead, and how many can work at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Final, NamedTuple

from django.conf import settings
from django.db import connection
from django.db.models import Count, DateTimeField, Max, Min, Q, QuerySet, Sum

from generation import counters, pauses, prepared
from generation.clock import Now
from generation.models import GenerationQueue, GenerationRequest, WorkerProcess
from generation.prepared import Condition, Param
from generation.remembered import briefly
from generation.states import ProcessKind

#: Seconds that one request is taken to last, as long as nothing was measured.
SECONDS_PER_REQUEST: Final = 30
#: Queue rows ahead are counted up to here. Past it, their number is estimated from the lengths by weight and hour: an
#: exact position in the thousands is of no use, and counting it takes longer the longer the queue is.
COUNTED: Final = 500
_HOUR: Final = timedelta(hours=1)
_QUEUED_AT: Final = Param("queued_at", DateTimeField())
#: The rows before a queue row: those of a higher weight, and of its own weight those that were queued earlier.
_MORE_PRESSING: Final = Condition(Q(priority_weight__gt=Param("weight")))
_EARLIER: Final = Condition(
    Q(priority_weight=Param("weight"), queued_at__lte=_QUEUED_AT)
    & (Q(queued_at__lt=_QUEUED_AT) | Q(pk__lt=Param("pk")))
)
#: A worker that missed this many heartbeats is not up.
_MISSED_HEARTBEATS: Final = 3
#: Attempts of a type from which its duration is known well enough; older hours are then left out.
_ENOUGH: Final = 50


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


def live_processes(kind: str) -> QuerySet[WorkerProcess]:
    """The processes of this kind whose heartbeat is fresh."""
    patience: timedelta = settings.HEARTBEAT_INTERVAL * _MISSED_HEARTBEATS
    return WorkerProcess.objects.filter(kind=kind, seen_at__gt=Now() - patience)


def live_workers() -> QuerySet[WorkerProcess]:
    """The workers whose heartbeat is fresh."""
    return live_processes(ProcessKind.WORKER)


def live_capacity() -> Capacity:
    """Return what is up now."""
    found = live_workers().aggregate(workers=Count("pk"), slots=Sum("slots"))
    return Capacity(found["workers"], found["slots"] or 0)


#: What is up, as of at most 2 s ago.
capacity: Final = briefly(seconds=2)(live_capacity)
#: What waits and runs, as of at most 1 s ago; for estimates.
_lengths: Final = briefly(seconds=1)(counters.lengths)

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


def oldest() -> dict[int, datetime]:
    """Return when the first of each weight was queued."""
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST)
        return {weight: queued_at.astimezone(UTC) for weight, queued_at in cursor.fetchall()}


@briefly(seconds=2)
def recent_durations() -> dict[str, float]:
    """Return the mean seconds of attempts that gave an image, by type, and of all types under ``""``.

    Of the last 24 hours (UTC), the newest count: as many as hold enough attempts.
    """
    by_hour = sorted(counters.recent("hour-type", [counters.COMPLETED], before=23), key=attrgetter("start"))
    found: dict[str, list[counters.Count]] = {}
    for one in reversed(by_hour):
        found.setdefault(one.type, []).append(one)
    enough = {type_: list(_enough(hours)) for type_, hours in found.items()}
    enough[""] = [one for hours in enough.values() for one in hours]
    return {type_: seconds for type_, hours in enough.items() if (seconds := counters.mean(hours)) is not None}


def _enough(hours: Iterable[counters.Count]) -> Iterator[counters.Count]:
    number = 0
    for hour in hours:
        yield hour
        number += hour.count
        if number >= _ENOUGH:
            return


def forget() -> None:
    """Read everything again at the next question."""
    pauses.forget()
    for figures in (capacity, _lengths, recent_durations):
        figures.cache_clear()


def queue_place(request: GenerationRequest) -> QueuePlace | None:
    """Return the place in the queue, or None if the request is not queued (any more)."""
    if GenerationRequest.queue_entry.is_cached(request):  # a submit has just made it
        entry: GenerationQueue | None = request.queue_entry
        queued_at = None
    else:
        entry = prepared.get(GenerationQueue, request.pk)
        queued_at = entry.queued_at if entry else None
    if entry is None:
        return None
    return place(request, _counted(entry), weight=entry.priority_weight, queued_at=queued_at)


def place(
    request: GenerationRequest, ahead: int | None, *, weight: int, queued_at: datetime | None = None
) -> QueuePlace:
    """Return the place of a request with so many queue rows ahead of it; None stands for ``COUNTED`` or more.

    Without ``queued_at``, the request has just been queued, so all rows of its weight are ahead. This then needs no
    query: all figures are those of this process, at most 2 s old.
    """
    if ahead is None:
        ahead = max(COUNTED, _estimated_ahead(weight, queued_at))
    wait = None if pauses.is_paused(request) else estimate(ahead, request.type)
    return QueuePlace(position=ahead + 1, estimated_wait=wait)


def estimate(ahead: int, type_: str) -> int:
    """Return the seconds until a request of this type, with so many ahead of it, has its image; at least 1."""
    durations = recent_durations()
    usual = durations.get("", float(SECONDS_PER_REQUEST))
    slots = max(1, capacity().slots)
    return max(1, round(ahead * usual / slots + durations.get(type_, usual)))


def _counted(entry: GenerationQueue) -> int | None:
    """Count the queue rows ahead; None where there are more than are counted."""
    values = {"pk": entry.pk, "weight": entry.priority_weight, "queued_at": entry.queued_at}
    order = ("-priority_weight", "queued_at")
    found = prepared.count(GenerationQueue, _MORE_PRESSING, _EARLIER, order=order, up_to=COUNTED, **values)
    return found if found < COUNTED else None


def _estimated_ahead(weight: int, queued_at: datetime | None) -> int:
    """Estimate the queue rows ahead from the lengths by weight and hour. Of the hour in which the request was queued,
    it takes those that would be ahead if they were queued at even intervals."""
    lengths = _lengths()
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
