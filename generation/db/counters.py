"""Counters of events by hour and day, and of queue lengths: fold the changes of triggers, and read the figures.

Triggers insert a row of ``generation_counter_changes`` in the transaction of each change. :func:`fold` moves these rows
into ``generation_counters`` and ``generation_queue_lengths``. Every reader adds the rows that are not folded yet in one
statement, which has one snapshot: so a figure is exact at any moment, also while no dispatcher runs. All hours and days
are in UTC by the database's clock, whatever the time zone of a session.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import accumulate
from typing import Any, Final

from django.db import connection, transaction

from generation.states import Reason, Status

#: The upper bounds of a histogram's elements, in seconds; the last element counts larger values. Other bounds need a
#: migration that empties the histograms.
BOUNDS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1800, 3600)
MICROSECONDS: Final = [round(bound * 1_000_000) for bound in BOUNDS]
#: Events: the final status of a request, else the reason of its change; and events without a status change.
SUBMITTED: Final = Reason.SUBMITTED.value
STARTED: Final = Reason.CLAIMED.value  # only the first claim
COMPLETED: Final = Status.COMPLETED.value
FAILED: Final = Status.FAILED.value
SPENT: Final = "spent"
PRUNED: Final = "pruned"
#: The sets of dimensions: the unit of time, and an expression for each of type, provider and error code.
_GRAINS: Final = {
    "hour": ("hour", "change.type", "change.provider", "change.error_code"),
    "hour-type": ("hour", "change.type", "''", "''"),
    "hour-error": ("hour", "''", "''", "change.error_code"),
    "day": ("day", "''", "''", "''"),
}
#: Days for which hours are kept. Rows of days stay: a few hundred a month.
KEPT: Final = timedelta(days=90)
#: The most changes that one transaction folds, and the most transactions of one pass.
_STEP: Final = 5_000
_STEPS: Final = 20
#: If no dispatcher runs and this many changes wait, a reader folds some before it reads.
_MANY: Final = 20_000
#: The advisory lock of the transaction that folds. The number is arbitrary and used by no other lock.
_LOCK: Final = 7_206_017

# --- Parts of statements ----------------------------------------------------------------------------------------------


def _key(grain: str) -> str:
    unit, *dimensions = _GRAINS[grain]
    return f"date_trunc('{unit}', change.at, 'UTC'), {', '.join(dimensions)}"


#: The rows of all grains to which a change belongs. A correction may belong to one of them.
KEYS: Final = "CROSS JOIN LATERAL (VALUES {}) AS key (grain, start, type, provider, error_code)".format(
    ", ".join(f"('{grain}', {_key(grain)})" for grain in _GRAINS)
)
#: The element of the histogram, from 0; NULL or -1 for none.
BUCKET: Final = "coalesce(change.bucket, width_bucket(change.microseconds, %(bounds)s::bigint[]))"
_HISTOGRAM: Final = "ARRAY[{}]::bigint[]".format(
    ", ".join(f"coalesce(sum(change.count) FILTER (WHERE {BUCKET} = {n}), 0)" for n in range(len(BOUNDS) + 1))
)
#: The kind of length that counts queue rows; the others are statuses of requests.
_ROWS: Final = "rows"
#: The lengths that a change belongs to.
LENGTHS: Final = """
    CROSS JOIN LATERAL (VALUES
        ('rows', change.weight, change.at, change.length),
        ('queued', 0, to_timestamp(0), change.queued),
        ('in-progress', 0, to_timestamp(0), change.in_progress)
    ) AS part (kind, weight, hour, length)
