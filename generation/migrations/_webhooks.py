"""The trigger that notes events for webhooks in ``generation_webhook_events``."""

from __future__ import annotations

from typing import Any

#: The snapshot has what later changes of a request overwrite. A request, its batch or an enabled endpoint of its owner
#: must want the event. An end is noted for ``batch.completed`` as well: only the fan-out can see whether a batch has
#: ended, since the last two transactions do not see each other.
#:
#: The trigger function runs as the role that changes the rows, at the end of its statement, as those that count do. It
#: only inserts, so it waits for no lock. A submit returns before any join. A session keeps the plan of its first call,
#: which may have been made for an almost empty table, so only plans with indexes are allowed. The conditions are written
#: out: PostgreSQL calls a function with a subquery for each row, which takes longer than all of the rest.
_FUNCTIONS = """
CREATE FUNCTION generation_webhook_snapshot(request generation_requests) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'status', request.status, 'sequence', request.sequence, 'priority', request.priority,
        'claims', request.claims, 'attempts', request.attempts, 'result', request.result, 'error', request.error,
        'cancel_reason', request.cancel_reason, 'approval', request.approval, 'approval_note', request.approval_note,
        'started_at', request.started_at, 'completed_at', request.completed_at
    )
$$;

CREATE FUNCTION generation_note_webhook_events() RETURNS trigger LANGUAGE plpgsql
    SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET enable_mergejoin = off AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM added WHERE to_status <> 'queued') THEN
        RETURN NULL;
    END IF;
    INSERT INTO generation_webhook_events (request_id, sequence, event, snapshot)
    SELECT request.id, change.sequence, change.event, generation_webhook_snapshot(request)
    FROM (
        SELECT request_id, sequence, to_status <> 'in-progress' AS is_end,
            'request.' || CASE to_status WHEN 'in-progress' THEN 'started' ELSE to_status END AS event
        FROM added WHERE to_status <> 'queued'
    ) AS change
    JOIN generation_requests AS request ON request.id = change.request_id
    WHERE (request.webhook_url <> '' AND request.webhook_events ? change.event)
        OR EXISTS (
            SELECT FROM generation_webhook_endpoints AS endpoint
            WHERE endpoint.owner_id = request.owner_id AND endpoint.enabled
                AND (endpoint.events ? change.event
                    OR (change.is_end AND request.batch_id IS NOT NULL AND endpoint.events ? 'batch.completed'))
        )
        OR (request.batch_id IS NOT NULL AND EXISTS (
            SELECT FROM generation_batches AS batch
            WHERE batch.id = request.batch_id AND batch.webhook_url <> ''
                AND (batch.webhook_events ? change.event
                    OR (change.is_end AND batch.webhook_events ? 'batch.completed'))
        ));
    RETURN NULL;
END $$;
"""
_TRIGGER = (
    "CREATE TRIGGER note_webhook_events AFTER INSERT ON generation_status_changes"
    " REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION generation_note_webhook_events()"
)
_DROP = (
    "DROP TRIGGER IF EXISTS note_webhook_events ON generation_status_changes",
    "DROP FUNCTION IF EXISTS generation_note_webhook_events, generation_webhook_snapshot",
)


def create(apps: Any, schema_editor: Any) -> None:
    """Create the functions and the trigger."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(_FUNCTIONS)
        cursor.execute(_TRIGGER)


def drop(apps: Any, schema_editor: Any) -> None:
    """Drop the trigger and the functions."""
    with schema_editor.connection.cursor() as cursor:
        for statement in _DROP:
            cursor.execute(statement)
