"""What estimates are made of: recent durations, and estimates beside what came of them."""

from __future__ import annotations

from typing import Final

#: The attempts of the newest completed requests, and of those that failed meanwhile: newest request first, and of each
#: the earliest attempt first. Whether images were sent, whether the provider was called, the seconds of the attempt,
#: and the seconds from its start to the end of the request.
#:
#: The limit on the attempts of one request makes PostgreSQL look them up by their index, rather than read the table.
#:
#: Locks: none.
#: Indexes: request_completed_newest, request_failed_newest, attempt_one_per_claim.
DURATIONS: Final = """/* recent durations */
WITH completed AS (
    SELECT id, type, inputs IS NOT NULL AS with_images, completed_at
    FROM generation_requests
    WHERE status = 'completed'
    ORDER BY id DESC
    LIMIT %(newest)s::INTEGER
), failed AS (
    SELECT id, type, inputs IS NOT NULL AS with_images, completed_at
    FROM generation_requests
    WHERE status = 'failed' AND id > (SELECT MIN(completed.id) FROM completed)
    ORDER BY id DESC
    LIMIT %(newest)s::INTEGER
)
SELECT
    ended.id, ended.type, ended.with_images, attempt.model, attempt.outcome, attempt.call_started_at IS NOT NULL,
    EXTRACT(EPOCH FROM attempt.finished_at - attempt.started_at)::FLOAT8,
    EXTRACT(EPOCH FROM ended.completed_at - attempt.started_at)::FLOAT8
FROM (SELECT * FROM completed UNION ALL SELECT * FROM failed) AS ended
CROSS JOIN LATERAL (
    SELECT *
    FROM generation_attempts AS every
    WHERE every.request_id = ended.id AND every.finished_at IS NOT NULL
    ORDER BY every.claim
    LIMIT 30
) AS attempt
ORDER BY ended.id DESC, attempt.claim
"""

#: Measure open estimates: set when their requests first started, and delete those whose requests ended without a start
#: or are gone. Of the open ones at most ``most`` are looked at, the oldest first, and the newest ones beyond that are
#: deleted, as are the oldest measured ones beyond ``kept``. Returns how many were measured.
#:
#: Locks: rows of generation_estimates, except those that are locked.
#: Indexes: estimate_open, estimate_measured, the primary key of generation_requests, status_change_sequence_unique.
MEASURE: Final = """/* measure estimates */
WITH open AS (
    SELECT given.request_id, given.given_at
    FROM generation_estimates AS given
    WHERE given.measured_at IS NULL
    ORDER BY given.given_at
    LIMIT %(most)s::INTEGER
    FOR UPDATE OF given SKIP LOCKED
), looked AS (
    SELECT open.request_id, open.given_at, request.claims, COALESCE(request.status, '') AS status
    FROM open
    LEFT JOIN LATERAL (
        SELECT kept.claims, kept.status FROM generation_requests AS kept WHERE kept.id = open.request_id LIMIT 1
    ) AS request ON TRUE
), started AS (
    SELECT looked.request_id, EXTRACT(EPOCH FROM change.at - looked.given_at)::FLOAT8 AS started_after
    FROM looked
    CROSS JOIN LATERAL (
        SELECT status_change.at
        FROM generation_status_changes AS status_change
        WHERE status_change.request_id = looked.request_id AND status_change.reason = 'claimed'
        ORDER BY status_change.sequence
        LIMIT 1
    ) AS change
    WHERE looked.claims > 0
), measured AS (
    UPDATE generation_estimates AS given
    SET started_after = GREATEST(0, started.started_after), measured_at = STATEMENT_TIMESTAMP()
    FROM started
    WHERE given.request_id = started.request_id
    RETURNING given.request_id
), dropped AS (
    DELETE FROM generation_estimates AS given
    WHERE given.request_id IN (
        SELECT looked.request_id
        FROM looked
        WHERE looked.status NOT IN ('queued', 'in-progress')
            AND looked.request_id NOT IN (SELECT started.request_id FROM started)
    ) OR given.request_id IN (
        SELECT beyond.request_id
        FROM generation_estimates AS beyond
        WHERE beyond.measured_at IS NULL
        ORDER BY beyond.given_at
        OFFSET %(most)s::INTEGER
    ) OR given.request_id IN (
        SELECT beyond.request_id
        FROM generation_estimates AS beyond
        WHERE beyond.measured_at IS NOT NULL
        ORDER BY beyond.measured_at DESC
        OFFSET %(kept)s::INTEGER
    )
)
SELECT COUNT(*) FROM measured
"""

#: The newest measured estimates.
#:
#: Locks: none.
#: Indexes: estimate_measured.
MEASURED: Final = """/* measured estimates */
SELECT estimated_p50, estimated_p90, given_p50, given_p90, started_after
FROM generation_estimates
WHERE measured_at IS NOT NULL
ORDER BY measured_at DESC
LIMIT %(newest)s::INTEGER
"""
