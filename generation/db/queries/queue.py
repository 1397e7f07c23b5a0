"""Into the queue, the place in it, and the messages that are sent from it."""

from __future__ import annotations

from typing import Final

from generation.db.queries.reading import REQUEST, of_request

#: The most requests ahead of another that are counted one by one. It is written into the statements: PostgreSQL would
#: guess a tenth of the table for a parameter, and so make a plan for each call instead of keeping one.
COUNTED: Final = 500

#: New requests of any owners with their rows in the queue and in the history, and the images that are sent with them.
#: ``requests`` is a JSON array; the ``images`` of each are an array of positions with sources or uploads. Returns the
#: id of each with the time, its turn, and how many rows come before: at most COUNTED of higher weights and as many of
#: its own. A trigger gives the turns, see ``generation.models.work.GenerationQueue``.
#:
#: Locks: sources and uploads, against their deletion; no other row that another transaction can see. They are locked
#: by the foreign keys' checks, which run at the commit in the order in which the rows were inserted.
#: Indexes: queue_turns, for the count. The statement does not see its own rows, so what it counts was there before.
SUBMIT: Final = f"""/* submit */
WITH given AS (
    SELECT *
    FROM JSON_TO_RECORDSET(%(requests)s::JSON) AS request(
        id TEXT, type TEXT, prompt TEXT, priority TEXT, project_id TEXT, page_id TEXT, metadata JSONB,
        variation INTEGER, inputs JSONB, images JSONB, max_attempts INTEGER, estimated_cost NUMERIC, api_key_id TEXT,
        cancel_after NUMERIC, not_before TIMESTAMPTZ, fair_key TEXT, owner_id INTEGER, batch_id TEXT,
        http_request_id TEXT, traceparent TEXT, webhook_url TEXT, webhook_events JSONB, priority_weight INTEGER,
        held BOOLEAN, sent BOOLEAN
    )
), weights AS (
    SELECT DISTINCT priority_weight FROM given
), ahead AS (
    SELECT weights.priority_weight, (
        SELECT COUNT(*)
        FROM (
            SELECT
            FROM generation_queue AS entry
            WHERE entry.priority_weight > weights.priority_weight
            ORDER BY entry.priority_weight DESC, entry.turn, entry.queued_at
            LIMIT {COUNTED}
        ) AS more_pressing
    ) AS count, ARRAY(
        SELECT entry.turn
        FROM generation_queue AS entry
        WHERE entry.priority_weight = weights.priority_weight
        ORDER BY entry.turn, entry.queued_at
        LIMIT {COUNTED}
    ) AS turns
    FROM weights
), requests AS (
    INSERT INTO generation_requests (
        id, owner_id, batch_id, type, prompt, priority, project_id, page_id, metadata, variation, inputs, status,
        sequence, claims, attempts, max_attempts, waits, worker, estimated_cost, http_request_id, traceparent,
        api_key_id, not_before, fair_key, webhook_url, webhook_events, cancel_at
    )
    SELECT
        id, owner_id, batch_id, type, prompt, priority, project_id, page_id, metadata, variation, inputs, 'queued', 1,
        0, 0, max_attempts, 0, '', estimated_cost, http_request_id, traceparent, api_key_id, not_before, fair_key,
        webhook_url, webhook_events, STATEMENT_TIMESTAMP() + cancel_after * INTERVAL '1 second'
    FROM given
), entries AS (
    INSERT INTO generation_queue (
        request_id, priority_weight, fair_key, available_at, held, dispatch_count, dispatched_at, redispatch_at,
        waits_for
    )
    SELECT
        id, priority_weight, fair_key, GREATEST(STATEMENT_TIMESTAMP(), not_before), held,
        CASE WHEN sent THEN 1 ELSE 0 END,
        CASE WHEN sent THEN STATEMENT_TIMESTAMP() END,
        CASE WHEN sent THEN STATEMENT_TIMESTAMP() + %(lost_after)s::INTERVAL END,
        ''
    FROM given
    RETURNING request_id, priority_weight, turn
), images AS (
    INSERT INTO generation_references (request_id, position, source_id, upload_id)
    SELECT given.id, image.position, image.source, image.upload
    FROM given
    CROSS JOIN LATERAL JSONB_TO_RECORDSET(given.images) AS image(position INTEGER, source TEXT, upload TEXT)
    WHERE given.images IS NOT NULL
    ORDER BY image.source, image.upload
), changes AS (
    INSERT INTO generation_status_changes (
        request_id, sequence, from_status, to_status, reason, error_code, claim, actor_id
    )
    SELECT id, 1, '', 'queued', 'submitted', '', 0, owner_id
    FROM given
)
SELECT entries.request_id, STATEMENT_TIMESTAMP(), entries.turn, ahead.count + WIDTH_BUCKET(entries.turn, ahead.turns)
FROM entries JOIN ahead ON ahead.priority_weight = entries.priority_weight
"""

