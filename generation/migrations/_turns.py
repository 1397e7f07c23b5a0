"""The trigger that gives a queue row its turn."""

from __future__ import annotations

from typing import Any

#: A new row stands one turn behind the last row of its owner at its weight, and never before the first row that may
#: start: so an owner without queued rows is next, whatever others have queued. Rows that a limit holds count as the first
#: ones only where no other is left, since they may wait at their old turns for long.
#:
#: The function sees the rows that the same statement inserted before, so a batch takes consecutive turns. Two statements
#: of one owner at the same moment may take the same turns, which does no harm. The search path is fixed, since a restore
#: runs with an empty one. A session keeps the plan of its first calls, which may have been made for an almost empty
#: table, so only plans with the indexes are allowed. Only ``queue_fair_key`` has the order by falling weight and turn: by
#: the turn alone, PostgreSQL may walk over the whole weight for an owner who has nothing queued.
_FUNCTION = """
CREATE FUNCTION generation_take_turn() RETURNS trigger LANGUAGE plpgsql
    SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    last record;
BEGIN
    SELECT entry.priority_weight, entry.turn, NOT entry.held AND entry.available_at <= statement_timestamp() AS may_start
    INTO last
    FROM generation_queue AS entry
    WHERE entry.fair_key = NEW.fair_key AND entry.fair_key <> '' AND entry.priority_weight <= NEW.priority_weight
    ORDER BY entry.priority_weight DESC, entry.turn DESC
    LIMIT 1;
    NEW.turn := CASE WHEN last.priority_weight = NEW.priority_weight THEN last.turn + 1 ELSE 0 END;
    -- The front is not behind a row that may start.
    IF last.priority_weight = NEW.priority_weight AND last.may_start THEN
        RETURN NEW;
    END IF;
    NEW.turn := greatest(NEW.turn, coalesce(
        (
            SELECT entry.turn FROM generation_queue AS entry
            WHERE entry.priority_weight = NEW.priority_weight
                AND NOT entry.held
                AND entry.available_at <= statement_timestamp()
            ORDER BY entry.turn LIMIT 1
        ),
        (
            SELECT entry.turn FROM generation_queue AS entry
            WHERE entry.priority_weight = NEW.priority_weight
            ORDER BY entry.turn LIMIT 1
        ),
        0
    ));
    RETURN NEW;
END $$
"""
#: Without fairness rows have no key, and nothing is called for them.
_TRIGGERS = (
    "CREATE TRIGGER take_turn BEFORE INSERT ON generation_queue FOR EACH ROW"
    " WHEN (NEW.fair_key <> '' AND NEW.priority_weight > 0) EXECUTE FUNCTION generation_take_turn()",
    "CREATE TRIGGER take_turn_again BEFORE UPDATE OF priority_weight ON generation_queue FOR EACH ROW"
    " WHEN (NEW.fair_key <> '' AND NEW.priority_weight > 0 AND OLD.priority_weight <> NEW.priority_weight)"
    " EXECUTE FUNCTION generation_take_turn()",
)
_DROP = (
    "DROP TRIGGER IF EXISTS take_turn ON generation_queue",
    "DROP TRIGGER IF EXISTS take_turn_again ON generation_queue",
    "DROP FUNCTION IF EXISTS generation_take_turn",
)


def create(apps: Any, schema_editor: Any) -> None:
    """Create the function and its triggers."""
    with schema_editor.connection.cursor() as cursor:
        for statement in (_FUNCTION, *_TRIGGERS):
            cursor.execute(statement)


def drop(apps: Any, schema_editor: Any) -> None:
    """Drop the triggers and the function."""
    with schema_editor.connection.cursor() as cursor:
        for statement in _DROP:
            cursor.execute(statement)
