"""``manage.py migrate``: Django's, repeated while a table is in use."""

from __future__ import annotations

import time
from typing import Any, Final

from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import Error, connections
from django.db.migrations.recorder import MigrationRecorder

from generation.db.outages import sqlstate

_LOCK_NOT_AVAILABLE: Final = "55P03"
#: Seconds for which a lock is tried for in all, and between two tries, in which the statements that queued behind run.
_PATIENCE: Final = 120.0
_PAUSE: Final = 2.0


class Command(migrate.Command):
    """Django's command. A migration whose table is locked by another transaction is rolled back and tried again.

    A statement that waits for the lock of a table makes all later statements on the table wait as well. So each wait is
    as short as ``lock_timeout``.
    """

    def handle(self, *args: Any, **options: Any) -> None:
        give_up_at = time.monotonic() + _PATIENCE
        while True:
            try:
                _refuse_half_migrated(options["database"])
                super().handle(*args, **options)
            except Error as error:
                if sqlstate(error) != _LOCK_NOT_AVAILABLE or time.monotonic() > give_up_at:
                    raise
                self.stderr.write("A table is in use. Trying again.")
                time.sleep(_PAUSE)
            else:
                return


def _refuse_half_migrated(database: str) -> None:
    """Raise ``CommandError`` if a development version before 0.1.0 has made this database only in part.

    Its first migration had the same name, and its last one made the triggers, as the initial migration does now.
    """
    connection = connections[database]
    if ("generation", "0001_initial") not in MigrationRecorder(connection).applied_migrations():
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regproc('generation_count_history') IS NOT NULL")
        (is_complete,) = cursor.fetchone()
    if not is_complete:
        message = "A development version before 0.1.0 made this database, and its migrations are not complete: "
        raise CommandError(f"{message}run that version's `manage.py migrate`, or begin with an empty database.")
