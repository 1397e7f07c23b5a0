"""A worker's attempt: the claim, the call, the end, and the rescue of a lost one."""

from __future__ import annotations

from typing import Final

from generation.db.queries.reading import REQUEST

#: Make a queued request that is due this worker's, with a new attempt. Returns the request, or no row where it is not
#: queued, not due or paused, or where it belongs to a batch with a limit and no place is ``reserved``: the caller holds
#: the lock of the batch's row.
#:
#: Locks: the request, then its row in the queue. Where PostgreSQL had to wait for the request, it compares the newest
#: version of this row, but the snapshot of all others. Another worker may have claimed the request meanwhile and given
#: it back, with a new row in the queue; then ``sequence`` is not what the snapshot has.
#: Indexes: the primary keys of generation_requests, generation_queue and generation_batches.
CLAIM: Final = f"""/* claim */
WITH changed AS (
    UPDATE generation_requests AS request
    SET status = 'in-progress',
        sequence = request.sequence + 1,
        claims = request.claims + 1,
        attempts = request.attempts + 1,
        worker = %(worker)s::TEXT,
        started_at = STATEMENT_TIMESTAMP(),
        lease_expires_at = STATEMENT_TIMESTAMP() + %(lease)s::INTERVAL
    WHERE request.id = %(request)s::TEXT
        AND request.status = 'queued'
        AND request.sequence = (SELECT seen.sequence FROM generation_requests AS seen WHERE seen.id = %(request)s::TEXT)
        AND EXISTS (
            SELECT
            FROM generation_queue AS entry
            WHERE entry.request_id = request.id AND entry.available_at <= STATEMENT_TIMESTAMP()
        )
        AND NOT EXISTS (
            SELECT
            FROM generation_pauses AS pause
            WHERE pause.scope = 'everything'
                OR (pause.scope = 'priority' AND pause.value = request.priority)
                OR (pause.scope = 'type' AND pause.value = request.type)
        )
        AND (
            %(reserved)s::BOOLEAN
            OR NOT EXISTS (
                SELECT
                FROM generation_batches AS batch
                WHERE batch.id = request.batch_id AND batch.max_concurrent IS NOT NULL
            )
        )
    RETURNING request.*
), attempt AS (
    INSERT INTO generation_attempts (
        request_id, claim, number, worker, provider, model, prompt, provider_request_id, billable, usage, outcome,
        error_code, error_message
    )
    SELECT id, claims, attempts, worker, '', '', '', '', TRUE, '{{}}', 'running', '', ''
    FROM changed
), change AS (
    INSERT INTO generation_status_changes (
        request_id, sequence, from_status, to_status, reason, error_code, claim
    )
    SELECT id, sequence, 'queued', 'in-progress', 'claimed', '', claims
    FROM changed
), entry AS (
    DELETE FROM generation_queue WHERE request_id IN (SELECT id FROM changed)
)
SELECT {REQUEST}
FROM changed
"""

#: Note the call that is about to be sent with its running attempt, where its provider has neither limits nor trouble
#: and is not paused; otherwise no row is changed. Every end of a claim ends its attempt, so the attempt's row tells
#: whether the claim holds.
#:
#: Locks: the attempt.
#: Indexes: attempt_one_per_claim; the primary key of generation_providers.
BEGIN_CALL: Final = """/* begin call */
UPDATE generation_attempts AS attempt
SET provider = %(provider)s::TEXT,
    model = %(model)s::TEXT,
    prompt = %(prompt)s::TEXT,
    billable = %(billable)s::BOOLEAN,
    estimated_cost = %(estimate)s::NUMERIC,
    call_started_at = STATEMENT_TIMESTAMP(),
    call_deadline_at = STATEMENT_TIMESTAMP() + %(deadline)s::INTERVAL
WHERE attempt.request_id = %(request)s::TEXT
    AND attempt.claim = %(claim)s::INTEGER
    AND attempt.outcome = 'running'
    AND NOT EXISTS (SELECT FROM generation_providers AS state WHERE state.provider = %(provider)s::TEXT)
    AND NOT EXISTS (
        SELECT FROM generation_pauses AS pause WHERE pause.scope = 'provider' AND pause.value = %(provider)s::TEXT
    )
"""

