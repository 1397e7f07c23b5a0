"""Webhooks: from events to deliveries, and the leases and results of deliveries."""

from __future__ import annotations

from typing import Final

#: An entry of a delivery's log that no attempt wrote.
_ENTRY: Final = """JSONB_BUILD_ARRAY(JSONB_BUILD_OBJECT(
    'at', TO_CHAR(STATEMENT_TIMESTAMP() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'status', NULL, 'error', %(error)s::TEXT, 'ms', 0
))"""

#: Note the approval of an image, as the trigger on generation_status_changes notes a status.
#:
#: Locks: none that another transaction waits for.
#: Indexes: the primary keys of generation_requests and generation_batches, webhook_endpoint_owner.
NOTE_APPROVAL: Final = """/* note approval */
INSERT INTO generation_webhook_events (request_id, sequence, event, snapshot)
SELECT request.id, request.sequence, 'request.approved', GENERATION_WEBHOOK_SNAPSHOT(request)
FROM generation_requests AS request
LEFT JOIN generation_batches AS batch ON batch.id = request.batch_id AND batch.webhook_url <> ''
WHERE request.id = %(request)s::TEXT
    AND (
        (request.webhook_url <> '' AND request.webhook_events ? 'request.approved')
        OR batch.webhook_events ? 'request.approved'
        OR EXISTS (
            SELECT
            FROM generation_webhook_endpoints AS endpoint
            WHERE endpoint.owner_id = request.owner_id
                AND endpoint.enabled
                AND endpoint.events ? 'request.approved'
        )
    )
"""

#: Take the oldest events for the fan-out. Returns each with the request's owner, project, batch and webhook, and with
#: the batch's webhook; without these if the request was deleted.
#:
#: Locks: the events; those that another process has are skipped.
#: Indexes: the primary keys of generation_webhook_events, generation_requests and generation_batches.
TAKE_EVENTS: Final = """/* take webhook events */
WITH taken AS (
    DELETE FROM generation_webhook_events
    WHERE id IN (
        SELECT noted.id
        FROM generation_webhook_events AS noted
        ORDER BY noted.id
        LIMIT %(most)s::INTEGER
        FOR UPDATE OF noted SKIP LOCKED
    )
    RETURNING id, request_id, sequence, event, snapshot, at
)
SELECT
    taken.request_id, taken.sequence, taken.event, taken.snapshot, taken.at, request.owner_id, request.project_id,
    request.batch_id, request.webhook_url, request.webhook_events, batch.webhook_url, batch.webhook_events
FROM taken
LEFT JOIN generation_requests AS request ON request.id = taken.request_id
LEFT JOIN generation_batches AS batch ON batch.id = request.batch_id
ORDER BY taken.id
"""

#: The enabled endpoints of these owners.
#:
#: Locks: the endpoints, against their deletion; their owners may change them.
#: Indexes: webhook_endpoint_owner.
TARGETS: Final = """/* webhook targets */
SELECT endpoint.id, endpoint.owner_id, endpoint.url, endpoint.events, endpoint.project_id
FROM generation_webhook_endpoints AS endpoint
WHERE endpoint.owner_id = ANY(%(owners)s::INTEGER[]) AND endpoint.enabled
ORDER BY endpoint.id
FOR KEY SHARE OF endpoint
"""

#: The requests of those of the batches that have ended, each with a snapshot.
#:
#: Locks: none.
#: Indexes: request_batch.
ENDED_BATCHES: Final = """/* ended batches */
SELECT request.batch_id, request.id, request.project_id, request.sequence, GENERATION_WEBHOOK_SNAPSHOT(request)
FROM generation_requests AS request
WHERE request.batch_id = ANY(%(batches)s::TEXT[])
    AND NOT EXISTS (
        SELECT
        FROM generation_requests AS other
        WHERE other.batch_id = request.batch_id AND other.status IN ('queued', 'in-progress')
    )
ORDER BY request.id
"""

#: Add deliveries, a JSON array, which are due at once. One with a ``unique_key`` that is taken is not added. Returns
#: the number of rows.
#:
#: Locks: none.
#: Indexes: webhook_delivery_once.
ADD_DELIVERIES: Final = """/* add deliveries */
INSERT INTO generation_webhook_deliveries (
    id, owner_id, endpoint_id, target, host, url, event, request_id, batch_id, sequence, snapshot, state,
    next_attempt_at, expires_at, occurred_at, unique_key
)
SELECT
    id, owner_id, endpoint_id, target, host, url, event, request_id, batch_id, sequence, snapshot, 'pending',
    STATEMENT_TIMESTAMP(), STATEMENT_TIMESTAMP() + %(lifetime)s::INTERVAL,
    COALESCE(occurred_at::TIMESTAMPTZ, STATEMENT_TIMESTAMP()), unique_key
FROM JSON_TO_RECORDSET(%(deliveries)s::JSON) AS delivery(
    id TEXT, owner_id INTEGER, endpoint_id TEXT, target TEXT, host TEXT, url TEXT, event TEXT, request_id TEXT,
    batch_id TEXT, sequence NUMERIC, snapshot JSONB, occurred_at TEXT, unique_key TEXT
)
ON CONFLICT (unique_key) DO NOTHING
"""

