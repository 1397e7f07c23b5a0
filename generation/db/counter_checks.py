"""Compare the counters with the tables, and correct them where they differ.

A correction is a row among the changes, as triggers insert them. So it waits for no lock, and it is right whatever is
changed or folded concurrently: it is the difference in the snapshot of one statement.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError, connection, transaction

from generation.db.counters import BUCKET, KEPT, KEYS, LENGTHS, MICROSECONDS, PRUNED
from generation.db.outages import sqlstate

logger = logging.getLogger(__name__)

#: Concurrent corrections would correct twice. This lock mode conflicts with itself and VACUUM only.
_ONE_AT_A_TIME: Final = "LOCK TABLE generation_queue_lengths IN SHARE UPDATE EXCLUSIVE MODE"
_LOCK_NOT_AVAILABLE: Final = "55P03"
#: After a comparison of the lengths, wait this many times its duration.
_REST: Final = 100
_CORRECTION: Final = "WITH difference AS ({differences}), corrected AS ({correction}) SELECT * FROM difference"

#: Queue rows from the index of the queue's order, requests from the partial index of their status.
_LENGTH_DIFFERENCES: Final = f"""
    SELECT kind, weight, hour, sum(length)::bigint AS length
    FROM (
        SELECT 'rows' AS kind, priority_weight AS weight, date_trunc('hour', queued_at, 'UTC') AS hour,
            count(*) AS length
        FROM generation_queue GROUP BY 2, 3
        UNION ALL
        SELECT 'queued', 0, to_timestamp(0), count(*) FROM generation_requests WHERE status = 'queued'
        UNION ALL
        SELECT 'in-progress', 0, to_timestamp(0), count(*) FROM generation_requests WHERE status = 'in-progress'
        UNION ALL
        SELECT kind, weight, hour, -length FROM generation_queue_lengths
        UNION ALL
        SELECT part.kind, part.weight, part.hour, -part.length FROM generation_counter_changes AS change {LENGTHS}
    ) AS everything
    GROUP BY 1, 2, 3
    HAVING sum(length) <> 0
    ORDER BY 1, 2, 3
"""  # noqa: S608
_CORRECT_LENGTHS: Final = """
    INSERT INTO generation_counter_changes (at, weight, length, queued, in_progress)
    SELECT hour, weight, CASE kind WHEN 'rows' THEN length ELSE 0 END, CASE kind WHEN 'queued' THEN length ELSE 0 END,
        CASE kind WHEN 'in-progress' THEN length ELSE 0 END
    FROM difference
"""

#: The history by day and grain, counted as its trigger does. Pruning deletes history, so only later days are compared.
_COUNT_DIFFERENCES: Final = f"""
    WITH compared AS (
        SELECT greatest(date_trunc('day', statement_timestamp() - %(kept)s * interval '1 hour', 'UTC'),
            (SELECT max(start) FROM generation_counters WHERE grain = 'day' AND event = '{PRUNED}'),
            (SELECT max(at) FROM generation_counter_changes WHERE event = '{PRUNED}')) AS since
    ), history AS (
        SELECT date_trunc('hour', change.at, 'UTC') AS at,
            CASE WHEN change.to_status IN ('completed', 'failed', 'cancelled') THEN change.to_status
                ELSE change.reason END AS event,
            request.type, coalesce(attempt.provider, '') AS provider, change.error_code,
            CASE WHEN change.reason = 'claimed'
                    THEN greatest(0, extract(epoch FROM change.at - request.created_at) * 1000000)::bigint
                WHEN change.from_status = 'in-progress'
                    THEN greatest(0, extract(epoch FROM change.at - attempt.started_at) * 1000000)::bigint
                END AS microseconds
        FROM generation_status_changes AS change
        JOIN generation_requests AS request ON request.id = change.request_id
        LEFT JOIN generation_attempts AS attempt ON attempt.request_id = change.request_id
            AND attempt.claim = CASE WHEN change.from_status = 'in-progress' THEN change.claim END
        WHERE change.at >= (SELECT since FROM compared) AND (change.reason <> 'claimed' OR change.claim = 1)
    ), change AS (
        SELECT 1 AS sign, '' AS grain, at, event, type, provider, error_code,
            width_bucket(microseconds, %(bounds)s::bigint[]) AS bucket,
            count(*) AS count, sum(microseconds) AS microseconds, 0 AS cost
        FROM history
        GROUP BY at, event, type, provider, error_code, 8
        UNION ALL
        SELECT 1, '', day::timestamp AT TIME ZONE 'UTC', 'spent', '', '', '', NULL, sum(calls), NULL, sum(cost)
        FROM generation_spending
        GROUP BY day
        UNION ALL
        SELECT -1, grain, at, event, type, provider, error_code, {BUCKET}, count, microseconds, cost
        FROM generation_counter_changes AS change WHERE event NOT IN ('', '{PRUNED}')
    ), counted AS (
        SELECT sign, key.grain, key.start, event, key.type, key.provider, key.error_code,
            coalesce(bucket, -1) AS bucket, count, coalesce(microseconds, 0) AS microseconds, cost
        FROM change {KEYS}
        WHERE change.grain IN ('', key.grain)
        UNION ALL
        SELECT -1, grain, start, event, type, provider, error_code,
            part.bucket, part.count, part.microseconds, part.cost
        FROM generation_counters CROSS JOIN LATERAL (
            SELECT place - 1 AS bucket, element AS count, 0 AS microseconds, 0 AS cost
            FROM unnest(histogram) WITH ORDINALITY AS elements (element, place)
            UNION ALL
            SELECT -1, count - (SELECT sum(element) FROM unnest(histogram) AS element), microseconds, cost
        ) AS part
        WHERE event <> '{PRUNED}'
    )
    SELECT grain, start, event, type, provider, error_code, bucket::smallint AS bucket,
        sum(count)::bigint AS count, sum(microseconds)::bigint AS microseconds, sum(cost) AS cost
    FROM (
        -- The elements of a histogram hold counts, and the row's sums are compared once.
        SELECT grain, start, event, type, provider, error_code, bucket, sign * count AS count, 0 AS microseconds,
            0 AS cost FROM counted
        UNION ALL
        SELECT grain, start, event, type, provider, error_code, -1, 0, sign * microseconds, sign * cost FROM counted
    ) AS everything
    WHERE start >= (SELECT since FROM compared)
    GROUP BY grain, start, event, type, provider, error_code, bucket
    HAVING sum(count) <> 0 OR sum(microseconds) <> 0 OR sum(cost) <> 0
    ORDER BY grain, start, event, type, provider, error_code, bucket
