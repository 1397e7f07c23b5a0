"""The dispatcher's maintenance tasks, one per function, in bounded steps. An idle pass costs next to nothing."""

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
from generation.queue import dispatch, run_limits
from generation.queue.fairness import OFF
from generation.requests import lifecycle, references
from generation.states import ACTIVE, PARKED_WEIGHT, WEIGHTS, Reason, Status, next_weight
from generation.storage import receipts

logger = logging.getLogger(__name__)

#: Maximum number of rows that one step changes.
_STEP: Final = 500
#: The row of a process without a heartbeat for this time is deleted.
_DELETE_PROCESS_AFTER: Final = timedelta(hours=1)


def rescue_expired() -> int:
    """End the claims whose lease ran out, by :func:`lifecycle.rescue`. Return their number."""
    expired = fetch_all(queries.EXPIRED, {"most": _STEP})
    storage_error: OSError | None = None
    rescued = []
    for (request_id,) in expired:
        try:
            new_status = lifecycle.rescue(request_id, storage_error=storage_error)
        except OSError as error:
            # Each access to an unavailable storage takes its time-out, so the others of this pass do without.
            storage_error = error
            logger.warning("%s is not rescued while the storage is unavailable: %s", request_id, error)
            continue
        except Exception as error:  # a fault in one request's rows or receipt must not prevent the other rescues
            if is_outage(error):
                raise
            logger.exception("%s cannot be rescued", request_id, extra={"action": "error", "request_id": request_id})
            continue
        if new_status == Status.COMPLETED:
            with suppress(OSError):  # a receipt that is left does no harm
                receipts.drop(request_id)
        if new_status is not None:
            rescued.append(request_id)
    if rescued:
        logger.warning("rescued %s", ", ".join(rescued), extra={"action": "rescue", "rescued": len(rescued)})
    return len(rescued)


def promote_long_waiting() -> int:
    """Raise the weight of requests that have waited for ``PROMOTION_AFTER``, so that low priority is never starved.
    Return their number."""
    promoted = 0
    for weight in sorted(WEIGHTS.values(), reverse=True)[1:]:
        with transaction.atomic():
            waiting = list(
                GenerationQueue.objects.select_for_update(skip_locked=True)
                .filter(priority_weight=weight, weight_since__lte=Now() - settings.PROMOTION_AFTER)
                .order_by("weight_since")
                .values_list("pk", flat=True)[:_STEP]
            )
            # Their messages are still in the lower queue; second ones in the higher queue do no harm.
            promoted += GenerationQueue.objects.filter(pk__in=waiting).update(
                priority_weight=next_weight(weight), weight_since=Now(), dispatched_at=None, redispatch_at=None
            )
    if promoted:
        logger.info("promoted %d", promoted, extra={"action": "promote", "promoted": promoted})
    return promoted


def drop_turns() -> int:
    """Without fairness, queue rows from before in the order of submission, which new rows would else pass. Return their
    number."""
    if settings.FAIRNESS != OFF:
        return 0
    with transaction.atomic():
        numbered = locked_keys(GenerationQueue.objects.exclude(fair_key=""), limit=_STEP)
        return GenerationQueue.objects.filter(pk__in=numbered).update(fair_key="", turn=0)


def fill_free_slots() -> int:
    """Send held requests of batches and API keys that have a free slot. Return their number."""
    return run_limits.fill_all(_STEP)


def cancel_overdue() -> int:
    """Cancel the requests that have not ended by their deadline. Return their number."""
    overdue = GenerationRequest.objects.filter(status__in=ACTIVE, cancel_at__lte=Now()).order_by("cancel_at")
    ids = list(overdue.values_list("pk", flat=True)[:_STEP])
    return len(lifecycle.cancel(ids, actor=None, reason=Reason.DEADLINE)) if ids else 0


def advance_parked() -> int:
    """Start parked requests whose images are made, and cancel those whose images will not be. Return their number."""
    return references.advance_parked(
        lambda ids: lifecycle.cancel(ids, actor=None, reason=Reason.REFERENCE_FAILED) if ids else []
    )


def restore_queue_rows() -> int:
    """Create missing queue rows of queued requests, which only a manual change of the database can have deleted. Return
    their number."""
    entry = GenerationQueue.objects.filter(request_id=OuterRef("pk"))
    # In the order of their keys: two transactions that insert the same rows wait for each other's unique keys.
    missing = GenerationRequest.objects.filter(~Exists(entry), status=Status.QUEUED).order_by("pk")[:_STEP]
    rows = [
        # Whether its images and its time have come, the dispatcher finds out.
        GenerationQueue(request=request, fair_key=request.fair_key, priority_weight=PARKED_WEIGHT, held=True)
        if request.inputs or request.not_before
        else GenerationQueue(request=request, fair_key=request.fair_key, priority_weight=WEIGHTS[request.priority])
        for request in missing
    ]
    return len(GenerationQueue.objects.bulk_create(rows, ignore_conflicts=True))


def resend_lost_messages() -> int:
    """Make lost messages due again if Redis has lost its data. Return their number. Raises
    :class:`generation.queue.broker.BrokerUnavailable`."""
    lost = dispatch.resend_lost()
    if lost:
        logger.warning(
            "Redis lost its data, %d messages are sent again", lost, extra={"action": "resend", "lost": lost}
        )
    return lost


def delete_dead_processes() -> int:
    """Delete the rows of processes that ended without deleting them. Return their number."""
    with transaction.atomic():
        dead = locked_keys(WorkerProcess.objects.filter(seen_at__lt=Now() - _DELETE_PROCESS_AFTER), limit=_STEP)
        deleted, _ = WorkerProcess.objects.filter(pk__in=dead).delete()
    return deleted
