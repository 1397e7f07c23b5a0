"""The database's clock. Deadlines and leases are decided by it alone, whatever the clocks of the workers say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import functions


class Now(functions.Now):
    """Django's ``Now``, in SQLite with six digits after the point.

    SQLite keeps times as text and compares them as text. Django writes its own with six digits and ``Now`` with three,
    so that the same moment would be earlier than itself.
    """

    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        return self.as_sql(
            compiler, connection, template="STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f000', 'NOW')", **context
        )


def database_now() -> datetime:
    """Return the time of the database's clock, in UTC: that of this statement, not of the transaction's beginning."""
    asked = "STATEMENT_TIMESTAMP()" if connection.vendor == "postgresql" else "CURRENT_TIMESTAMP"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {asked}")
        found: Any = cursor.fetchone()[0]
    # SQLite gives a text without a zone.
    return datetime.fromisoformat(found).replace(tzinfo=UTC) if isinstance(found, str) else found.astimezone(UTC)
