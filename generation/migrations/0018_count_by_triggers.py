"""Triggers that keep the counters, which begin with what the tables have. Snapshots are no longer taken.

Requests are submitted and run as always meanwhile. A try that was broken off can be repeated.
"""

from typing import Any

from django.db import migrations, transaction

#: What one row of the history adds. ``{history}`` is the rows: those that a statement inserted, or the whole table. An
#: attempt is looked up only where one ended. Both joins are by unique indexes.
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

#: They run as the role that changes the rows, at the end of its statement, when all that the statement wrote is visible:
#: also the request and the attempt that a CTE beside the history's row writes. They only insert, so they wait for no
#: lock. The search path is fixed, since that of a restore is empty. A session keeps the plan of its first call, which
#: was perhaps made for an almost empty table: so only plans that use the unique indexes are allowed.
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
#: The history is counted once a statement, as a plan with two joins has to be started for it. A queue row takes 12 µs
#: each; once a statement it would take 27 µs, and most statements have one row.
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
#: The bounds of the histogram's elements in microseconds, as in ``generation.db.counters``.
_BOUNDS = (
    "'{100000,250000,500000,1000000,2500000,5000000,10000000,20000000,40000000,80000000,160000000,320000000,640000000,"
    "1800000000,3600000000}'::bigint[]"
)
#: What the tables had before the triggers counted: all there is, less what the triggers have counted by now. Each is one
#: statement, so that it sees the tables and the counters at one moment. Each reads its tables once.
_BEGIN_WITH = (
    f"""
    INSERT INTO generation_counter_changes (at, event, type, provider, error_code, bucket, count, microseconds)
    SELECT date_trunc('hour', at, 'UTC'), event, type, provider, error_code, bucket, sum(count), sum(microseconds)
    FROM (
        SELECT at, event, type, provider, error_code, width_bucket(microseconds, {_BOUNDS}) AS bucket, count,
            microseconds
        FROM ({_EVENTS.format(history="generation_status_changes")}) AS history
        UNION ALL
        SELECT at, event, type, provider, error_code, coalesce(bucket, width_bucket(microseconds, {_BOUNDS})),
            -count, -microseconds
        FROM generation_counter_changes WHERE event NOT IN ('', 'spent')
    ) AS everything
    WHERE at >= date_trunc('day', now() - interval '2160 hours', 'UTC')
    GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(count) <> 0
    """,  # noqa: S608
    """
    INSERT INTO generation_counter_changes (at, event, count, cost)
    SELECT at, 'spent', sum(count), sum(cost)
    FROM (
        SELECT day::timestamp AT TIME ZONE 'UTC' AS at, calls AS count, cost FROM generation_spending
        UNION ALL
        SELECT at, -count, -cost FROM generation_counter_changes WHERE event = 'spent'
    ) AS everything
    GROUP BY 1 HAVING sum(count) <> 0 OR sum(cost) <> 0
    """,
    """
    INSERT INTO generation_counter_changes (at, weight, length)
    SELECT at, weight, sum(length)
    FROM (
        SELECT date_trunc('hour', queued_at, 'UTC') AS at, priority_weight AS weight, 1 AS length
        FROM generation_queue
        UNION ALL
        SELECT at, weight, -length FROM generation_counter_changes WHERE length <> 0
    ) AS everything
    GROUP BY 1, 2 HAVING sum(length) <> 0
    """,
    """
    INSERT INTO generation_counter_changes (queued, in_progress)
    SELECT requests.queued - counted.queued, requests.in_progress - counted.in_progress
    FROM (
        SELECT (SELECT count(*) FROM generation_requests WHERE status = 'queued') AS queued,
            (SELECT count(*) FROM generation_requests WHERE status = 'in-progress') AS in_progress
    ) AS requests, (
        SELECT coalesce(sum(queued), 0) AS queued, coalesce(sum(in_progress), 0) AS in_progress
        FROM generation_counter_changes
    ) AS counted
    """,
)


def make_triggers(apps: Any, schema_editor: Any) -> None:
    """Each statement is a transaction of its own: two locks at once could wait for a request's, which has both."""
    drop_triggers(apps, schema_editor)  # of a try that was broken off
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(_FUNCTIONS)
        for trigger in _TRIGGERS:
            cursor.execute(trigger)


def begin(apps: Any, schema_editor: Any) -> None:
    """Count what there is. All or nothing, and once: what is counted already is left out."""
    connection = schema_editor.connection
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute("SET LOCAL work_mem = '256MB'")
        for statement in _BEGIN_WITH:
            cursor.execute(statement)


def drop_triggers(apps: Any, schema_editor: Any) -> None:
    with schema_editor.connection.cursor() as cursor:
        for statement in _DROP:
            cursor.execute(statement)


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("generation", "0017_counters")]

    operations = [
        migrations.RunPython(make_triggers, drop_triggers),
        migrations.RunPython(begin, migrations.RunPython.noop),
        # Dispatchers of the earlier version write to its table until they are replaced. A later version drops it.
        migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel(name="MetricsSnapshot")]),
    ]
