"""Django's ``manage.py migrate``, with retries if a table is locked."""

from __future__ import annotations

import time
from typing import Any, Final

from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import Error, connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from generation.db.outages import sqlstate

#: The last migration of the development versions before 0.1.0.
_LAST_BEFORE: Final = "0018_count_by_triggers"
_LOCK_NOT_AVAILABLE: Final = "55P03"
#: Total seconds of retries, and seconds between two, in which the statements run that waited behind the migration.
_TIMEOUT: Final = 120.0
_RETRY_DELAY: Final = 2.0


class Command(migrate.Command):
    """Django's command. A migration whose table is locked by another transaction is rolled back and retried.

    A statement that waits for a table lock blocks all later statements on the table, so each wait is limited to
    ``lock_timeout``.
    """

    def handle(self, *args: Any, **options: Any) -> None:
        deadline = time.monotonic() + _TIMEOUT
        while True:
            try:
                _refuse_half_migrated(options["database"])
                _refuse_newer(options["database"])
                super().handle(*args, **options)
            except Error as error:
                if sqlstate(error) != _LOCK_NOT_AVAILABLE or time.monotonic() > deadline:
                    raise
                self.stderr.write("A table is in use. Trying again.")
                time.sleep(_RETRY_DELAY)
            else:
                return


def _refuse_half_migrated(database: str) -> None:
    """Raise ``CommandError`` if a development version before 0.1.0 created this database only in part.

    Its first migration had the same name, and its last one created the triggers, as the initial migration does now.
    """
    connection = connections[database]
    applied = {name for app, name in MigrationRecorder(connection).applied_migrations() if app == "generation"}
    if "0001_initial" not in applied:
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regproc('generation_count_history') IS NOT NULL")
        (has_triggers,) = cursor.fetchone()
    # The last one could stop after it had made the triggers.
    if not has_triggers or ("0002_seed" in applied and _LAST_BEFORE not in applied):
        message = "A development version before 0.1.0 made this database, and its migrations are not complete: "
        raise CommandError(f"{message}run that version's `manage.py migrate`, or begin with an empty database.")


def _refuse_newer(database: str) -> None:
    """Raise ``CommandError`` if a newer version has migrated this database."""
    connection = connections[database]
    recorder = MigrationRecorder(connection)
    if not recorder.has_table():
        return
    last = recorder.migration_qs.filter(app="generation").order_by("id").last()
    known = {name for app, name in MigrationLoader(connection).disk_migrations if app == "generation"}
    if last is not None and last.name not in {*known, _LAST_BEFORE}:
        message = f"A newer version has migrated this database: {last.name} is unknown to this one. Use the newer one"
        raise CommandError(f"{message}, or restore a backup of this one.")