"""  # noqa: S608
_CORRECT_COUNTS: Final = """
    INSERT INTO generation_counter_changes
        (at, grain, event, type, provider, error_code, bucket, count, microseconds, cost)
    SELECT start, grain, event, type, provider, error_code, bucket, count, microseconds, cost FROM difference
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """A counter that differs from the tables by ``missing``, negative if the counter is too high."""

    counter: str
    missing: int

    def __str__(self) -> str:
        return f"{self.counter}: {abs(self.missing):,} {'too few' if self.missing > 0 else 'too many'}"


def differences(*, fix: bool = False) -> list[Difference]:
    """Compare all counters with the tables, and insert corrections if ``fix``. Empty if all agree.

    Reads the history of 90 days, or that since the last pruning, so it takes some seconds for a million requests.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute("SET LOCAL work_mem = '64MB'")
        if fix:
            cursor.execute(_ONE_AT_A_TIME)
        return compare(cursor, fix=fix)


def compare(cursor: Any, *, fix: bool = False) -> list[Difference]:
    """Compare with a psycopg cursor, in the transaction of the caller."""
    found = _length_differences(cursor, fix=fix)
    values = {"kept": KEPT // timedelta(hours=1), "bounds": MICROSECONDS}
    for *key, bucket, count, microseconds, cost in _run(cursor, _COUNT_DIFFERENCES, _CORRECT_COUNTS, fix, values):
        name = _name(*key) if bucket < 0 else f"{_name(*key)}, element {bucket} of the histogram"
        units = {"": count, ", microseconds": microseconds, ", millionths of a US dollar": int(cost * 1_000_000)}
        found += [Difference(name + unit, missing) for unit, missing in units.items() if missing]
    return found


def _name(grain: str, start: datetime, event: str, *dimensions: str) -> str:
    told = " ".join(filter(None, (event, *dimensions)))
    return f"{told} in the {grain} of {start.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _run(cursor: Any, query: str, correction: str, fix: bool, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    cursor.execute(_CORRECTION.format(differences=query, correction=correction) if fix else query, values)
    rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _length_differences(cursor: Any, *, fix: bool) -> list[Difference]:
    found = []
    for kind, weight, hour, length in _run(cursor, _LENGTH_DIFFERENCES, _CORRECT_LENGTHS, fix, {}):
        rows = f"queue rows of weight {weight}, queued in the hour of {hour.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        found.append(Difference(rows if kind == "rows" else f"requests {kind}", length))
    return found


class LengthCheck:
    """Corrects the queue lengths every ``METRICS_COLLECTION_INTERVAL``, which is cheap for a queue of any length."""

    def __init__(self) -> None:
        self._due = 0.0

    def __call__(self) -> int:
        """Correct the lengths that differ, if it is time to. Return the number of them."""
        began = time.monotonic()
        if began < self._due:
            return 0
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"{_ONE_AT_A_TIME} NOWAIT")
                found = _length_differences(cursor, fix=True)
        except DatabaseError as error:
            if sqlstate(error) == _LOCK_NOT_AVAILABLE:
                return 0  # another process corrects, or VACUUM runs
            self._rest(began)  # a slow comparison must not delay every pass
            raise
        self._rest(began)
        for difference in found:
            logger.warning("corrected a counter: %s", difference, extra={"action": "correct-counter"})
        return len(found)

    def _rest(self, began: float) -> None:
        now = time.monotonic()
        self._due = now + max(settings.METRICS_COLLECTION_INTERVAL.total_seconds(), _REST * (now - began))


correct_lengths: Final = LengthCheck()
