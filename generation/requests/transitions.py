"""Status transitions: a guarded UPDATE, a row in the history, and side effects after the commit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F

from generation.models import GenerationRequest, StatusChange
from generation.providers import result_cache
from generation.queue import batch_limits
from generation.requests import events
from generation.states import TRANSITIONS, Reason, Status, Transition
from generation.telemetry import metrics

SUBMIT: Final = Transition(None, Status.QUEUED, Reason.SUBMITTED)
CLAIM: Final = Transition(Status.QUEUED, Status.IN_PROGRESS, Reason.CLAIMED)


def apply_transition(
    request_ids: Collection[str], transition: Transition, *, actor: User | None = None, **values: Any
) -> list[GenerationRequest]:
    """Change the status of requests that the caller has locked in the transition's source status, and return them.
    Raises ``ValueError`` for a transition that does not exist."""
    check(transition)
    rows = GenerationRequest.objects.filter(pk__in=request_ids)
    rows.filter(status=transition.source).update(status=transition.target, sequence=F("sequence") + 1, **values)
    requests = list(rows.order_by("pk"))
    if requests:
        StatusChange.objects.bulk_create(
            StatusChange(
                request=request,
                sequence=request.sequence,
                from_status=transition.source or "",
                to_status=transition.target,
                reason=transition.reason,
                claim=request.claims,
                actor=actor,
            )
            for request in requests
        )
        schedule_side_effects(requests, transition)
    return requests


def check(transition: Transition) -> None:
    """Raise ``ValueError`` for a transition that does not exist."""
    if transition not in TRANSITIONS:
        source, target, reason = transition
        raise ValueError(f"there is no transition {source} → {target} ({reason})")


def schedule_side_effects(requests: Sequence[GenerationRequest], transition: Transition) -> None:
    """After the commit, publish the transition to subscribers, count it in the metrics, and wake requests that wait for
    a slot in the batch or for the image."""
    events.announce(requests)
    if settings.ENABLE_METRICS:
        transaction.on_commit(lambda: _count(requests, transition), robust=True)
    if transition.source is None or transition.target == Status.IN_PROGRESS:
        return
    for batch_id in {request.batch_id for request in requests if request.batch_id}:
        batch_limits.fill_batch_after_commit(batch_id)
    for request in requests:
        result_cache.wake_after_commit(request)


def _count(requests: Sequence[GenerationRequest], transition: Transition) -> None:
    for request in requests:
        metrics.count_transition(request, transition)