# What every end of a claim writes beside the request itself.
_ATTEMPT_AND_COST: Final = """attempt AS (
    UPDATE generation_attempts AS attempt
    SET outcome = %(outcome)s::TEXT,
        finished_at = STATEMENT_TIMESTAMP(),
        call_deadline_at = CASE WHEN %(keep_deadline)s::BOOLEAN THEN attempt.call_deadline_at END,
        error_code = CASE WHEN %(outcome)s::TEXT = 'failed' THEN %(error_code)s::TEXT ELSE '' END,
        error_message = %(error_message)s::TEXT,
        provider_request_id = COALESCE(%(provider_request)s::TEXT, attempt.provider_request_id),
        model = COALESCE(%(model)s::TEXT, attempt.model),
        usage = COALESCE(%(usage)s::JSONB, attempt.usage),
        cost = %(cost)s::NUMERIC,
        booked_cost = %(booked)s::NUMERIC
    FROM changed
    WHERE attempt.request_id = changed.id AND attempt.claim = %(claim)s::INTEGER
), spent AS (
    INSERT INTO generation_spending AS spending (owner_id, day, calls, cost)
    SELECT owner_id, (STATEMENT_TIMESTAMP() AT TIME ZONE 'UTC')::DATE, 1, %(booked)s::NUMERIC
    FROM changed
    WHERE %(booked)s::NUMERIC > 0
    ON CONFLICT (owner_id, day) DO UPDATE
    SET calls = spending.calls + excluded.calls, cost = spending.cost + excluded.cost
), change AS (
    INSERT INTO generation_status_changes (
        request_id, sequence, from_status, to_status, reason, error_code, claim
    )
    SELECT id, sequence, 'in-progress', status, %(reason)s::TEXT, %(error_code)s::TEXT, claims
    FROM changed
)"""

# A claim holds while its number is the newest. Only the rescue asks for an ``expired`` lease.
_FENCE: Final = """request.id = %(request)s::TEXT
        AND request.status = 'in-progress'
        AND request.claims = %(claim)s::INTEGER
        AND (NOT %(expired)s::BOOLEAN OR request.lease_expires_at < STATEMENT_TIMESTAMP())"""

#: End a claim and its request: completed with a ``result``, or failed with an ``error``. Returns the request, or no row
#: where the claim does not hold any more.
#:
#: Locks: the request, its attempt, the owner's day of spending.
#: Indexes: request_in_progress_newest, attempt_one_per_claim, spending_one_per_day.
END: Final = f"""/* end */
WITH changed AS (
    UPDATE generation_requests AS request
    SET status = %(target)s::TEXT,
        sequence = request.sequence + 1,
        result = %(result)s::JSONB,
        error = %(error)s::JSONB,
        lease_expires_at = NULL,
        worker = '',
        completed_at = STATEMENT_TIMESTAMP()
    WHERE {_FENCE}
    RETURNING request.*
), {_ATTEMPT_AND_COST}
SELECT {REQUEST}
FROM changed
"""

