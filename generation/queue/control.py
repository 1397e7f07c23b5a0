"""What staff can change about what waits: how pressing it is, when it is sent, and whether it is started at all.

No status changes here. As everywhere, a request is locked before its ledger row, and several in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Case, Value, When

from generation.db.functions import Now
from generation.models import GenerationQueue, GenerationRequest, Pause
from generation.queue import dispatch, pauses
from generation.states import WEIGHTS, PauseScope, Status


def change_priority(request_ids: Collection[str], priority: str) -> list[str]:
    """Let these of the requests that are queued wait with another priority, each behind those of it that were queued
    before. Returns their ids."""
    with transaction.atomic():
        queued = _locked(request_ids)
        GenerationRequest.objects.filter(pk__in=queued).update(priority=priority)
        _update_rows(queued, priority_weight=WEIGHTS[priority], weight_since=Now())
    return queued


def requeue(request_ids: Collection[str]) -> list[str]:
    """Send these of the requests that are queued again, at once: whatever they wait for, and with the weight that their
    priority has. Returns their ids."""
    with transaction.atomic():
        queued = _locked(request_ids)
        weights = Case(*(When(request__priority=name, then=Value(weight)) for name, weight in WEIGHTS.items()))
        # An UPDATE cannot look at another table, but what it sets can come from a query of its own.
        found = GenerationQueue.objects.filter(pk__in=queued).annotate(weight=weights).values_list("pk", "weight")
        by_weight: dict[int, list[str]] = {}
        for pk, weight in found:
            by_weight.setdefault(weight, []).append(pk)
        for weight, ids in by_weight.items():
            _update_rows(ids, priority_weight=weight, weight_since=Now(), available_at=Now(), waits_for="")
    return queued


def pause(scope: str, value: str, *, reason: str, by: User) -> Pause | None:
    """Start nothing more of this; what runs goes on. ``None`` where it is paused already."""
    try:
        with transaction.atomic():
            made = Pause.objects.create(scope=scope, value=value, reason=reason, paused_by=by)
    except IntegrityError:
        return None
    pauses.cached.cache_clear()
    return made


def resume(pause: Pause) -> bool:
    """What was paused may start, and is sent. ``False`` where somebody else has resumed it."""
    with transaction.atomic():
        deleted, _ = Pause.objects.filter(pk=pause.pk).delete()
        if deleted:
            _send_unpaused(pause)
    pauses.cached.cache_clear()
    return bool(deleted)


def _send_unpaused(pause: Pause) -> None:
    # Workers have taken the messages that lay in Redis, and were refused.
    stopped = pauses.stopped_by(pause).filter(redispatch_at__isnull=False)
    ids = list(stopped.select_for_update(skip_locked=True, of=("self",)).values_list("pk", flat=True))
    _mark_undelivered(ids)
    if pause.scope == PauseScope.PROVIDER:
        dispatch.make_due(pause.value)
    dispatch.send_due_after_commit()


def _locked(request_ids: Collection[str]) -> list[str]:
    """Those that are queued; they stay so until the transaction ends."""
    rows = GenerationRequest.objects.select_for_update().filter(pk__in=request_ids, status=Status.QUEUED)
    return list(rows.order_by("pk").values_list("pk", flat=True))


def _update_rows(request_ids: Collection[str], **values: Any) -> None:
    GenerationQueue.objects.filter(pk__in=request_ids).update(**values)
    _mark_undelivered(request_ids)
    dispatch.send_due_after_commit()


def _mark_undelivered(request_ids: Collection[str]) -> None:
    sent: dict[str, Any] = {"dispatched_at": None, "redispatch_at": None, "dispatch_count": 0}
    GenerationQueue.objects.filter(pk__in=request_ids).update(**sent)
