"""What migrations of large tables are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from generation.migrations._operations import AddIndexMeanwhile

pytestmark = pytest.mark.django_db(transaction=True)


def indexes() -> dict[str, str]:
    """The indexes of our tables by name, each with what it is and whether it is valid."""
    on_postgresql = """
        SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) || indisvalid
        FROM pg_index WHERE indrelid::regclass::text LIKE 'generation_%'
    """
    on_sqlite = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name LIKE 'generation_%'"
    with connection.cursor() as cursor:
        cursor.execute(on_postgresql if connection.vendor == "postgresql" else on_sqlite)
        return dict(cursor.fetchall())


def made_meanwhile() -> Iterator[tuple[AddIndexMeanwhile, Any, Any]]:
    """Each such index of our migrations, with what Django knows of the tables before and after it."""
    loader = MigrationLoader(connection)
    for (app, name), migration in loader.disk_migrations.items():
        for operation in migration.operations if app == "generation" else ():
            if isinstance(operation, AddIndexMeanwhile):
                states = loader.project_state((app, name), at_end=False), loader.project_state((app, name))
                yield operation, *states


def test_an_index_of_a_large_table_is_taken_back_and_made_again() -> None:
    before = indexes()
    made = list(made_meanwhile())
    assert made
    for index, without, having in made:
        with connection.schema_editor(atomic=False) as editor:
            index.database_backwards("generation", editor, having, without)
        assert indexes() == {name: what for name, what in before.items() if name != index.index.name}
        with connection.schema_editor(atomic=False) as editor:
            index.database_forwards("generation", editor, without, having)
        assert indexes() == before


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite makes an index in a transaction")
def test_what_a_try_that_was_broken_off_has_left_is_made_anew() -> None:
    before = indexes()
    for index, without, having in made_meanwhile():
        with connection.cursor() as cursor:
            broken = "UPDATE pg_index SET indisvalid = false WHERE indexrelid::regclass::text = %s"
            cursor.execute(broken, [index.index.name])
        assert indexes() != before
        with connection.schema_editor(atomic=False) as editor:
            index.database_forwards("generation", editor, without, having)
        assert indexes() == before
