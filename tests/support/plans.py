"""The plans that PostgreSQL keeps for statements."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db import connection
from django.db.backends.utils import CursorWrapper


def explain(sql: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Run the statement with the plan that PostgreSQL keeps for any parameters, and return that plan."""
    with connection.cursor() as cursor, _prepared(cursor, sql, given) as (execute, values):
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {execute}", values)
        found: Any = cursor.fetchone()[0]
    plan: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return plan


def keeps_plan(sql: str, given: Mapping[str, Any]) -> bool:
    """Whether PostgreSQL keeps a plan of the statement for any parameters, as it decides after five plans for given
    ones. Does not run it."""
    with connection.cursor() as cursor, _prepared(cursor, sql, given) as (execute, values):
        for _ in range(6):
            cursor.execute(f"EXPLAIN {execute}", values)
        cursor.execute("SELECT generic_plans FROM pg_prepared_statements WHERE name = 'of_test'")
        return bool(cursor.fetchone()[0])


@contextmanager
def _prepared(cursor: CursorWrapper, sql: str, given: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Prepare the statement. Yields the command that runs it, and its values."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", sql)))
    numbered = re.sub(r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", sql)
    cursor.execute(f"PREPARE of_test AS {numbered}")
    places = ", ".join(["%s"] * len(names))
    try:
        yield f"EXECUTE of_test ({places})" if names else "EXECUTE of_test", [given[name] for name in names]
    finally:
        cursor.execute("DEALLOCATE of_test")


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a plan."""
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes_of(part)


def rows_read(nodes: Iterable[dict[str, Any]]) -> int:
    """Return how many rows of tables and indexes the nodes have looked at."""
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in nodes
        if "Relation Name" in node or "Index Name" in node
    )
