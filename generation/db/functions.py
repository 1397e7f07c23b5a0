"""The database's clock. Deadlines and leases are decided by it alone, whatever the clocks of the workers say."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import connection
from django.db.models.functions import Now

__all__ = ["Now", "database_now"]


def database_now() -> datetime:
    """Return the time of the database's clock, in UTC: that of this statement, not of the transaction's beginning."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT STATEMENT_TIMESTAMP()")
        now: datetime = cursor.fetchone()[0]
    return now.astimezone(UTC)
