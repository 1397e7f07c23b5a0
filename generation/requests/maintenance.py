"""What the dispatcher mends, one kind of thing a function, in small steps whose cost follows what there is to do."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef

from generation.db import queries
from generation.db.execution import fetch_all
from generation.db.functions import Now
from generation.db.locks import locked_keys
from generation.db.outages import is_outage
from generation.models import GenerationQueue, GenerationRequest, WorkerProcess
from generation.queue import batch_limits, dispatch
from generation.requests import lifecycle
from generation.states import WEIGHTS, Status, next_weight
from generation.storage import receipts

logger = logging.getLogger(__name__)

#: The most rows that one step touches.
_STEP: Final = 500
#: A process that has not been heard of for so long is gone, and its row with it.
_FORGET_PROCESS_AFTER: Final = timedelta(hours=1)


def rescue_expired() -> int:
    """Take requests from workers whose lease ran out. Returns how many."""
    expired = fetch_all(queries.EXPIRED, {"most": _STEP})
    storage_error: OSError | None = None
    rescued = []
    for (request_id,) in expired:
        try:
            became = lifecycle.rescue(request_id, storage_error=storage_error)
        except OSError as error:
            # Each look at an unavailable storage takes its time-out, so the others do without until the next pass.
            storage_error = error
            logger.warning("%s is not rescued while the storage is unavailable: %s", request_id, error)
            continue
        except (
            Exception
        ) as error:  # a fault in one request's rows or receipt must not keep the others from their rescue
            if is_outage(error):
                raise
            logger.exception("%s cannot be rescued", request_id, extra={"action": "error", "request_id": request_id})
            continue
        if became == Status.COMPLETED:
            with suppress(OSError):  # one that stays does no harm
                receipts.drop(request_id)
        if became is not None:
            rescued.append(request_id)
    if rescued:
        logger.warning("rescued %s", ", ".join(rescued), extra={"action": "rescue", "rescued": len(rescued)})
    return len(rescued)


def promote_long_waiting() -> int:
    """Move who has waited so long up a step, so that low is never starved. Returns how many."""
    promoted = 0
    for weight in sorted(WEIGHTS.values(), reverse=True)[1:]:
        with transaction.atomic():
            waiting = list(
                GenerationQueue.objects.select_for_update(skip_locked=True)
                .filter(priority_weight=weight, weight_since__lte=Now() - settings.PROMOTION_AFTER)
                .order_by("weight_since")
                .values_list("pk", flat=True)[:_STEP]
            )
            # Its message waits in the lower queue; a second one in the higher does no harm.
            promoted += GenerationQueue.objects.filter(pk__in=waiting).update(
                priority_weight=next_weight(weight), weight_since=Now(), dispatched_at=None, redispatch_at=None
            )
    if promoted:
        logger.info("promoted %d", promoted, extra={"action": "promote", "promoted": promoted})
    return promoted


def fill_batches() -> int:
    """Send what is held although its batch has a place. Returns how many."""
    return sum(batch_limits.fill_batch(batch_id) for batch_id in batch_limits.batches_to_fill(limit=_STEP))


def restore_queue_rows() -> int:
    """Give queued requests back the ledger row that they lost, which only a hand in the database can have taken."""
    entry = GenerationQueue.objects.filter(request_id=OuterRef("pk"))
    # In the order of their keys: two that insert the same rows wait for each other's unique keys.
    missing = GenerationRequest.objects.filter(~Exists(entry), status=Status.QUEUED).order_by("pk")[:_STEP]
    rows = [GenerationQueue(request=request, priority_weight=WEIGHTS[request.priority]) for request in missing]
    return len(GenerationQueue.objects.bulk_create(rows, ignore_conflicts=True))


def resend_lost_messages() -> int:
    """Where Redis has lost what it held, send it again. Returns how many rows. Raises :class:`BrokerUnavailable`."""
    lost = dispatch.resend_lost()
    if lost:
        logger.warning("redis was emptied, %d messages are sent again", lost, extra={"action": "resend", "lost": lost})
    return lost


def delete_dead_processes() -> int:
    """Drop the rows of processes that ended without signing off."""
    with transaction.atomic():
        dead = locked_keys(WorkerProcess.objects.filter(seen_at__lt=Now() - _FORGET_PROCESS_AFTER), limit=_STEP)
        deleted, _ = WorkerProcess.objects.filter(pk__in=dead).delete()
    return deleted
