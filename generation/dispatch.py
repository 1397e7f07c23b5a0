"""Ledger → Celery message. The message carries the id alone and is a hint: the ledger knows what is queued."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, Final

from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from generation.clock import Now
from generation.models import GenerationBatch, GenerationQueue, GenerationRequest
from generation.states import WEIGHTS, Status, queue_for

logger = logging.getLogger(__name__)

#: The task by its name, since this side does not know the workers' code. A test compares the two.
TASK: Final = "workers.tasks.generate"

#: After a failed publish, for how many seconds no other is tried here, so that submits stay fast while Redis is away.
_PAUSE_AFTER_FAILURE: Final = 10.0
_closed_until = 0.0


def send(messages: Sequence[tuple[str, int]]) -> int:
    """Publish ids with their weights. Returns how many the broker took; the rows of the others are due at once."""
    refused = [request_id for request_id, weight in messages if not _publish(request_id, weight)]
    if refused:
        with transaction.atomic():
            # What somebody else has locked is being cancelled, or sent.
            free = GenerationQueue.objects.select_for_update(skip_locked=True).filter(pk__in=refused)
            ids = list(free.values_list("pk", flat=True))
            GenerationQueue.objects.filter(pk__in=ids).update(redispatch_at=Now())
    return len(messages) - len(refused)


def _publish(request_id: str, weight: int) -> bool:
    global _closed_until
    if time.monotonic() >= _closed_until:
        try:
            current_app.send_task(TASK, args=[request_id], queue=queue_for(weight), retry=False)
            return True
        except Exception as error:  # kombu, redis-py and the socket each raise their own
            _closed_until = time.monotonic() + _PAUSE_AFTER_FAILURE
            logger.warning("the broker took no message, the dispatcher will send it: %s", error)
    return False


def send_after_commit(messages: Sequence[tuple[str, int]]) -> None:
    """Publish ids with their weights once the transaction commits. Their ledger rows must say so: :func:`sent_now`."""
    transaction.on_commit(lambda: send(messages), robust=True)


def sent_now() -> dict[str, Any]:
    """The ledger's columns of a message that leaves now. They are written before it leaves, so none is forgotten."""
    return {"dispatched_at": Now(), "redispatch_at": Now() + settings.REDISPATCH_AFTER}


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
    """Send as many held requests of a batch as it has places free. Returns how many."""
    with transaction.atomic():
        batch = GenerationBatch.objects.select_for_update().filter(pk=batch_id, max_concurrent__isnull=False).first()
        if batch is None:
            return 0
        ledger = GenerationQueue.objects.filter(request__batch=batch)
        free = (batch.max_concurrent or 0) - _running(batch) - ledger.filter(held=False).count()
        # What somebody else has locked is being cancelled. Who does not wait for it cannot be waited for in a ring.
        rows = list(
            ledger.select_for_update(skip_locked=True, of=("self",))
            .filter(held=True, available_at__lte=Now())
            .order_by("-priority_weight", "queued_at", "pk")
            .values_list("pk", "priority_weight")[: max(0, free)]
        )
        GenerationQueue.objects.filter(pk__in=[pk for pk, _ in rows]).update(
            held=False, dispatch_count=F("dispatch_count") + 1, **sent_now()
        )
        send_after_commit(rows)
    return len(rows)


def fill_batch_after_commit(batch_id: str) -> None:
    """Fill the batch once the transaction commits, in one of its own: a place that stays empty for a moment harms
    nobody, and locks taken in two orders would."""
    transaction.on_commit(lambda: fill_batch(batch_id), robust=True)


def batches_to_fill(limit: int) -> list[str]:
    """Batches with a place free and something held that is due: where nobody filled a place that became free, or a
    retry's time has come."""
    held = GenerationQueue.objects.filter(held=True, available_at__lte=Now())
    taken = (
        GenerationRequest.objects.filter(Q(status=Status.IN_PROGRESS) | Q(queue_entry__held=False))
        .filter(batch=OuterRef("pk"))
        .order_by()
        .values("batch")
        .values_list(Count("pk"))
    )
    batches = GenerationBatch.objects.filter(pk__in=held.values("request__batch"))
    return list(batches.filter(max_concurrent__gt=Coalesce(Subquery(taken), 0)).values_list("pk", flat=True)[:limit])


def _running(batch: GenerationBatch) -> int:
    return GenerationRequest.objects.filter(batch=batch, status=Status.IN_PROGRESS).count()


def waiting_messages() -> int:
    """How many messages wait in Redis. Raises what the broker's client raises where it cannot be reached."""
    with current_app.pool.acquire(block=True, timeout=5) as connection:
        client: Any = connection.default_channel.client  # type: ignore[attr-defined]  # redis-py, of the Redis transport
        return sum(int(client.llen(queue)) for queue in WEIGHTS)


def take_due(limit: int) -> list[tuple[str, int]]:
    """Mark up to ``limit`` rows that are due and return their ids and weights, the most pressing first.

    Due is what may start and was never sent, or was sent so long ago that the message counts as lost. Rows that
    another dispatcher is taking at this moment are left to it.
    """
    due = Q(redispatch_at__isnull=True) | Q(redispatch_at__lte=Now())
    with transaction.atomic():
        rows = list(
            GenerationQueue.objects.select_for_update(skip_locked=True)
            .filter(due, held=False, available_at__lte=Now())
            .order_by("-priority_weight", "queued_at", "pk")
            .values_list("pk", "priority_weight")[:limit]
        )
        GenerationQueue.objects.filter(pk__in=[pk for pk, _ in rows]).update(
            dispatch_count=F("dispatch_count") + 1, **sent_now()
        )
    return rows
