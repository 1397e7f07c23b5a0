"""What is asked of the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connection


def queries_of(act: Callable[[], Any]) -> list[str]:
    """The statements that it costs, in their order."""
    statements: list[str] = []

    def note(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        act()
    return statements