#: Lease due deliveries, the longest due first: at most ``room``, and at most ``suspect_room`` whose target failed at
#: its last attempt, by their own tries or by the list of ``suspects``. ``blocked`` targets get none, ``probed`` ones
#: one at a time, others ``of_target``, a host ``of_host`` and an owner ``of_owner``, counted over all processes. The
#: caller holds an advisory lock, so that no two count at the same time.
#:
#: The statement steps from target to target in the index, so that 10,000 deliveries for one cost as much as one.
#:
#: Locks: the deliveries; those that another transaction has are skipped.
#: Indexes: webhook_delivery_due, webhook_delivery_leased.
TAKE_DELIVERIES: Final = """/* take deliveries */
WITH RECURSIVE targets AS (
    (
        SELECT delivery.target
        FROM generation_webhook_deliveries AS delivery
        WHERE delivery.state = 'pending'
        ORDER BY delivery.target
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT delivery.target
        FROM generation_webhook_deliveries AS delivery
        WHERE delivery.state = 'pending' AND delivery.target > targets.target
        ORDER BY delivery.target
        LIMIT 1
    )
    FROM targets
    WHERE targets.target IS NOT NULL
), leased AS (
    SELECT delivery.target, delivery.host, delivery.owner_id
    FROM generation_webhook_deliveries AS delivery
    WHERE delivery.leased_until > STATEMENT_TIMESTAMP()
), due AS (
    SELECT
        entry.id, entry.host, entry.owner_id, entry.next_attempt_at,
        entry.tries > 0 OR targets.target = ANY(%(suspects)s::TEXT[]) AS is_suspect
    FROM targets
    CROSS JOIN LATERAL (
        SELECT delivery.id, delivery.host, delivery.owner_id, delivery.next_attempt_at, delivery.tries
        FROM generation_webhook_deliveries AS delivery
        WHERE delivery.state = 'pending'
            AND delivery.target = targets.target
            AND delivery.next_attempt_at <= STATEMENT_TIMESTAMP()
        ORDER BY delivery.next_attempt_at
        LIMIT GREATEST(0,
            CASE WHEN targets.target = ANY(%(probed)s::TEXT[]) THEN 1 ELSE %(of_target)s::INTEGER END
            - (SELECT COUNT(*) FROM leased WHERE leased.target = targets.target)
        )
    ) AS entry
    WHERE targets.target IS NOT NULL AND targets.target <> ALL(%(blocked)s::TEXT[])
), ranked AS (
    SELECT
        due.id, due.next_attempt_at, due.is_suspect,
        ROW_NUMBER() OVER (PARTITION BY due.host ORDER BY due.next_attempt_at)
            + (SELECT COUNT(*) FROM leased WHERE leased.host = due.host) AS nth_of_host,
        ROW_NUMBER() OVER (PARTITION BY due.owner_id ORDER BY due.next_attempt_at)
            + (SELECT COUNT(*) FROM leased WHERE leased.owner_id = due.owner_id) AS nth_of_owner
    FROM due
), allowed AS (
    SELECT
        ranked.id, ranked.next_attempt_at, ranked.is_suspect,
        ROW_NUMBER() OVER (PARTITION BY ranked.is_suspect ORDER BY ranked.next_attempt_at) AS nth_of_kind
    FROM ranked
    WHERE ranked.nth_of_host <= %(of_host)s::INTEGER AND ranked.nth_of_owner <= %(of_owner)s::INTEGER
), chosen AS (
    SELECT allowed.id
    FROM allowed
    WHERE NOT allowed.is_suspect OR allowed.nth_of_kind <= %(suspect_room)s::INTEGER
    ORDER BY allowed.next_attempt_at
    LIMIT %(room)s::INTEGER
), free AS (
    SELECT delivery.id
    FROM generation_webhook_deliveries AS delivery
    WHERE delivery.id IN (SELECT chosen.id FROM chosen) AND delivery.state = 'pending'
    FOR UPDATE OF delivery SKIP LOCKED
)
UPDATE generation_webhook_deliveries AS delivery
SET claim = delivery.claim + 1,
    leased_until = STATEMENT_TIMESTAMP() + %(lease)s::INTERVAL,
    next_attempt_at = STATEMENT_TIMESTAMP() + %(lease)s::INTERVAL
FROM free
WHERE delivery.id = free.id
RETURNING
    delivery.id, delivery.claim, delivery.owner_id, delivery.endpoint_id, delivery.target, delivery.url, delivery.event,
    delivery.request_id, delivery.batch_id, delivery.snapshot, delivery.tries, delivery.occurred_at,
    STATEMENT_TIMESTAMP()
"""

