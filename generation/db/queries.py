"""The statements that run for every request, as plain SQL.

- Words in lower case are names of tables, columns and aliases; :func:`generation.db.names.mistakes` compares them with
  the models when a process starts. Words in upper case are SQL. ``%(name)s`` is a parameter.
- A comment at the beginning names the statement in ``pg_stat_activity``, ``pg_stat_statements`` and the server's log.
- All times are the database's: ``STATEMENT_TIMESTAMP()``. Durations are intervals.
- Every statement locks in the same order, so that no two can wait for each other: the provider's row, the batch's row,
  requests in the order of their ids, their attempts, the owner's day of spending, their rows in the queue. Statements
  on rows of the queue alone skip rows that are locked.
- ``tests/integration/test_query_plans.py`` looks at the plans with 300,000 rows.
"""

from __future__ import annotations

from typing import Final

#: The most requests ahead of another that are counted one by one.
COUNTED: Final = 500

#: The columns of a request, in the order of the model's fields.
REQUEST: Final = (
    "id, owner_id, batch_id, type, prompt, priority, project_id, page_id, metadata, status, sequence, claims, attempts,"
    " max_attempts, waits, lease_expires_at, worker, estimated_cost, http_request_id, traceparent, result, error,"
    " created_at, started_at, completed_at"
)

# --- Into the queue ---

#: New requests with their rows in the queue and in the history. ``requests`` is a JSON array. Returns the time and, for
#: each weight among them, how many queued requests come before, at most ``counted``.
#:
#: Locks: no row that another transaction can see.
#: Indexes: queue_order, for the count. The statement does not see its own rows, so what it counts was there before.
SUBMIT: Final = """/* submit */
WITH given AS (
    SELECT *
    FROM JSON_TO_RECORDSET(%(requests)s::JSON) AS request(
        id TEXT, type TEXT, prompt TEXT, priority TEXT, project_id TEXT, page_id TEXT, metadata JSONB,
        max_attempts INTEGER, estimated_cost NUMERIC, priority_weight INTEGER, held BOOLEAN, sent BOOLEAN
    )
), weights AS (
    SELECT DISTINCT priority_weight FROM given
), ahead AS (
    SELECT weights.priority_weight, (
        SELECT COUNT(*)
        FROM (
            SELECT
            FROM generation_queue AS entry
            WHERE entry.priority_weight >= weights.priority_weight
            ORDER BY entry.priority_weight DESC, entry.queued_at
            LIMIT %(counted)s::INTEGER
        ) AS earlier
    ) AS count
    FROM weights
), requests AS (
    INSERT INTO generation_requests (
        id, owner_id, batch_id, type, prompt, priority, project_id, page_id, metadata, status, sequence, claims,
        attempts, max_attempts, waits, worker, estimated_cost, http_request_id, traceparent
    )
    SELECT
        id, %(owner)s::INTEGER, %(batch)s::TEXT, type, prompt, priority, project_id, page_id, metadata, 'queued', 1, 0,
        0, max_attempts, 0, '', estimated_cost, %(http_request)s::TEXT, %(traceparent)s::TEXT
    FROM given
), entries AS (
    INSERT INTO generation_queue (
        request_id, priority_weight, held, dispatch_count, dispatched_at, redispatch_at, waits_for
    )
    SELECT
        id, priority_weight, held, CASE WHEN sent THEN 1 ELSE 0 END,
        CASE WHEN sent THEN STATEMENT_TIMESTAMP() END,
        CASE WHEN sent THEN STATEMENT_TIMESTAMP() + %(lost_after)s::INTERVAL END,
        ''
    FROM given
), changes AS (
    INSERT INTO generation_status_changes (
        request_id, sequence, from_status, to_status, reason, error_code, claim, actor_id
    )
    SELECT id, 1, '', 'queued', 'submitted', '', 0, %(owner)s::INTEGER
    FROM given
)
SELECT STATEMENT_TIMESTAMP(), ahead.priority_weight, ahead.count
FROM ahead
"""

#: How many queued requests come before one that is queued, at most ``counted`` of a higher weight and as many of its
#: own. No row where it is not queued. The order is that of the index: without it, PostgreSQL, which plans once for all
#: parameters, would read the whole table where few rows come before.
#:
#: Locks: none.
#: Indexes: the primary key of generation_queue, queue_order.
COUNT_AHEAD: Final = """/* count ahead */
SELECT (
    SELECT COUNT(*)
    FROM (
        SELECT
        FROM generation_queue AS higher
        WHERE higher.priority_weight > entry.priority_weight
        ORDER BY higher.priority_weight DESC, higher.queued_at
        LIMIT %(counted)s::INTEGER
    ) AS more_pressing
) + (
    SELECT COUNT(*)
    FROM (
        SELECT
        FROM generation_queue AS equal
        WHERE equal.priority_weight = entry.priority_weight
            AND equal.queued_at <= entry.queued_at
            AND (equal.queued_at < entry.queued_at OR equal.request_id < entry.request_id)
        ORDER BY equal.queued_at
        LIMIT %(counted)s::INTEGER
    ) AS earlier
), entry.priority_weight, entry.queued_at
FROM generation_queue AS entry
WHERE entry.request_id = %(request)s::TEXT
"""

