"""What migrations of large tables are made of, and what those of data leave as it is."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from itertools import permutations
from threading import Thread
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.migrations import AlterModelTable, DeleteModel, RemoveField, RenameField, RenameModel
from django.db.migrations.loader import MigrationLoader

from generation.db import counter_checks
from generation.db.functions import Now
from generation.migrations._operations import AddIndexMeanwhile
from generation.models import CounterChange, GenerationAttempt, ProviderModel
from generation.requests import lifecycle
from tests.support.races import waits_for_a_lock
from tests.support.requests import RESULT, claimed, queued
from tests.support.stack import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def indexes() -> dict[str, str]:
    """The indexes of our tables by name, each with what it is and whether it is valid."""
    query = """
        SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) || indisvalid
        FROM pg_index WHERE indrelid::regclass::text LIKE 'generation_%'
    """
    with connection.cursor() as cursor:
        cursor.execute(query)
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


def test_a_migration_takes_nothing_that_running_processes_use() -> None:
    """Processes of the earlier version go on while it runs. Releases before 0017 are past."""
    taking = (DeleteModel, RemoveField, RenameField, RenameModel, AlterModelTable)
    for (app, name), migration in MigrationLoader(connection).disk_migrations.items():
        if app == "generation" and name > "0017":
            assert not any(isinstance(operation, taking) for operation in migration.operations), name


TABLES = ("generation_status_changes", "generation_queue", "generation_spending")


@pytest.mark.parametrize(("held", "wanted"), list(permutations(TABLES, 2)))
def test_triggers_are_dropped_without_a_deadlock(held: str, wanted: str) -> None:
    """A step of a request writes several tables. It must not wait for a table that the migration has locked."""
    migration = import_module("generation.migrations.0018_count_by_triggers")

    def drop() -> None:
        with connection.schema_editor(atomic=False) as editor:
            migration.drop_triggers(apps, editor)
        connection.close()

    other = Thread(target=drop)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {held} IN ROW EXCLUSIVE MODE")
            other.start()
            wait_until(waits_for_a_lock)
            cursor.execute(f"LOCK TABLE {wanted} IN ROW EXCLUSIVE MODE NOWAIT")
    finally:
        other.join(20)
        with connection.schema_editor(atomic=False) as editor:
            migration.make_triggers(apps, editor)


def test_counters_begin_without_what_triggers_have_counted(alice: User) -> None:
    """Requests are run while the migration makes the triggers, and it may be repeated."""
    claim = claimed(alice)
    GenerationAttempt.objects.filter(request=claim.request).update(started_at=Now() - timedelta(seconds=30))
    assert lifecycle.complete(claim, result=RESULT, model="m", cost="0.25")
    queued(alice)
    begin = import_module("generation.migrations.0018_count_by_triggers").begin
    for _ in range(2):
        with connection.schema_editor(atomic=False) as editor:
            begin(apps, editor)
        assert counter_checks.differences() == []
    CounterChange.objects.all().delete()
    with connection.schema_editor(atomic=False) as editor:
        begin(apps, editor)
        begin(apps, editor)
    assert counter_checks.differences() == []


def test_what_staff_set_of_a_model_outlives_an_update_of_the_catalogue() -> None:
    update = import_module("generation.migrations.0016_models_of_late_2026").update
    models = ProviderModel.objects
    priced = {"per_image": "0.5"}
    own_end = datetime.date(2027, 1, 1)
    models.filter(name="gpt-image-2.6-flare").update(price_rule=priced)
    models.filter(name="gpt-image-2.6-sunburst").update(price_rule={})
    models.filter(name="gemini-3-pro-image").update(shutdown_date=own_end, successor=None)
    models.filter(name="gemini-2.5-flash-image").update(shutdown_date=None, successor=None)
    models.filter(name="gemini-nano-banana-2.1").update(enabled=False, preference=7)
    update(apps, None)
    rows = {row.name: row for row in models.select_related("successor")}
    assert rows["gpt-image-2.6-flare"].price_rule == priced
    assert rows["gpt-image-2.6-sunburst"].price_rule == rows["gpt-image-2"].price_rule
    assert (rows["gemini-3-pro-image"].shutdown_date, rows["gemini-3-pro-image"].successor) == (own_end, None)
    assert rows["gemini-2.5-flash-image"].shutdown_date == datetime.date(2027, 3, 15)
    assert rows["gemini-2.5-flash-image"].successor == rows["gemini-nano-banana-2.1"]
    assert rows["gemini-3.1-flash-image"].shutdown_date == datetime.date(2027, 5, 28)
    new = rows["gemini-nano-banana-2.1"]
    assert (new.enabled, new.preference, new.price_rule) == (False, 7, {"per_image": "0.0336"})
    assert new.sizes == rows["gemini-3.1-flash-image"].sizes
    for row in rows.values():
        row.full_clean()