#: Write the results of attempts whose leases hold. A pending one is due again after its ``delay``. Returns the ids of
#: the written ones.
#:
#: Locks: the deliveries, except those that are locked: their endpoint is being deleted.
#: Indexes: the primary key of generation_webhook_deliveries.
SETTLE: Final = """/* settle deliveries */
WITH result AS (
    SELECT *
    FROM JSONB_TO_RECORDSET(%(results)s::JSONB) AS result(
        delivery TEXT, claim INTEGER, state TEXT, entry JSONB, delay NUMERIC, tries INTEGER
    )
), held AS (
    SELECT delivery.id
    FROM generation_webhook_deliveries AS delivery
    JOIN result ON result.delivery = delivery.id AND result.claim = delivery.claim
    WHERE delivery.id = ANY(%(deliveries)s::TEXT[])
        AND delivery.state = 'pending'
        AND delivery.leased_until IS NOT NULL
    ORDER BY delivery.id
    FOR UPDATE OF delivery SKIP LOCKED
)
UPDATE generation_webhook_deliveries AS delivery
SET state = result.state,
    tries = delivery.tries + result.tries,
    attempts = JSONB_PATH_QUERY_ARRAY(delivery.attempts || result.entry, '$[last - 19 to last]'),
    next_attempt_at = CASE WHEN result.state = 'pending'
        THEN STATEMENT_TIMESTAMP() + result.delay * INTERVAL '1 second' END,
    leased_until = NULL
FROM held JOIN result ON result.delivery = held.id
WHERE delivery.id = held.id
RETURNING delivery.id
"""

#: Note for endpoints whether deliveries succeeded. The first failure since the last success is kept, and an endpoint
#: that has failed for ``patience``, or is ``gone``, is disabled. Returns the ids of the disabled ones.
#:
#: Locks: the endpoints, in the order of their ids.
#: Indexes: the primary key of generation_webhook_endpoints.
NOTE_ENDPOINTS: Final = """/* note endpoints */
WITH held AS (
    SELECT endpoint.id
    FROM generation_webhook_endpoints AS endpoint
    WHERE endpoint.id = ANY(%(endpoints)s::TEXT[])
    ORDER BY endpoint.id
    FOR NO KEY UPDATE OF endpoint
), news AS (
    SELECT
        held.id, held.id = ANY(%(succeeded)s::TEXT[]) AS succeeded, held.id = ANY(%(gone)s::TEXT[]) AS is_gone,
        held.id <> ALL(%(succeeded)s::TEXT[])
            AND endpoint.failing_since < STATEMENT_TIMESTAMP() - %(patience)s::INTERVAL AS is_failing
    FROM held JOIN generation_webhook_endpoints AS endpoint ON endpoint.id = held.id
), changed AS (
    UPDATE generation_webhook_endpoints AS endpoint
    SET failing_since = CASE WHEN NOT news.succeeded THEN COALESCE(endpoint.failing_since, STATEMENT_TIMESTAMP()) END,
        enabled = endpoint.enabled AND NOT (news.is_gone OR COALESCE(news.is_failing, FALSE)),
        disabled_reason = CASE
            WHEN NOT endpoint.enabled THEN endpoint.disabled_reason
            WHEN news.is_gone THEN 'gone'
            WHEN news.is_failing THEN 'failing'
            ELSE ''
        END
    FROM news
    WHERE endpoint.id = news.id
    RETURNING endpoint.id, endpoint.enabled
)
SELECT changed.id FROM changed WHERE NOT changed.enabled
"""

#: Fail the pending deliveries of an endpoint, at most ``most``, except those that are being sent.
#:
#: Locks: the deliveries; those that are locked are skipped.
#: Indexes: webhook_delivery_due.
END_PENDING: Final = f"""/* end pending */
WITH waiting AS (
    SELECT delivery.id
    FROM generation_webhook_deliveries AS delivery
    WHERE delivery.state = 'pending'
        AND delivery.target = %(target)s::TEXT
        AND (delivery.leased_until IS NULL OR delivery.leased_until <= STATEMENT_TIMESTAMP())
    ORDER BY delivery.next_attempt_at
    LIMIT %(most)s::INTEGER
    FOR UPDATE OF delivery SKIP LOCKED
)
UPDATE generation_webhook_deliveries AS delivery
SET state = 'failed', next_attempt_at = NULL, leased_until = NULL, attempts = delivery.attempts || {_ENTRY}
FROM waiting
WHERE delivery.id = waiting.id
"""

#: Fail the deliveries that did not end in time, at most ``most``, except those that are being sent.
#:
#: Locks: the deliveries; those that are locked are skipped.
#: Indexes: webhook_delivery_expiry.
END_EXPIRED: Final = f"""/* end expired */
WITH expired AS (
    SELECT delivery.id
    FROM generation_webhook_deliveries AS delivery
    WHERE delivery.state = 'pending'
        AND delivery.expires_at <= STATEMENT_TIMESTAMP()
        AND (delivery.leased_until IS NULL OR delivery.leased_until <= STATEMENT_TIMESTAMP())
    ORDER BY delivery.expires_at
    LIMIT %(most)s::INTEGER
    FOR UPDATE OF delivery SKIP LOCKED
)
UPDATE generation_webhook_deliveries AS delivery
SET state = 'failed', next_attempt_at = NULL, leased_until = NULL, attempts = delivery.attempts || {_ENTRY}
FROM expired
WHERE delivery.id = expired.id
"""