"""

# --- Folding ----------------------------------------------------------------------------------------------------------

_FOLD: Final = f"""
    WITH change AS MATERIALIZED (
        -- The oldest by the primary key. Only the holder of the advisory lock deletes here.
        DELETE FROM generation_counter_changes
        WHERE id IN (SELECT id FROM generation_counter_changes ORDER BY id LIMIT %(step)s)
        RETURNING *
    ), lengths AS (
        INSERT INTO generation_queue_lengths AS kept (kind, weight, hour, length)
        SELECT part.kind, part.weight, part.hour, sum(part.length)
        FROM change {LENGTHS}
        GROUP BY 1, 2, 3
        HAVING sum(part.length) <> 0
        ON CONFLICT (kind, weight, hour) DO UPDATE SET length = kept.length + excluded.length
    ), counted AS (
        INSERT INTO generation_counters AS kept
            (grain, start, event, type, provider, error_code, count, microseconds, cost, histogram)
        SELECT key.grain, key.start, change.event, key.type, key.provider, key.error_code,
            sum(change.count), coalesce(sum(change.microseconds), 0), sum(change.cost), {_HISTOGRAM}
        FROM change {KEYS}
        WHERE change.event <> '' AND change.grain IN ('', key.grain)
        GROUP BY 1, 2, 3, 4, 5, 6
        HAVING count(*) FILTER (WHERE change.count <> 0 OR change.microseconds <> 0 OR change.cost <> 0) > 0
        ON CONFLICT (grain, start, event, type, provider, error_code) DO UPDATE SET
            count = kept.count + excluded.count,
            microseconds = kept.microseconds + excluded.microseconds,
            cost = kept.cost + excluded.cost,
            histogram = ARRAY(SELECT one + other FROM unnest(kept.histogram, excluded.histogram) AS pair (one, other))
    )
    SELECT count(*) FROM change
"""  # noqa: S608
_TIDY: Final = """
    WITH empty AS (
        DELETE FROM generation_queue_lengths WHERE kind = 'rows' AND length = 0
    )
    -- A range of the unique index for each grain.
    DELETE FROM generation_counters
    WHERE grain = ANY(%(hours)s)
        AND start < date_trunc('day', statement_timestamp(), 'UTC') - %(kept)s * interval '1 hour'
"""


def fold(*, steps: int = _STEPS) -> int:
    """Add the changes that triggers inserted to the counters, in bounded transactions. Return the number of changes.

    Any number of processes may call this. One works at a time and the others return 0. If it is killed, its transaction
    is rolled back and the changes stay.
    """
    folded = 0
    for _ in range(steps):
        done = _fold_step()
        folded += done
        if done < _STEP:
            break
    return folded


def _fold_step() -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return 0
        # The next statement has its own snapshot, without the changes that the previous holder of the lock folded.
        cursor.execute(_FOLD, {"step": _STEP, "bounds": MICROSECONDS})
        done = int(cursor.fetchone()[0])
        hours = [grain for grain, (unit, *_) in _GRAINS.items() if unit == "hour"]
        cursor.execute(_TIDY, {"hours": hours, "kept": KEPT // timedelta(hours=1)})
    return done


# --- Reading ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Count:
    """The number of events in one hour or day, with their seconds and US dollars in total. The current hour or day is 0
    ``ago``."""

    start: datetime
    ago: int
    event: str
    type: str
    error_code: str
    count: int = 0
    seconds: float = 0.0
    cost: Decimal = Decimal(0)
    histogram: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))


#: Counters by a range of the unique index for each event, and the unfolded changes. Starts in the future, written while
#: a clock was ahead, are left out until their time comes.
_READ: Final = """
    SELECT start, event, type, error_code, count, microseconds, cost, {kept_histogram}, ({newest})
    FROM generation_counters
    WHERE grain = '{grain}' AND event = ANY(%(events)s)
        AND start >= ({newest}) - %(hours)s * interval '1 hour' AND start <= ({newest})
    UNION ALL
    SELECT key.start, change.event, key.type, key.error_code, sum(change.count)::bigint,
        coalesce(sum(change.microseconds), 0)::bigint, sum(change.cost), {histogram}, ({newest})
    FROM generation_counter_changes AS change
        CROSS JOIN LATERAL (SELECT {key}) AS key (start, type, provider, error_code)
    WHERE change.event = ANY(%(events)s) AND change.grain IN ('', '{grain}')
        AND change.at >= ({newest}) - %(hours)s * interval '1 hour'
        AND change.at < ({newest}) + {unit_hours} * interval '1 hour'
    GROUP BY 1, 2, 3, 4
