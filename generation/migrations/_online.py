"""Operations on large tables that processes go on using."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db.migrations import AddConstraint


class AddIndexOnline(AddIndexConcurrently):
    """``CREATE INDEX CONCURRENTLY``, which can be repeated: an interrupted one leaves an invalid index behind."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema_editor.quote_name(self.index.name)}")
        super().database_forwards(app_label, schema_editor, from_state, to_state)


class AddUniqueOnline(AddConstraint):
    """A unique constraint with a condition, which PostgreSQL has as an index. It can be repeated, too."""

    atomic = False

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            statement = str(self.constraint.create_sql(model, schema_editor))
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema_editor.quote_name(self.constraint.name)}")
            schema_editor.execute(statement.replace(" INDEX ", " INDEX CONCURRENTLY ", 1), params=None)
