"""A worker's attempt: the claim, the call, the end, and the rescue of a lost one."""

from __future__ import annotations

from typing import Final

from generation.db.queries.reading import REQUEST, of_request

# The statements take any number of rows. Each has two forms. Alone, a row waits for its lock. In a group, rows that are
# locked are skipped, so that a row that another transaction holds delays no other; it is then run alone.
_SKIP: Final = " SKIP LOCKED"

#: Make queued requests that are due this worker's, with a new attempt each. Returns the claimed requests: those that
#: are queued, due and not paused, and belong to no batch and no API key with a limit, unless their slots in it are
#: ``reserved``: the caller holds the lock of the limit's row.
#:
#: Locks: the requests, then their rows in the queue. Where PostgreSQL had to wait for a request, it compares the newest
#: version of this row, but the snapshot of all others. Another worker may have claimed the request meanwhile and given
#: it back, with a new row in the queue; then ``sequence`` is not what the snapshot has.
#: Indexes: the primary keys of generation_requests, generation_queue, generation_batches and generation_api_keys.
_CLAIM: Final = f"""/* claim */
WITH free AS (
    SELECT request.id
    FROM generation_requests AS request
    WHERE request.id = ANY(%(requests)s::TEXT[])
        AND request.status = 'queued'
        AND request.sequence = (SELECT seen.sequence FROM generation_requests AS seen WHERE seen.id = request.id)
        AND EXISTS (
            SELECT
            FROM generation_queue AS entry
            WHERE entry.request_id = request.id
                AND entry.available_at <= STATEMENT_TIMESTAMP()
                AND entry.priority_weight > 0
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
            ) AND NOT EXISTS (
                SELECT
                FROM generation_api_keys AS key
                WHERE key.id = request.api_key_id AND key.max_active IS NOT NULL
            )
        )
    ORDER BY request.id
    FOR UPDATE OF request{{locked}}
), changed AS (
    UPDATE generation_requests AS request
    SET status = 'in-progress',
        sequence = request.sequence + 1,
        claims = request.claims + 1,
        attempts = request.attempts + 1,
        worker = %(worker)s::TEXT,
        started_at = STATEMENT_TIMESTAMP(),
        lease_expires_at = STATEMENT_TIMESTAMP() + %(lease)s::INTERVAL
    FROM free
    WHERE request.id = free.id
    RETURNING request.*
), attempt AS (
    INSERT INTO generation_attempts (
        request_id, claim, api_key_id, number, worker, provider, model, prompt, provider_request_id, billable, usage,
        outcome, error_code, error_message
    )
    SELECT id, claims, api_key_id, attempts, worker, '', '', '', '', TRUE, '{{{{}}}}', 'running', '', ''
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
CLAIM: Final = _CLAIM.format(locked="")
CLAIM_UNLOCKED: Final = _CLAIM.format(locked=_SKIP)

#: Note the calls that are about to be sent with their running attempts, where their providers have neither limits nor
#: trouble and are not paused. Returns the requests and claims of the noted ones. Every end of a claim ends its attempt,
#: so the attempt's row tells whether the claim holds. ``calls`` is an array of objects.
#:
#: Locks: the attempts, except those that are locked.
#: Indexes: attempt_one_per_claim; the primary key of generation_providers.
BEGIN_CALLS: Final = """/* begin calls */
WITH call AS (
    SELECT *
    FROM JSONB_TO_RECORDSET(%(calls)s::JSONB) AS call (
        request TEXT, claim INTEGER, provider TEXT, model TEXT, prompt TEXT, billable BOOLEAN, estimate NUMERIC
    )
), free AS (
    SELECT attempt.id
    FROM generation_attempts AS attempt
    JOIN call ON call.request = attempt.request_id AND call.claim = attempt.claim
    WHERE attempt.outcome = 'running'
        AND NOT EXISTS (SELECT FROM generation_providers AS state WHERE state.provider = call.provider)
        AND NOT EXISTS (
            SELECT FROM generation_pauses AS pause WHERE pause.scope = 'provider' AND pause.value = call.provider
        )
    ORDER BY attempt.request_id
    FOR UPDATE OF attempt SKIP LOCKED
)
UPDATE generation_attempts AS attempt
SET provider = call.provider,
    model = call.model,
    prompt = call.prompt,
    billable = call.billable,
    estimated_cost = call.estimate,
    call_started_at = STATEMENT_TIMESTAMP(),
    call_deadline_at = STATEMENT_TIMESTAMP() + %(deadline)s::INTERVAL
