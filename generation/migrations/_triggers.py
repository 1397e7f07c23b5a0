"""Triggers that count status changes, queue rows and spending in ``generation_counter_changes``."""

from __future__ import annotations

from typing import Any

#: The counted event of each status change. ``history`` is the rows: those that a statement inserted, or the whole table.
#: An attempt is looked up only if one ended. Both joins use unique indexes. ``generation.db.counter_checks`` has the same
#: expression.
_EVENTS = """
    SELECT
        change.at,
        CASE WHEN change.to_status IN ('completed', 'failed', 'cancelled') THEN change.to_status
            ELSE change.reason END AS event,
        request.type,
        coalesce(attempt.provider, '') AS provider,
        change.error_code,
        (change.reason <> 'claimed' OR change.claim = 1)::int AS count,
        CASE WHEN change.reason = 'claimed' AND change.claim = 1
                THEN greatest(0, extract(epoch FROM change.at - request.created_at) * 1000000)::bigint
            WHEN change.from_status = 'in-progress'
                THEN greatest(0, extract(epoch FROM change.at - attempt.started_at) * 1000000)::bigint
            END AS microseconds,
        (change.to_status = 'queued')::int - (change.from_status = 'queued')::int AS queued,
        (change.to_status = 'in-progress')::int - (change.from_status = 'in-progress')::int AS in_progress
    FROM {history} AS change
    JOIN generation_requests AS request ON request.id = change.request_id
    LEFT JOIN generation_attempts AS attempt ON attempt.request_id = change.request_id
        AND attempt.claim = CASE WHEN change.from_status = 'in-progress' THEN change.claim END
"""

#: The trigger functions run as the role that changes the rows, at the end of its statement. Everything that the statement
#: wrote is visible then, also the request and the attempt that a CTE writes beside the history row. They only insert, so
#: they wait for no lock. The search path is fixed, since a restore runs with an empty one. A session keeps the plan of
#: its first call, which may have been made for an almost empty table, so only plans with the unique indexes are allowed.
_FUNCTIONS = f"""
CREATE FUNCTION generation_count_history() RETURNS trigger LANGUAGE plpgsql
    SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET enable_mergejoin = off AS $$
BEGIN
    INSERT INTO generation_counter_changes
        (at, event, type, provider, error_code, count, microseconds, queued, in_progress)
    {_EVENTS.format(history="added")};
    RETURN NULL;
END $$;

CREATE FUNCTION generation_count_queue_row() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO generation_counter_changes (at, weight, length)
        VALUES (date_trunc('hour', OLD.queued_at, 'UTC'), OLD.priority_weight, -1);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO generation_counter_changes (at, weight, length)
        VALUES (date_trunc('hour', NEW.queued_at, 'UTC'), NEW.priority_weight, 1);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION generation_count_spending() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.day = OLD.day THEN
        INSERT INTO generation_counter_changes (at, event, count, cost)
        VALUES (NEW.day::timestamp AT TIME ZONE 'UTC', 'spent', NEW.calls - OLD.calls, NEW.cost - OLD.cost);
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO generation_counter_changes (at, event, count, cost)
        VALUES (OLD.day::timestamp AT TIME ZONE 'UTC', 'spent', -OLD.calls, -OLD.cost);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO generation_counter_changes (at, event, count, cost)
        VALUES (NEW.day::timestamp AT TIME ZONE 'UTC', 'spent', NEW.calls, NEW.cost);
    END IF;
    RETURN NULL;
END $$;
"""  # noqa: S608
#: The history is counted once for each statement, since it needs a plan with two joins. A queue row is counted by itself:
#: that takes 12 µs, a statement-level trigger 27 µs, and most statements have one row.
_TRIGGERS = (
    "CREATE TRIGGER count_history AFTER INSERT ON generation_status_changes"
    " REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION generation_count_history()",
    "CREATE TRIGGER count_queue_row AFTER INSERT OR DELETE ON generation_queue"
    " FOR EACH ROW EXECUTE FUNCTION generation_count_queue_row()",
    "CREATE TRIGGER move_queue_row AFTER UPDATE OF priority_weight, queued_at ON generation_queue FOR EACH ROW"
    " WHEN (OLD.priority_weight <> NEW.priority_weight OR OLD.queued_at <> NEW.queued_at)"
    " EXECUTE FUNCTION generation_count_queue_row()",
    "CREATE TRIGGER count_spending AFTER INSERT OR DELETE OR UPDATE OF calls, cost, day ON generation_spending"
    " FOR EACH ROW EXECUTE FUNCTION generation_count_spending()",
)
_DROP = (
    "DROP TRIGGER IF EXISTS count_history ON generation_status_changes",
    "DROP TRIGGER IF EXISTS count_queue_row ON generation_queue",
    "DROP TRIGGER IF EXISTS move_queue_row ON generation_queue",
    "DROP TRIGGER IF EXISTS count_spending ON generation_spending",
    "DROP FUNCTION IF EXISTS generation_count_history, generation_count_queue_row, generation_count_spending",
)


def create(apps: Any, schema_editor: Any) -> None:
    """Create the functions and their triggers."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(_FUNCTIONS)
        for trigger in _TRIGGERS:
            cursor.execute(trigger)


def drop(apps: Any, schema_editor: Any) -> None:
    """Drop the triggers and their functions."""
    with schema_editor.connection.cursor() as cursor:
        for statement in _DROP:
            cursor.execute(statement)
