"""Staff's control of the queue: change priorities, requeue, pause and resume.

No status changes here. Lock order: a request before its queue row, several requests in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Case, QuerySet, Value, When

from generation.db.functions import Now
from generation.models import GenerationQueue, GenerationRequest, Pause
from generation.queue import dispatch, pauses
from generation.states import PARKED_WEIGHT, WEIGHTS, PauseScope, Status


def change_priority(request_ids: Collection[str], priority: str) -> list[str]:
    """Give those of the requests that are queued another priority, and return their ids.

    They keep their ``queued_at``, so each stands behind requests of the same priority that were queued earlier.
    """
    with transaction.atomic():
        queued = _locked(request_ids)
        _look_at_parked(queued)  # also locks them, so that none starts with its former weight
        GenerationRequest.objects.filter(pk__in=queued).update(priority=priority)
        # Parked ones get their weight when they start.
        _update_rows(queued, priority_weight=WEIGHTS[priority], weight_since=Now())
    return queued


def requeue(request_ids: Collection[str]) -> list[str]:
    """Send those of the requests that are queued again at once, and return their ids. The dispatcher looks at the
    parked ones.

    They no longer wait for anything, and get the weight of their priority again.
    """
    with transaction.atomic():
        queued = _locked(request_ids)
        weights = Case(*(When(request__priority=name, then=Value(weight)) for name, weight in WEIGHTS.items()))
        # Django's update() cannot use columns of another table, so the weights are read first.
        _look_at_parked(queued)
        rows = _started(queued).annotate(weight=weights).values_list("pk", "weight")
        by_weight: dict[int, list[str]] = {}
        for pk, weight in rows:
            by_weight.setdefault(weight, []).append(pk)
        for weight, ids in by_weight.items():
            _update_rows(ids, priority_weight=weight, weight_since=Now(), available_at=Now(), waits_for="")
    return queued


def pause(scope: str, value: str, *, reason: str, by: User) -> Pause | None:
    """Stop starting requests of this scope and value; running ones continue. Return None if it is already paused."""
    try:
        with transaction.atomic():
            created = Pause.objects.create(scope=scope, value=value, reason=reason, paused_by=by)
    except IntegrityError:
        return None
    pauses.cached.cache_clear()
    return created


def resume(pause: Pause) -> bool:
    """End the pause and send the requests that it stopped. Return False if it has already ended."""
    with transaction.atomic():
        deleted, _ = Pause.objects.filter(pk=pause.pk).delete()
        if deleted:
            _send_unpaused(pause)
    pauses.cached.cache_clear()
    return bool(deleted)


def _send_unpaused(pause: Pause) -> None:
    # Workers have consumed their messages, but could not claim the requests.
    stopped = pauses.stopped_by(pause).filter(redispatch_at__isnull=False)
    ids = list(stopped.select_for_update(skip_locked=True, of=("self",)).values_list("pk", flat=True))
    _mark_undelivered(ids)
    if pause.scope == PauseScope.PROVIDER:
        dispatch.make_due(pause.value)
    dispatch.send_due_after_commit()


def _locked(request_ids: Collection[str]) -> list[str]:
    """Lock those of the requests that are queued until the transaction ends, and return their ids."""
    rows = GenerationRequest.objects.select_for_update().filter(pk__in=request_ids, status=Status.QUEUED)
    return list(rows.order_by("pk").values_list("pk", flat=True))


def _update_rows(request_ids: Collection[str], **values: Any) -> None:
    _started(request_ids).update(**values)
    _mark_undelivered(request_ids)
    dispatch.send_due_after_commit()


def _look_at_parked(request_ids: Collection[str]) -> None:
    """Have the dispatcher look at the parked ones. An end of their sources skips them while they are locked here."""
    GenerationQueue.objects.filter(pk__in=request_ids, priority_weight=PARKED_WEIGHT).update(available_at=Now())


def _started(request_ids: Collection[str]) -> QuerySet[GenerationQueue]:
    """Return the queue rows of those of the requests that do not wait for their images."""
    return GenerationQueue.objects.filter(pk__in=request_ids, priority_weight__gt=PARKED_WEIGHT)


def _mark_undelivered(request_ids: Collection[str]) -> None:
    not_sent: dict[str, Any] = {"dispatched_at": None, "redispatch_at": None, "dispatch_count": 0}
    GenerationQueue.objects.filter(pk__in=request_ids).update(**not_sent)