FROM free, call
WHERE attempt.id = free.id AND call.request = attempt.request_id AND call.claim = attempt.claim
RETURNING attempt.request_id, attempt.claim
"""

# ``requests`` repeats the ids of the ends, since PostgreSQL plans for few elements of an array and many rows of JSON.
# The ends of claims, each of which holds while its number is the newest. Only the rescue asks for an ``expired`` lease.
_ENDINGS: Final = """ending AS (
    SELECT *
    FROM JSONB_TO_RECORDSET(%(endings)s::JSONB) AS ending (
        request TEXT, claim INTEGER, expired BOOLEAN, target TEXT, reason TEXT, result JSONB, error JSONB,
        outcome TEXT, error_code TEXT, error_message TEXT, provider_request TEXT, model TEXT, usage JSONB,
        cost NUMERIC, booked NUMERIC, keep_deadline BOOLEAN,
        attempts_back INTEGER, waits INTEGER, weight INTEGER, delay NUMERIC, waits_for TEXT, sent BOOLEAN
    )
), held AS (
    SELECT request.id
    FROM generation_requests AS request
    JOIN ending ON ending.request = request.id AND ending.claim = request.claims
    WHERE request.id = ANY(%(requests)s::TEXT[])
        AND request.status = 'in-progress'
        AND (NOT ending.expired OR request.lease_expires_at < STATEMENT_TIMESTAMP())
    ORDER BY request.id
    FOR UPDATE OF request{locked}
)"""

# What every end of a claim writes beside the request itself.
_ATTEMPT_AND_COST: Final = """attempt AS (
    UPDATE generation_attempts AS attempt
    SET outcome = ending.outcome,
        finished_at = STATEMENT_TIMESTAMP(),
        call_deadline_at = CASE WHEN ending.keep_deadline THEN attempt.call_deadline_at END,
        error_code = CASE WHEN ending.outcome = 'failed' THEN ending.error_code ELSE '' END,
        error_message = ending.error_message,
        provider_request_id = COALESCE(ending.provider_request, attempt.provider_request_id),
        model = COALESCE(ending.model, attempt.model),
        usage = COALESCE(ending.usage, attempt.usage),
        cost = ending.cost,
        booked_cost = ending.booked
    FROM changed JOIN ending ON ending.request = changed.id AND ending.claim = changed.claims
    WHERE attempt.request_id = changed.id AND attempt.claim = changed.claims
), spent AS (
    INSERT INTO generation_spending AS spending (owner_id, day, calls, cost)
    SELECT changed.owner_id, (STATEMENT_TIMESTAMP() AT TIME ZONE 'UTC')::DATE, COUNT(*), SUM(ending.booked)
    FROM changed JOIN ending ON ending.request = changed.id AND ending.claim = changed.claims
    WHERE ending.booked > 0
    GROUP BY changed.owner_id
    ORDER BY changed.owner_id
    ON CONFLICT (owner_id, day) DO UPDATE
    SET calls = spending.calls + excluded.calls, cost = spending.cost + excluded.cost
), change AS (
    INSERT INTO generation_status_changes (
        request_id, sequence, from_status, to_status, reason, error_code, claim
    )
    SELECT changed.id, changed.sequence, 'in-progress', changed.status, ending.reason, ending.error_code, changed.claims
    FROM changed JOIN ending ON ending.request = changed.id AND ending.claim = changed.claims
)"""

#: End claims and their requests: completed with a ``result``, or failed with an ``error``. Returns the requests whose
#: claims held, each with whether its batch or its API key has a limit, and whether another request refers to it.
#:
#: Locks: the requests, their attempts, the owners' day of spending.
#: Indexes: request_in_progress_newest, attempt_one_per_claim, spending_one_per_day, reference_source.
_END: Final = f"""/* end */
WITH {_ENDINGS}, changed AS (
    UPDATE generation_requests AS request
    SET status = ending.target,
        sequence = request.sequence + 1,
        result = ending.result,
        error = ending.error,
        lease_expires_at = NULL,
        worker = '',
        completed_at = STATEMENT_TIMESTAMP()
    FROM held JOIN ending ON ending.request = held.id
    WHERE request.id = held.id AND request.claims = ending.claim
    RETURNING request.*
), {_ATTEMPT_AND_COST}
SELECT {REQUEST}, EXISTS (
    SELECT FROM generation_batches AS batch WHERE batch.id = changed.batch_id AND batch.max_concurrent IS NOT NULL
) OR EXISTS (
    SELECT FROM generation_api_keys AS key WHERE key.id = changed.api_key_id AND key.max_active IS NOT NULL
), EXISTS (
    SELECT FROM generation_references AS image WHERE image.source_id = changed.id
)
FROM changed
"""
END: Final = _END.replace("{locked}", "")
END_UNLOCKED: Final = _END.replace("{locked}", _SKIP)

#: End claims and queue their requests again. If its batch or its API key has a limit, a request is held until a slot
#: is free. Returns the requests whose claims held, each with whether it is held.
#:
#: Locks and indexes: as END.
_RELEASE: Final = f"""/* release */
WITH {_ENDINGS}, changed AS (
    UPDATE generation_requests AS request
    SET status = 'queued',
        sequence = request.sequence + 1,
        attempts = request.attempts - ending.attempts_back,
        waits = request.waits + ending.waits,
        lease_expires_at = NULL,
        worker = '',
        started_at = NULL
    FROM held JOIN ending ON ending.request = held.id
    WHERE request.id = held.id AND request.claims = ending.claim
    RETURNING request.*
), {_ATTEMPT_AND_COST}, entry AS (
    INSERT INTO generation_queue (
        request_id, priority_weight, fair_key, available_at, weight_since, waits_for, held, dispatch_count,
        dispatched_at, redispatch_at
    )
    SELECT
        changed.id, ending.weight, changed.fair_key,
        STATEMENT_TIMESTAMP() + ending.delay * INTERVAL '1 second',
        STATEMENT_TIMESTAMP() + ending.delay * INTERVAL '1 second',
        ending.waits_for, NOT is_free,
        CASE WHEN ending.sent AND is_free THEN 1 ELSE 0 END,
        CASE WHEN ending.sent AND is_free THEN STATEMENT_TIMESTAMP() END,
        CASE WHEN ending.sent AND is_free THEN STATEMENT_TIMESTAMP() + %(lost_after)s::INTERVAL END
    FROM changed
    JOIN ending ON ending.request = changed.id AND ending.claim = changed.claims
    LEFT JOIN generation_batches AS batch ON batch.id = changed.batch_id AND batch.max_concurrent IS NOT NULL
    LEFT JOIN generation_api_keys AS key ON key.id = changed.api_key_id AND key.max_active IS NOT NULL
    CROSS JOIN LATERAL (SELECT batch.id IS NULL AND key.id IS NULL AS is_free) AS slots
    RETURNING request_id, held
)
SELECT {REQUEST}, held, FALSE
FROM changed JOIN entry ON entry.request_id = changed.id
"""
RELEASE: Final = _RELEASE.replace("{locked}", "")
RELEASE_UNLOCKED: Final = _RELEASE.replace("{locked}", _SKIP)

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
""".replace("{request}", of_request(REQUEST))
