"""Who may start where places are limited: in a batch, and at a provider."""

from __future__ import annotations

from django.db import transaction

from generation import dispatch
from generation.clock import Now
from generation.models import GenerationAttempt, GenerationBatch, GenerationQueue, GenerationRequest, ProviderLimit
from generation.states import Status


def batch_has_place(request_id: str) -> bool:
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
        rows = list(
            ledger.filter(held=True, available_at__lte=Now())
            .order_by("-priority_weight", "queued_at", "pk")
            .values_list("pk", "priority_weight")[: max(0, free)]
        )
        leaving = [row for row, now in zip(rows, dispatch.reserve([weight for _, weight in rows]), strict=True) if now]
        GenerationQueue.objects.filter(pk__in=[pk for pk, _ in rows]).update(held=False)
        GenerationQueue.objects.filter(pk__in=[pk for pk, _ in leaving]).update(**dispatch.sent_now())
        dispatch.send_after_commit(leaving)
    return len(rows)


def fill_batch_after_commit(batch_id: str) -> None:
    """Fill the batch once the transaction commits, in one of its own: a place that stays empty for a moment harms
    nobody, and locks taken in two orders would."""
    transaction.on_commit(lambda: fill_batch(batch_id), robust=True)


def batches_to_fill(limit: int) -> list[str]:
    """Batches in which something held is due: where a place became free and nobody filled it, or a retry's time has
    come."""
    held = GenerationQueue.objects.filter(held=True, available_at__lte=Now())
    return list(held.values_list("request__batch_id", flat=True).distinct()[:limit])


def provider_has_place(provider: str) -> bool:
    """Whether one more call of the provider may be under way. Its limit's row stays locked until the transaction ends.

    A call counts until its end, or until its deadline where its worker was lost: the provider may still be at it.
    """
    limit = ProviderLimit.objects.select_for_update().filter(pk=provider).first()
    if limit is None:
        return True
    under_way = GenerationAttempt.objects.filter(provider=provider, call_deadline_at__gt=Now())
    return under_way.count() < limit.max_concurrent


def _running(batch: GenerationBatch) -> int:
    return GenerationRequest.objects.filter(batch=batch, status=Status.IN_PROGRESS).count()
