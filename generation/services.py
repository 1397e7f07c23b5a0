"""What clients and staff can do. Each function checks what the rules say and leaves the writing to the lifecycle."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import transaction

from generation import budgets, lifecycle, selectors
from generation.clock import Now
from generation.identifiers import new_batch_id
from generation.lifecycle import Draft
from generation.models import GenerationBatch, GenerationRequest, IdempotencyKey

#: How long the answer to an ``Idempotency-Key`` is kept.
IDEMPOTENCY_LIFETIME: Final = timedelta(hours=24)


class KeyReusedError(Exception):
    """An ``Idempotency-Key`` came again with something else."""


class NotRetryableError(Exception):
    """Only what failed or was cancelled can be tried again."""


def submit(*, owner: User, draft: Draft) -> GenerationRequest:
    """Accept one request. Raises :class:`generation.pricing.OverBudgetError`."""
    with transaction.atomic():
        budgets.reserve(owner.pk, [draft.estimated_cost])
        return lifecycle.submit([draft], owner=owner)[0]


def submit_batch(
    *, owner: User, drafts: Sequence[Draft], priority: str, max_concurrent: int | None
) -> tuple[GenerationBatch, list[GenerationRequest]]:
    """Accept all of them or none. At most ``max_concurrent`` of them will be in progress at once. Raises
    :class:`generation.pricing.OverBudgetError`."""
    with transaction.atomic():
        budgets.reserve(owner.pk, [draft.estimated_cost for draft in drafts])
        batch = GenerationBatch.objects.create(
            id=new_batch_id(), owner=owner, priority=priority, max_concurrent=max_concurrent
        )
        return batch, lifecycle.submit(drafts, owner=owner, batch=batch)


def once(*, owner: User, key: str, fingerprint: str, act: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """Do it and return its answer, or the answer of the first time and ``True`` where the owner's key was there before.

    The key is written in the same transaction as what it stands for, and a second caller waits for it, so that of many
    at the same moment one acts. Raises :class:`KeyReusedError` where the fingerprint is another one.
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


def cancel(*, user: User, request_id: str) -> bool:
    """Give up a request that the user may see. ``False`` where there is none, or it has ended."""
    found = selectors.find_request(request_id, among=selectors.visible_to(user))
    return found is not None and bool(lifecycle.cancel([found.pk], actor=user))


def cancel_batch(*, user: User, batch: GenerationBatch) -> int:
    """Give up what is left of a batch. Returns how many requests that was."""
    return len(lifecycle.cancel(list(batch.requests.values_list("pk", flat=True)), actor=user))


def retry(*, user: User, request: GenerationRequest) -> GenerationRequest:
    """Queue a failed or cancelled request again. Raises :class:`NotRetryableError` for any other, and
    :class:`generation.pricing.OverBudgetError`."""
    with transaction.atomic():
        budgets.reserve(request.owner_id, [request.estimated_cost])
        again = lifecycle.retry(request.pk, actor=user)
    if again is None:
        raise NotRetryableError
    return again