#: Take an idempotency key for a call. No row if it was taken by an earlier call less than ``lifetime`` ago.
#:
#: Locks: the key. A concurrent call with the same key waits for the end of the transaction that has taken it.
#: Indexes: idempotency_key_unique_per_owner.
TAKE_KEY: Final = """/* take key */
INSERT INTO generation_idempotency_keys AS taken (owner_id, key, fingerprint, answer)
VALUES (%(owner)s::INTEGER, %(key)s::TEXT, %(fingerprint)s::TEXT, '')
ON CONFLICT (owner_id, key) DO UPDATE
SET fingerprint = excluded.fingerprint, answer = '', created_at = STATEMENT_TIMESTAMP()
WHERE taken.created_at < STATEMENT_TIMESTAMP() - %(lifetime)s::INTERVAL
RETURNING taken.owner_id
"""

# The place of a queue row, as ``generation.queue.estimates.Place``: how many rows come before ``entry``, at most
# COUNTED of a higher weight, as many of its own weight, and as many of these of the same owner; and its columns.
# Each order is that of one index: without it, PostgreSQL, which plans once for all parameters, would read the whole
# table where few rows come before.
_PLACE: Final = f"""(
    SELECT COUNT(*)
    FROM (
        SELECT
        FROM generation_queue AS higher
        WHERE higher.priority_weight > entry.priority_weight
        ORDER BY higher.priority_weight DESC, higher.turn, higher.queued_at
        LIMIT {COUNTED}
    ) AS more_pressing
), (
    SELECT COUNT(*)
    FROM (
        SELECT
        FROM generation_queue AS equal
        WHERE equal.priority_weight = entry.priority_weight
            AND (equal.turn, equal.queued_at, equal.request_id) < (entry.turn, entry.queued_at, entry.request_id)
        ORDER BY equal.turn, equal.queued_at
        LIMIT {COUNTED}
    ) AS earlier
), (
    SELECT COUNT(*)
    FROM (
        SELECT
        FROM generation_queue AS own
        WHERE own.fair_key = entry.fair_key
            AND own.fair_key <> ''
            AND own.priority_weight >= entry.priority_weight
            AND (own.priority_weight, own.turn) < (entry.priority_weight, entry.turn)
        ORDER BY own.priority_weight DESC, own.turn DESC
        LIMIT {COUNTED}
    ) AS earlier
), entry.priority_weight, entry.turn, entry.queued_at, entry.available_at, entry.held, entry.waits_for,
entry.fair_key"""

#: The place of a queued request. No row where it is not queued.
#:
#: Locks: none.
#: Indexes: the primary key of generation_queue, queue_turns, queue_fair_key.
COUNT_AHEAD: Final = f"""/* count ahead */
SELECT {_PLACE}
FROM generation_queue AS entry
WHERE entry.request_id = %(request)s::TEXT
"""

_FIND_AHEAD: Final = f"""
{_PLACE}
FROM generation_requests AS request
LEFT JOIN generation_queue AS entry ON entry.request_id = request.id
WHERE request.id = %(request)s::TEXT
    AND (%(owner)s::INTEGER IS NULL OR request.owner_id = %(owner)s::INTEGER)
"""

