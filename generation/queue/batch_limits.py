"""Concurrency limits: free slots of a batch and of a provider."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Count, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from generation.db.functions import Now
from generation.models import GenerationAttempt, GenerationBatch, GenerationQueue, GenerationRequest, ProviderState
from generation.queue import dispatch, pauses
from generation.states import Status


def batch_has_free_slot(request_id: str) -> bool:
    """Return whether the request's batch has a free slot; True if it has no batch or no limit.

    The batch row stays locked until the transaction ends, so that two claims cannot take the same slot. If the batch is
    full, the queue row is marked as held.
    """
    batch = (
        GenerationBatch.objects.select_for_update(of=("self",))
        .filter(requests=request_id, max_concurrent__isnull=False)
        .first()
    )
    if batch is None or _running(batch) < (batch.max_concurrent or 0):
        return True
    GenerationQueue.objects.filter(pk=request_id).update(held=True, dispatched_at=None, redispatch_at=None)
    return False


def fill_batch(batch_id: str) -> int:
    """Unhold as many held requests of a batch as it has free slots, and send them. Return their number.

    It is done in a transaction of its own, after the transaction that frees a slot: a slot that stays free for a moment
    does no harm, and locks taken in two orders would deadlock.
    """
    with transaction.atomic():
        batch = GenerationBatch.objects.select_for_update().filter(pk=batch_id, max_concurrent__isnull=False).first()
        if batch is None:
            return 0
        queue_rows = GenerationQueue.objects.filter(request__batch=batch)
        free = (batch.max_concurrent or 0) - _running(batch) - queue_rows.filter(held=False).count()
        # Rows that another transaction has locked are being cancelled. Skipping them rules out a deadlock.
        rows = list(
            pauses.without_paused(queue_rows)
            .select_for_update(skip_locked=True, of=("self",))
            .filter(held=True, available_at__lte=Now())
            .order_by("-priority_weight", "queued_at", "pk")
            .values_list("pk", "priority_weight")[: max(0, free)]
        )
        allowed = dispatch.reserve_capacity([weight for _, weight in rows])
        messages = [row for row, is_allowed in zip(rows, allowed, strict=True) if is_allowed]
        # Update each row once. For a row that this transaction has already written, PostgreSQL checks the foreign key
        # again, which locks the request, and would wait for a transaction that cancels it and waits for this row.
        send_now = [pk for pk, _ in messages]
        send_later = [pk for pk, _ in rows if pk not in send_now]
        GenerationQueue.objects.filter(pk__in=send_now).update(held=False, **dispatch.dispatch_columns())
        GenerationQueue.objects.filter(pk__in=send_later).update(held=False)
        dispatch.send_after_commit(messages)
    return len(rows)


def batches_to_fill(limit: int) -> list[str]:
    """Return the ids of batches with a free slot and a held request that is due: a freed slot was not filled, or the
    delay of a retry is over."""
    held = pauses.without_paused(GenerationQueue.objects.filter(held=True, available_at__lte=Now()))
    used_slots = (
        GenerationRequest.objects.filter(Q(status=Status.IN_PROGRESS) | Q(queue_entry__held=False))
        .filter(batch=OuterRef("pk"))
        .order_by()
        .values("batch")
        .values_list(Count("pk"))
    )
    batches = GenerationBatch.objects.filter(pk__in=held.values("request__batch"))
    unfilled = batches.filter(max_concurrent__gt=Coalesce(Subquery(used_slots), 0))
    return list(unfilled.values_list("pk", flat=True)[:limit])


def provider_has_free_slot(state: ProviderState) -> bool:
    """Return whether the provider may have one more call in progress. The caller has locked its row.

    A call counts until it ends, or until its deadline if its worker was lost, since the provider may still process it.
    """
    if state.max_concurrent is None:
        return True
    running = GenerationAttempt.objects.filter(provider=state.pk, call_deadline_at__gt=Now())
    return running.count() < state.max_concurrent


def _running(batch: GenerationBatch) -> int:
    return GenerationRequest.objects.filter(batch=batch, status=Status.IN_PROGRESS).count()
