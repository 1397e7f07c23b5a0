"""How a status changes: a guarded statement, a row in the history, and what follows after the commit."""

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
    request_ids: Collection[str], edge: Transition, *, actor: User | None = None, **values: Any
) -> list[GenerationRequest]:
    """Change the status of several requests that the caller has locked where the step begins. Return them as they are
    now. Raises ``ValueError`` for a step that no request can take."""
    check(edge)
    rows = GenerationRequest.objects.filter(pk__in=request_ids)
    rows.filter(status=edge.source).update(status=edge.target, sequence=F("sequence") + 1, **values)
    requests = list(rows.order_by("pk"))
    if requests:
        StatusChange.objects.bulk_create(
            StatusChange(
                request=request,
                sequence=request.sequence,
                from_status=edge.source or "",
                to_status=edge.target,
                reason=edge.reason,
                claim=request.claims,
                actor=actor,
            )
            for request in requests
        )
        schedule_side_effects(requests, edge)
    return requests


def check(edge: Transition) -> None:
    """Raise ``ValueError`` for a step that no request can take."""
    if edge not in TRANSITIONS:
        raise ValueError(f"{edge.source} → {edge.target} ({edge.reason}) is not a step of a request")


def schedule_side_effects(requests: Sequence[GenerationRequest], edge: Transition) -> None:
    """After the commit, tell of a step that these requests took: subscribers, requests that wait for a place in the
    batch or for the image, and the metrics."""
    events.announce(requests)
    if settings.ENABLE_METRICS:
        transaction.on_commit(lambda: _count(requests, edge), robust=True)
    if edge.source is None or edge.target == Status.IN_PROGRESS:
        return
    for batch_id in {request.batch_id for request in requests if request.batch_id}:
        batch_limits.fill_batch_after_commit(batch_id)
    for request in requests:
        result_cache.wake_after_commit(request)


def _count(requests: Sequence[GenerationRequest], edge: Transition) -> None:
    for request in requests:
        metrics.count_transition(request, edge)
