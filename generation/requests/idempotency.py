"""Idempotency keys: a call that a client repeats with the same key gets the answer of the first call."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import transaction

from generation.db.functions import Now
from generation.models import IdempotencyKey

#: How long the answer of a call with an ``Idempotency-Key`` is stored.
IDEMPOTENCY_LIFETIME: Final = timedelta(hours=24)


class KeyReusedError(Exception):
    """An ``Idempotency-Key`` was used with another call."""


def run_idempotently(
    *, owner: User, key: str, fingerprint: str, act: Callable[[], dict[str, Any]]
) -> tuple[dict[str, Any], bool]:
    """Run ``act`` and return its answer, or the stored answer and ``True`` if the owner has used the key before.

    The key is written in the transaction of ``act``. A concurrent caller waits for its row, so that only one of them
    runs ``act``. Raises :class:`KeyReusedError` if the key was used with another fingerprint.
    """
    with transaction.atomic():
        IdempotencyKey.objects.filter(owner=owner, key=key, created_at__lt=Now() - IDEMPOTENCY_LIFETIME).delete()
        row, first = IdempotencyKey.objects.get_or_create(owner=owner, key=key, defaults={"fingerprint": fingerprint})
        if not first:
            if row.fingerprint != fingerprint:
                raise KeyReusedError
            return json.loads(row.answer), True
        answer = act()
        row.answer = json.dumps(answer)
        row.save(update_fields=["answer"])
        return answer, False