"""
_UNITS: Final = {"hour": timedelta(hours=1), "day": timedelta(days=1)}


@cache
def _reading(grain: str, *, histograms: bool) -> str:
    kept, pending = ("histogram", _HISTOGRAM) if histograms else ("NULL", "NULL")
    unit = _GRAINS[grain][0]
    # As a subquery it is evaluated once and not for each row.
    newest = f"SELECT date_trunc('{unit}', statement_timestamp(), 'UTC')"
    parts = {"grain": grain, "key": _key(grain), "newest": newest, "unit_hours": _UNITS[unit] // timedelta(hours=1)}
    return _READ.format(kept_histogram=kept, histogram=pending, **parts)


def recent(grain: str, events: Collection[str], *, before: int, histograms: bool = False) -> list[Count]:
    """Return the counts of this hour or day (UTC) and of as many ``before`` it, in no order."""
    unit = _UNITS[_GRAINS[grain][0]]
    values: dict[str, Any] = {"events": [*events], "hours": before * unit // timedelta(hours=1), "bounds": MICROSECONDS}
    with connection.cursor() as cursor:
        cursor.execute(_reading(grain, histograms=histograms), values)
        rows = cursor.fetchall()
    found: dict[tuple[Any, ...], Count] = {}
    for start, event, type_, error_code, count, microseconds, cost, histogram, newest in rows:
        key = (start.astimezone(UTC), (newest - start) // unit, event, type_, error_code)
        total = found.setdefault(key, Count(*key))
        total.count += count
        total.seconds += microseconds / 1_000_000
        total.cost += cost
        if histogram:
            total.histogram = [one + other for one, other in zip(total.histogram, histogram, strict=True)]
    return list(found.values())


def this_hour() -> datetime:
    """Return when the current hour (UTC) of the database's clock began."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT date_trunc('hour', statement_timestamp(), 'UTC')")
        began: datetime = cursor.fetchone()[0]
    return began.astimezone(UTC)


def mean(counts: Iterable[Count]) -> float | None:
    """Return the mean duration in seconds, None without events."""
    found = list(counts)
    number = sum(one.count for one in found)
    return sum(one.seconds for one in found) / number if number > 0 else None


def quantile(counts: Iterable[Count], share: float) -> float | None:
    """Return the quantile in seconds, as the upper bound of a histogram's element: None without events, ``inf`` above
    the last bound."""
    totals = [max(0, sum(element)) for element in zip(*(one.histogram for one in counts), strict=True)]
    until = list(accumulate(totals))
    if not until or not until[-1]:
        return None
    return (*BOUNDS, float("inf"))[bisect_left(until, share * until[-1])]


@dataclass(frozen=True, slots=True)
class Lengths:
    """The current numbers of requests ``queued`` and ``in_progress``, and of queue rows by weight and by the hour in
    which they were queued."""

    queued: int
    in_progress: int
    rows: dict[int, dict[datetime, int]]

    def of_weight(self, weight: int) -> int:
        """Return the number of queue rows of this weight."""
        return max(0, sum(self.rows.get(weight, {}).values()))

    @property
    def total(self) -> int:
        """Return the number of queue rows."""
        return sum(map(self.of_weight, self.rows))


#: There are a few lengths for each hour from which requests are still queued.
_READ_LENGTHS: Final = f"""
    SELECT kind, weight, hour, sum(length)::bigint, sum(changes)::bigint
    FROM (
        SELECT kind, weight, hour, length, 0 AS changes FROM generation_queue_lengths
        UNION ALL
        SELECT part.kind, part.weight, part.hour, sum(part.length), count(*)
        FROM generation_counter_changes AS change {LENGTHS}
        GROUP BY 1, 2, 3
    ) AS everything
    GROUP BY 1, 2, 3
"""  # noqa: S608


def lengths() -> Lengths:
    """Return the current lengths."""
    rows = _lengths()
    if any(kind == Status.QUEUED and changes > _MANY for kind, *_, changes in rows):
        fold(steps=2)
        rows = _lengths()
    by_weight: dict[int, dict[datetime, int]] = {}
    requests: Counter[str] = Counter()
    for kind, weight, hour, length, _ in rows:
        if kind != _ROWS:
            requests[kind] += length
        elif length:
            by_weight.setdefault(weight, {})[hour.astimezone(UTC)] = length
    return Lengths(
        queued=max(0, requests[Status.QUEUED]), in_progress=max(0, requests[Status.IN_PROGRESS]), rows=by_weight
    )


def _lengths() -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(_READ_LENGTHS)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