#: End a claim and queue its request again. In a batch with a limit it is held until a place is free. Returns the
#: request and whether it is held, or no row where the claim does not hold any more.
#:
#: Locks and indexes: as END.
RELEASE: Final = f"""/* release */
WITH changed AS (
    UPDATE generation_requests AS request
    SET status = 'queued',
        sequence = request.sequence + 1,
        attempts = request.attempts - %(attempts_back)s::INTEGER,
        waits = request.waits + %(waits)s::INTEGER,
        lease_expires_at = NULL,
        worker = '',
        started_at = NULL
    WHERE {_FENCE}
    RETURNING request.*
), {_ATTEMPT_AND_COST}, entry AS (
    INSERT INTO generation_queue (
        request_id, priority_weight, available_at, weight_since, waits_for, held, dispatch_count, dispatched_at,
        redispatch_at
    )
    SELECT
        changed.id, %(weight)s::INTEGER,
        STATEMENT_TIMESTAMP() + %(delay)s::INTERVAL,
        STATEMENT_TIMESTAMP() + %(delay)s::INTERVAL,
        %(waits_for)s::TEXT, batch.id IS NOT NULL,
        CASE WHEN %(sent)s::BOOLEAN AND batch.id IS NULL THEN 1 ELSE 0 END,
        CASE WHEN %(sent)s::BOOLEAN AND batch.id IS NULL THEN STATEMENT_TIMESTAMP() END,
        CASE WHEN %(sent)s::BOOLEAN AND batch.id IS NULL THEN STATEMENT_TIMESTAMP() + %(lost_after)s::INTERVAL END
    FROM changed LEFT JOIN generation_batches AS batch
        ON batch.id = changed.batch_id AND batch.max_concurrent IS NOT NULL
    RETURNING held
)
SELECT {REQUEST}, held
FROM changed, entry
"""

#: Renew the leases of the claims that this worker still holds. Returns their requests and numbers.
#:
#: Locks: the requests, in the order of their ids.
#: Indexes: the primary key of generation_requests.
EXTEND_LEASES: Final = """/* extend leases */
WITH held AS (
    SELECT request.id, request.claims
    FROM generation_requests AS request
    JOIN UNNEST(%(requests)s::TEXT[], %(claims)s::INTEGER[]) AS mine(id, claims) ON mine.id = request.id
    WHERE request.status = 'in-progress' AND request.worker = %(worker)s::TEXT AND request.claims = mine.claims
    ORDER BY request.id
    FOR UPDATE OF request
)
UPDATE generation_requests AS request
SET lease_expires_at = STATEMENT_TIMESTAMP() + %(lease)s::INTERVAL
FROM held
WHERE request.id = held.id
RETURNING held.id, held.claims
"""

#: Requests whose leases ran out, the longest first.
#:
#: Locks: none.
#: Indexes: request_lease.
EXPIRED: Final = """/* expired leases */
SELECT id
FROM generation_requests
WHERE status = 'in-progress' AND lease_expires_at < STATEMENT_TIMESTAMP()
ORDER BY lease_expires_at
LIMIT %(most)s::INTEGER
"""

#: A request whose lease ran out, with what its attempt came to, and how many of its calls may have been billed without
#: an answer that is understood. No row where there is nothing to rescue, or another transaction is at it. A call that
#: is being noted locks its attempt alone: it is seen, or it finds that the claim does not hold any more.
#:
#: Locks: the request and its attempt.
#: Indexes: request_lease or the primary key of generation_requests, attempt_one_per_claim.
RESCUE: Final = """/* rescue */
SELECT {request}, attempt.provider, attempt.billable AND attempt.call_started_at IS NOT NULL, attempt.estimated_cost, (
    SELECT COUNT(*)
    FROM generation_attempts AS earlier
    WHERE earlier.request_id = request.id
        AND earlier.billable
        AND earlier.call_started_at IS NOT NULL
        AND earlier.error_code IN ('unknown_outcome', 'internal')
)
FROM generation_requests AS request
JOIN generation_attempts AS attempt ON attempt.request_id = request.id AND attempt.claim = request.claims
WHERE request.id = %(request)s::TEXT
    AND request.status = 'in-progress'
    AND request.lease_expires_at < STATEMENT_TIMESTAMP()
FOR UPDATE OF request, attempt SKIP LOCKED
""".replace("{request}", ", ".join(f"request.{column}" for column in REQUEST.split(", ")))
