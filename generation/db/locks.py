"""Row locks and time limits of statements on many rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet

from generation.db.session_settings import LONG_STATEMENT


def locked_keys(rows: QuerySet[Any], *, limit: int | None = None) -> list[Any]:
    """Lock rows in the order of their keys until the transaction ends, and return the keys.

    Rows that another transaction holds are skipped, so that nothing here waits for a lock. An UPDATE or DELETE of many
    rows without this locks them in whatever order its plan meets them, and two of them can deadlock.
    """
    found = rows.select_for_update(skip_locked=True, of=("self",)).order_by("pk").values_list("pk", flat=True)
    return list(found if limit is None else found[:limit])


def delete_in_steps(rows: QuerySet[Any], *, step: int) -> Iterator[int]:
    """Delete the rows in transactions of at most ``step`` rows, and skip those that another transaction holds, such as
    a request that a user is retrying. Yields the number of rows that each step deleted."""
    while True:
        with transaction.atomic():
            keys = locked_keys(rows, limit=step)
            rows.model._default_manager.filter(pk__in=keys).delete()
        if not keys:
            return
        yield len(keys)


@contextmanager
def long_statements() -> Iterator[None]:
    """Give statements ``LONG_STATEMENT`` instead of the limit of the process's kind, in one transaction.

    A page of rows under a rare condition may be read from far away. Only this transaction gets the time, also behind a
    pooler, and in an outer one the limit from before returns.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('statement_timeout')")
        (before,) = cursor.fetchone()
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [LONG_STATEMENT])
        yield
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [before])
