"""What migrations of large tables are made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently


class AddIndexMeanwhile(AddIndexConcurrently):
    """Make an index while others write to the table, and drop the invalid index that an interrupted try has left.

    The migration has to say ``atomic = False``.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        name = schema_editor.quote_name(self.index.name)
        with _without_limits(schema_editor):
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        with _without_limits(schema_editor):
            super().database_backwards(app_label, schema_editor, from_state, to_state)


@contextmanager
def _without_limits(schema_editor: Any) -> Iterator[None]:
    """A large index takes longer than a statement may, and waits for every transaction that is open."""
    for name in ("statement_timeout", "lock_timeout"):
        schema_editor.execute(f"SET {name} = 0")
    try:
        yield
    finally:
        for name in ("statement_timeout", "lock_timeout"):
            schema_editor.execute(f"RESET {name}")
