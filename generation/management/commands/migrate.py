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
#: The second and the last of the migrations that the initial one replaced before the first release.
_REPLACED: Final = ("0002_seed", "0018_count_by_triggers")


class Command(migrate.Command):
    """Django's command. A migration whose table is locked by another transaction is rolled back and tried again.

    A statement that waits for the lock of a table makes all later statements on the table wait as well. So each wait is
    as short as ``lock_timeout``.
    """

    def handle(self, *args: Any, **options: Any) -> None:
        _refuse_half_migrated(options["database"])
        give_up_at = time.monotonic() + _PATIENCE
        while True:
            try:
                super().handle(*args, **options)
            except Error as error:
                if sqlstate(error) != _LOCK_NOT_AVAILABLE or time.monotonic() > give_up_at:
                    raise
                self.stderr.write("A table is in use. Trying again.")
                time.sleep(_PAUSE)
            else:
                return


def _refuse_half_migrated(database: str) -> None:
    """Raise ``CommandError`` for a database that a development version before 0.1.0 has migrated in part."""
    second, last = (("generation", name) for name in _REPLACED)
    applied = MigrationRecorder(connections[database]).applied_migrations()
    if second in applied and last not in applied:
        message = "A development version before 0.1.0 made this database, and its migrations are not complete: "
        raise CommandError(f"{message}run that version's `manage.py migrate`, or begin with an empty database.")
