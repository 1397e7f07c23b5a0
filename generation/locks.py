"""Row locks of statements that concern many rows."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet


def locked_keys(rows: QuerySet[Any], *, limit: int | None = None) -> list[Any]:
    """Lock rows in the order of their keys until the transaction ends, and return the keys.

    Rows that another transaction holds are skipped, so that nothing here waits for a lock. An UPDATE or DELETE of many
    rows without this locks them in whatever order its plan meets them, and two of them can deadlock.
    """
    found = rows.select_for_update(skip_locked=True, of=("self",)).order_by("pk").values_list("pk", flat=True)
    return list(found if limit is None else found[:limit])
