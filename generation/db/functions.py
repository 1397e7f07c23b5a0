"""The database's clock. It alone decides deadlines and leases, whatever the clocks of the workers say."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import connection
from django.db.models.functions import Now

__all__ = ["Now", "database_now"]


def database_now() -> datetime:
    """Return the database's time in UTC, of this statement and not of the transaction's begin."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT STATEMENT_TIMESTAMP()")
        now: datetime = cursor.fetchone()[0]
    return now.astimezone(UTC)
