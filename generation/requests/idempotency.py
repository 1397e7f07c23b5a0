"""Idempotency keys: a call that a client repeats with the same key gets the answer of the first call."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import transaction

from generation.db import queries
from generation.db.execution import fetch_one
from generation.models import IdempotencyKey

#: How long the answer of a call with an ``Idempotency-Key`` is stored.
IDEMPOTENCY_LIFETIME: Final = timedelta(hours=24)


class KeyReusedError(Exception):
    """An ``Idempotency-Key`` was used with another call."""


def run_idempotently(
    *,
    owner: User,
    key: str,
    fingerprint: str,
    act: Callable[[], dict[str, Any]],
    lifetime: timedelta = IDEMPOTENCY_LIFETIME,
) -> tuple[dict[str, Any], bool]:
    """Run ``act`` and return its answer, or the stored answer and ``True`` if the owner has used the key before.

    The key is written in the transaction of ``act``. A concurrent caller waits for its row, so that only one of them
    runs ``act``. An answer that is older than ``lifetime`` is replaced. Raises :class:`KeyReusedError` if the key was
    used with another fingerprint.
    """
    with transaction.atomic():
        taken = {"owner": owner.pk, "key": key, "fingerprint": fingerprint, "lifetime": lifetime}
        rows = IdempotencyKey.objects.filter(owner=owner, key=key)
        if fetch_one(queries.TAKE_KEY, taken) is None:
            row = rows.get()
            if row.fingerprint != fingerprint:
                raise KeyReusedError
            return json.loads(row.answer), True
        answer = act()
        rows.update(answer=json.dumps(answer))
        return answer, False
