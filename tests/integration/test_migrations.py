"""The initial migration, and databases of the development versions before it."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations import AlterModelTable, DeleteModel, RemoveField, RenameField, RenameModel
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from generation.access import roles
from generation.migrations import _seed
from generation.models import PromptStyle, ProviderModel, ProviderState
from generation.states import GenerationType, StyleScope


def indexes() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname FROM pg_indexes WHERE schemaname = current_schema()")
        return {name for (name,) in cursor.fetchall()}


def triggers() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")
        return {name for (name,) in cursor.fetchall()}


@pytest.mark.django_db
def test_models_and_migrations_agree() -> None:
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


@pytest.mark.django_db
def test_a_new_database_has_the_indexes_and_triggers_of_raw_sql() -> None:
    assert {"request_prompt_words", "admin_log_of_object"} <= indexes()
    assert triggers() == {
        *("count_history", "count_queue_row", "move_queue_row", "count_spending", "note_webhook_events"),
        *("take_turn", "take_turn_again"),
    }


@pytest.mark.django_db
def test_the_migration_seeds_sound_models_and_styles() -> None:
    for model in (PromptStyle, ProviderModel, ProviderState):
        model.objects.all().delete()
    _seed.create(apps, None)
    models = {f"{row.provider}/{row.name}": row for row in ProviderModel.objects.select_related("successor")}
    for row in models.values():
        row.full_clean()
    assert {row.provider for row in models.values()} == {"clipart", "google", "openai", "stability", "stability-grpc"}
    for name, row in models.items():
        assert (row.shutdown_date is None) == (row.successor is None), name
    types = PromptStyle.objects.filter(scope=StyleScope.TYPE).values_list("name", flat=True)
    assert set(types) == set(GenerationType.values)
    assert ProviderState.objects.values_list("provider", "calls", "per_seconds").get() == ("stability", 150, 10)


@pytest.mark.django_db
def test_the_migration_makes_the_groups_of_all_roles() -> None:
    for name, wanted in roles.GROUPS.items():
        permissions = Group.objects.get(name=name).permissions.select_related("content_type")
        assert {f"{one.content_type.app_label}.{one.codename}" for one in permissions} == set(wanted)


def record(*names: str) -> None:
    for name in names:
        MigrationRecorder(connection).record_applied("generation", name)


def forget(*names: str) -> None:
    for name in names:
        MigrationRecorder(connection).record_unapplied("generation", name)


@pytest.mark.django_db(transaction=True)
def test_a_database_of_the_last_development_version_goes_on() -> None:
    replaced = ("0002_seed", "0017_counters", "0018_count_by_triggers")
    record(*replaced)
    try:
        call_command("migrate", verbosity=0)
        call_command("migrate", "--check", verbosity=0)
    finally:
        forget(*replaced)


@pytest.mark.django_db
def test_a_half_migrated_development_database_is_refused() -> None:
    """Its first migration has the name of the initial one; only its last one made the triggers."""
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION generation_count_history CASCADE")
    with pytest.raises(CommandError, match="begin with an empty database"):
        call_command("migrate", verbosity=0)


@pytest.mark.django_db
def test_a_database_that_a_newer_version_has_migrated_is_refused() -> None:
    MigrationRecorder(connection).record_applied("generation", "0999_next")
    with pytest.raises(CommandError, match="0999_next is unknown to this one"):
        call_command("migrate", verbosity=0)


@pytest.mark.django_db(transaction=True)
def test_a_database_whose_last_migration_was_interrupted_is_refused() -> None:
    record("0002_seed")
    try:
        with pytest.raises(CommandError, match="begin with an empty database"):
            call_command("migrate", verbosity=0)
    finally:
        forget("0002_seed")


@pytest.mark.django_db
def test_a_migration_takes_nothing_that_running_processes_use() -> None:
    """Processes of the earlier version go on while it runs."""
    taking = (DeleteModel, RemoveField, RenameField, RenameModel, AlterModelTable)
    for (app, name), migration in MigrationLoader(connection).disk_migrations.items():
        if app == "generation":
            assert not any(isinstance(operation, taking) for operation in migration.operations), name
