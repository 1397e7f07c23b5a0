"""Who may start where places are limited: in a batch, and at a provider."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Count, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from generation.db.functions import Now
from generation.models import GenerationAttempt, GenerationBatch, GenerationQueue, GenerationRequest, ProviderState
from generation.queue import dispatch, pauses
from generation.states import Status


def batch_has_free_slot(request_id: str) -> bool:
    """Whether the request's batch, if it has one with a limit, may have one more in progress. Its row stays locked
    until the transaction ends, so that two claims cannot take the same place. Where it is full, the request is held."""
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
    """Free as many held requests of a batch as it has places, and send them. Returns how many."""
    with transaction.atomic():
        batch = GenerationBatch.objects.select_for_update().filter(pk=batch_id, max_concurrent__isnull=False).first()
        if batch is None:
            return 0
        ledger = GenerationQueue.objects.filter(request__batch=batch)
        free = (batch.max_concurrent or 0) - _running(batch) - ledger.filter(held=False).count()
        # What somebody else has locked is being cancelled. Who does not wait for it cannot be waited for in a ring.
        rows = list(
            pauses.without_paused(ledger)
            .select_for_update(skip_locked=True, of=("self",))
            .filter(held=True, available_at__lte=Now())
            .order_by("-priority_weight", "queued_at", "pk")
            .values_list("pk", "priority_weight")[: max(0, free)]
        )
        allowed = dispatch._reserve_capacity([weight for _, weight in rows])
        leaving = [row for row, may_leave in zip(rows, allowed, strict=True) if may_leave]
        # Each row once: PostgreSQL looks the request up again for a row that this transaction has already written, and
        # then waits for whoever cancels it, who waits for this row.
        now = [pk for pk, _ in leaving]
        later = [pk for pk, _ in rows if pk not in now]
        GenerationQueue.objects.filter(pk__in=now).update(held=False, **dispatch.dispatch_columns())
        GenerationQueue.objects.filter(pk__in=later).update(held=False)
        dispatch.send_after_commit(leaving)
    return len(rows)


def fill_batch_after_commit(batch_id: str) -> None:
    """Fill the batch once the transaction commits, in one of its own: a place that stays empty for a moment harms
    nobody, and locks taken in two orders would."""
    transaction.on_commit(lambda: fill_batch(batch_id), robust=True)


def batches_to_fill(limit: int) -> list[str]:
    """Batches with a place free and something held that is due: where nobody filled a place that became free, or a
    retry's time has come."""
    held = pauses.without_paused(GenerationQueue.objects.filter(held=True, available_at__lte=Now()))
    taken = (
        GenerationRequest.objects.filter(Q(status=Status.IN_PROGRESS) | Q(queue_entry__held=False))
        .filter(batch=OuterRef("pk"))
        .order_by()
        .values("batch")
        .values_list(Count("pk"))
    )
    batches = GenerationBatch.objects.filter(pk__in=held.values("request__batch"))
    return list(batches.filter(max_concurrent__gt=Coalesce(Subquery(taken), 0)).values_list("pk", flat=True)[:limit])


def provider_has_free_slot(state: ProviderState) -> bool:
    """Whether one more call of the provider may be under way. The caller has locked its row.

    A call counts until its end, or until its deadline where its worker was lost: the provider may still be at it.
    """
    if state.max_concurrent is None:
        return True
    under_way = GenerationAttempt.objects.filter(provider=state.pk, call_deadline_at__gt=Now())
    return under_way.count() < state.max_concurrent


def _running(batch: GenerationBatch) -> int:
    return GenerationRequest.objects.filter(batch=batch, status=Status.IN_PROGRESS).count()