# --- A worker's attempt ---

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
#: an answer that is understood. No row where there is nothing to rescue, or another transaction is at it.
#:
#: Locks: the request.
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
FOR UPDATE OF request SKIP LOCKED
""".replace("{request}", ", ".join(f"request.{column}" for column in REQUEST.split(", ")))

# --- Messages ---

#: Mark rows of one queue as sent: those that were not, and those whose message counts as lost. ``lowest`` and
#: ``highest`` bound the weights of the queue; what is past ``highest`` has another. ``providers`` are all that there
#: are: while each of them is paused, nothing can start. Returns the request, its weight and since when it is queued.
#:
#: Only the front of the queue is looked at. What was sent is there, and what comes next is right behind; so this costs
#: the same however long the queue is. A message that was sent again and again more likely waits than is lost, so each
#: time it counts as lost later.
#:
#: Locks: rows of the queue; those that another transaction holds are being cancelled, or sent, and are skipped.
#: Indexes: queue_order; while a type or a priority is paused, the primary key of generation_requests.
SEND_DUE: Final = """/* send due */
WITH paused AS (
    SELECT pause.scope, pause.value FROM generation_pauses AS pause
), front AS (
    SELECT entry.request_id
    FROM generation_queue AS entry
    WHERE entry.priority_weight >= %(lowest)s::INTEGER
        AND entry.priority_weight < %(highest)s::INTEGER
        AND NOT entry.held
        AND entry.available_at <= STATEMENT_TIMESTAMP()
        AND NOT EXISTS (SELECT FROM paused WHERE scope = 'everything')
        AND (SELECT COUNT(*) FROM paused WHERE scope = 'provider' AND value = ANY(%(providers)s::TEXT[]))
            < CARDINALITY(%(providers)s::TEXT[])
        AND (
            NOT EXISTS (SELECT FROM paused WHERE scope IN ('type', 'priority'))
            OR NOT EXISTS (
                SELECT
                FROM generation_requests AS request
                JOIN paused ON (paused.scope = 'type' AND paused.value = request.type)
                    OR (paused.scope = 'priority' AND paused.value = request.priority)
                WHERE request.id = entry.request_id
            )
        )
    ORDER BY entry.priority_weight DESC, entry.queued_at, entry.request_id
    LIMIT %(front)s::INTEGER
), due AS (
    SELECT entry.request_id
    FROM generation_queue AS entry
    WHERE entry.request_id IN (SELECT front.request_id FROM front)
        AND (entry.redispatch_at IS NULL OR entry.redispatch_at <= STATEMENT_TIMESTAMP())
    ORDER BY entry.priority_weight DESC, entry.queued_at, entry.request_id
    LIMIT %(room)s::INTEGER
    FOR UPDATE OF entry SKIP LOCKED
)
UPDATE generation_queue AS entry
SET dispatched_at = STATEMENT_TIMESTAMP(),
    redispatch_at = STATEMENT_TIMESTAMP()
        + %(lost_after)s::INTERVAL * LEAST(POWER(2, LEAST(entry.dispatch_count, 30)), %(most_patience)s::INTEGER),
    dispatch_count = entry.dispatch_count + 1
FROM due
WHERE entry.request_id = due.request_id
RETURNING entry.request_id, entry.priority_weight, entry.queued_at
"""

# --- Reading ---

#: A request by its id, of the ``owner`` where one is given.
#:
#: Locks: none.
#: Indexes: the primary key of generation_requests.
FIND: Final = f"""/* find */
SELECT {REQUEST}
FROM generation_requests
WHERE id = %(request)s::TEXT AND (%(owner)s::INTEGER IS NULL OR owner_id = %(owner)s::INTEGER)
"""

#: Requests by their ids, in no order: one statement for any number.
#:
#: Locks: none.
#: Indexes: the primary key of generation_requests.
FIND_ALL: Final = f"""/* find all */
SELECT {REQUEST}
FROM generation_requests
WHERE id = ANY(%(requests)s::TEXT[])
"""

ALL: Final = {
    "submit": SUBMIT,
    "count ahead": COUNT_AHEAD,
    "claim": CLAIM,
    "begin call": BEGIN_CALL,
    "end": END,
    "release": RELEASE,
    "extend leases": EXTEND_LEASES,
    "expired leases": EXPIRED,
    "rescue": RESCUE,
    "send due": SEND_DUE,
    "find": FIND,
    "find all": FIND_ALL,
}