#: A request by its id, of the ``owner`` where one is given, with its place. Where it is not queued, nothing comes
#: before, and the columns are NULL.
#:
#: Locks: none.
#: Indexes: the primary keys of generation_requests and generation_queue, queue_turns, queue_fair_key.
FIND_AHEAD: Final = f"/* find with ahead */\nSELECT {of_request(REQUEST)}, {_FIND_AHEAD}"

#: The columns that the entity tag of a status and the estimate depend on.
VERSION: Final = (
    "id, batch_id, type, priority, project_id, metadata, inputs, api_key_id, not_before, status, sequence, claims,"
    " attempts, waits, approval, approval_note"
)

#: Like FIND_AHEAD, but with these columns only.
#:
#: Locks: none.
#: Indexes: the primary keys of generation_requests and generation_queue, queue_turns, queue_fair_key.
FIND_VERSION: Final = f"/* find version */\nSELECT {of_request(VERSION)}, {_FIND_AHEAD}"

#: Mark rows of one queue as sent: those that were not, and those whose message counts as lost. ``lowest`` and
#: ``highest`` bound the weights of the queue; what is past ``highest`` has another. ``providers`` are all that there
#: are: while each of them is paused, nothing can start. Returns the request, its weight, its turn and since when it is
#: queued.
#:
#: Only the front of the queue is looked at. What was sent is there, and what comes next is right behind; so this costs
#: the same however long the queue is. A message that was sent again and again more likely waits than is lost, so each
#: time it counts as lost later.
#:
#: Locks: rows of the queue; those that another transaction holds are being cancelled, or sent, and are skipped.
#: Indexes: queue_startable; while a type or a priority is paused, the primary key of generation_requests.
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
    ORDER BY entry.priority_weight DESC, entry.turn, entry.queued_at, entry.request_id
    LIMIT %(front)s::INTEGER
), due AS (
    SELECT entry.request_id
    FROM generation_queue AS entry
    WHERE entry.request_id IN (SELECT front.request_id FROM front)
        AND (entry.redispatch_at IS NULL OR entry.redispatch_at <= STATEMENT_TIMESTAMP())
    ORDER BY entry.priority_weight DESC, entry.turn, entry.queued_at, entry.request_id
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
RETURNING entry.request_id, entry.priority_weight, entry.turn, entry.queued_at
"""

#: Let those of the requests start that are parked, whose images are all there and whose time has come. Returns them,
#: each with whether it is held, since its batch or its API key has a limit. ``weights`` maps priorities to weights.
#:
#: Locks: rows of the queue; those that another transaction holds are skipped, and looked at later.
#: Indexes: the primary keys of generation_queue and generation_requests, reference_position_unique.
UNPARK: Final = """/* unpark */
WITH ready AS (
    SELECT entry.request_id
    FROM generation_queue AS entry
    WHERE entry.request_id = ANY(%(requests)s::TEXT[])
        AND entry.priority_weight = 0
        AND NOT EXISTS (
            SELECT
            FROM generation_requests AS request
            WHERE request.id = entry.request_id AND request.not_before > STATEMENT_TIMESTAMP()
        )
        AND NOT EXISTS (
            SELECT
            FROM generation_references AS image
            LEFT JOIN generation_requests AS source ON source.id = image.source_id
            WHERE image.request_id = entry.request_id
                AND image.upload_id IS NULL
                AND source.status IS DISTINCT FROM 'completed'
        )
    ORDER BY entry.request_id
    FOR UPDATE OF entry SKIP LOCKED
)
UPDATE generation_queue AS entry
SET priority_weight = (%(weights)s::JSONB ->> request.priority)::INTEGER,
    available_at = STATEMENT_TIMESTAMP(),
    weight_since = STATEMENT_TIMESTAMP(),
    held = EXISTS (
        SELECT FROM generation_batches AS batch WHERE batch.id = request.batch_id AND batch.max_concurrent IS NOT NULL
    ) OR EXISTS (
        SELECT FROM generation_api_keys AS key WHERE key.id = request.api_key_id AND key.max_active IS NOT NULL
    )
FROM ready
JOIN generation_requests AS request ON request.id = ready.request_id
WHERE entry.request_id = ready.request_id
RETURNING entry.request_id, entry.held, request.batch_id, request.api_key_id
"""
