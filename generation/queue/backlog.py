"""Figures of the queued requests, each from a few index probes: the oldest of each weight, the owners that wait, and
how many requests come before a place that is too far back to count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from django.db import connection
from django.db.models import Max, Min

from generation.caching import ttl_cache
from generation.db import counters
from generation.models import GenerationQueue
from generation.states import WEIGHTS

_HOUR: Final = timedelta(hours=1)
#: The most owners that are counted, and the most whose turns are looked at for an estimate. Each takes some 20 µs.
_MOST_OWNERS: Final = 1_000
_SAMPLED_OWNERS: Final = 200

#: The lengths of the queue, at most 1 s old; for estimates.
cached_lengths: Final = ttl_cache(seconds=1)(counters.lengths)

#: A loose index scan: one probe of queue_order for each weight, and one past the last.
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
#: The same of queue_fair_key: one probe for each owner. Only that index has the orders below.
_OWNERS: Final = """
    WITH RECURSIVE owner AS (
        (SELECT fair_key FROM generation_queue WHERE fair_key <> '' ORDER BY fair_key LIMIT 1)
        UNION ALL
        SELECT following.fair_key
        FROM owner CROSS JOIN LATERAL (
            SELECT fair_key FROM generation_queue
            WHERE fair_key > owner.fair_key AND fair_key <> ''
            ORDER BY fair_key LIMIT 1
        ) AS following
    )
"""
_COUNT_OWNERS: Final = f"{_OWNERS} SELECT count(*) FROM (SELECT FROM owner LIMIT %s) AS counted"  # noqa: S608
_SPANS: Final = f"""{_OWNERS}
    SELECT weight, first.turn, last.turn
    FROM (SELECT fair_key FROM owner LIMIT %s) AS sampled
    CROSS JOIN unnest(%s::int[]) AS weight
    CROSS JOIN LATERAL (
        SELECT priority_weight, turn FROM generation_queue
        WHERE fair_key = sampled.fair_key AND fair_key <> '' AND priority_weight >= weight
        ORDER BY priority_weight, turn LIMIT 1
    ) AS first
    CROSS JOIN LATERAL (
        SELECT priority_weight, turn FROM generation_queue
        WHERE fair_key = sampled.fair_key AND fair_key <> '' AND priority_weight <= weight
        ORDER BY priority_weight DESC, turn DESC LIMIT 1
    ) AS last
    WHERE first.priority_weight = weight AND last.priority_weight = weight
"""  # noqa: S608


class Span(NamedTuple):
    """The first and the last turn of one owner at one weight. Between them there is about one request for each."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """The number of turns."""
        return self.last - self.first + 1


def oldest_by_weight() -> dict[int, datetime]:
    """Return the earliest ``queued_at`` of each weight."""
    return {weight: queued_at.astimezone(UTC) for weight, queued_at in _rows(_OLDEST, [])}


@ttl_cache(seconds=2)
def owners() -> int:
    """Return how many owners (or projects, or end users) have queued requests, at most 1,000, at most 2 s ago. It is 0
    without fairness, since nothing tells them apart then."""
    return int(_rows(_COUNT_OWNERS, [_MOST_OWNERS])[0][0])


@ttl_cache(seconds=2)
def spans() -> dict[int, list[Span]]:
    """Return the turns of the owners at each weight, at most 2 s old; of 200 owners if there are more."""
    by_weight: dict[int, list[Span]] = {}
    weights = [weight for weight in WEIGHTS.values() if cached_lengths().of_weight(weight)]
    for weight, first, last in _rows(_SPANS, [_SAMPLED_OWNERS, weights]):
        by_weight.setdefault(weight, []).append(Span(first, last))
    return by_weight


def share_before(turn: int, of: list[Span]) -> float:
    """Return the share of the requests that come before a turn, of owners with these turns."""
    before = sum(min(max(0, turn - span.first), span.length) for span in of)
    # Of the others with the same turn about half come before.
    with_turn = sum(span.first <= turn <= span.last for span in of)
    return (before + max(0, with_turn - 1) / 2) / sum(span.length for span in of)


def estimated_ahead(weight: int, turn: int, queued_at: datetime | None) -> int:
    """Estimate the queue rows ahead of a place from the lengths by weight. ``queued_at`` is None for a request that was
    just submitted.

    With turns, the share of the rows with earlier ones is that of the owners' turns. Without, rows of the hour in which
    the request was queued count as if they were queued at even intervals.
    """
    lengths = cached_lengths()
    higher = sum(lengths.of_weight(other) for other in lengths.rows if other > weight)
    if of_weight := spans().get(weight):
        return higher + round(lengths.of_weight(weight) * share_before(turn, of_weight))
    if queued_at is None:
        return higher + lengths.of_weight(weight) - 1
    own_hour = queued_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    by_hour = lengths.rows.get(weight, {})
    earlier = sum(length for hour, length in by_hour.items() if hour < own_hour)
    first, last = _first_and_last(weight, own_hour)
    share = (queued_at - first) / (last - first) if first and last and first < last else 0.0
    return higher + max(0, earlier) + round(max(0, by_hour.get(own_hour, 0) - 1) * min(1.0, max(0.0, share)))


def behind_all(weight: int) -> int:
    """Return the number of queue rows of this weight and above."""
    lengths = cached_lengths()
    return sum(lengths.of_weight(other) for other in lengths.rows if other >= weight)


@ttl_cache(seconds=1, maxsize=256)
def _first_and_last(weight: int, hour: datetime) -> tuple[datetime | None, datetime | None]:
    """Return the first and the last ``queued_at`` of a weight in the hour, at most 1 s old like the lengths."""
    # Two probes of queue_order.
    rows = GenerationQueue.objects.filter(priority_weight=weight, queued_at__range=(hour, hour + _HOUR))
    found = rows.aggregate(first=Min("queued_at"), last=Max("queued_at"))
    return found["first"], found["last"]


def _rows(sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
