"""How a status changes: a guarded UPDATE whose row count is looked at, and a row in the history. For ``lifecycle``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.auth.models import User
from django.db.models import F, Q

from generation import events, places, sharing
from generation.models import GenerationRequest, StatusChange
from generation.states import TRANSITIONS, Edge, Status


def step(
    request_ids: Sequence[str],
    edge: Edge,
    *,
    guard: Q | None = None,
    actor: User | None = None,
    error_code: str = "",
    **values: Any,
) -> list[GenerationRequest]:
    """One transition of one request, or of several that are locked, inside the caller's transaction. Returns them as
    they are now; nothing where the guard did not hold, because somebody was first. Raises ``ValueError`` for a step
    that no request can take."""
    if edge not in TRANSITIONS:
        raise ValueError(f"{edge.source} → {edge.target} ({edge.reason}) is not a step of a request")
    if not request_ids:
        return []
    won = GenerationRequest.objects.filter(guard or Q(), pk__in=request_ids, status=edge.source).update(
        status=edge.target, sequence=F("sequence") + 1, **values
    )
    if won != len(request_ids):
        return []
    requests = list(GenerationRequest.objects.filter(pk__in=request_ids))
    record(requests, edge, actor=actor, error_code=error_code)
    if edge.target != Status.IN_PROGRESS:
        # A place in the batch may have become free, and who waits for the picture waits no longer.
        for batch_id in {request.batch_id for request in requests if request.batch_id}:
            places.fill_batch_after_commit(batch_id)
        for request in requests:
            sharing.wake_after_commit(request)
    return requests


def record(
    requests: Sequence[GenerationRequest], edge: Edge, *, actor: User | None = None, error_code: str = ""
) -> None:
    """Write the history of a step that these requests took, and tell those who watch after the commit."""
    StatusChange.objects.bulk_create(
        StatusChange(
            request=request,
            sequence=request.sequence,
            from_status=edge.source or "",
            to_status=edge.target,
            reason=edge.reason,
            claim=request.claims,
            actor=actor,
            error_code=error_code,
        )
        for request in requests
    )
    for request in requests:
        events.announce(request)
