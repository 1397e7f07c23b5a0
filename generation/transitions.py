"""How a status changes: a guarded UPDATE whose row count is looked at, and a row in the history. For ``lifecycle``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F

from generation import events, instruments, places, sharing
from generation.guards import AT
from generation.inserts import Plain, create, inserting
from generation.models import GenerationQueue, GenerationRequest, StatusChange
from generation.prepared import Changed, Condition, Statement, change
from generation.states import TRANSITIONS, Edge, Reason, Status

_NEXT: Final = F("sequence") + 1
_ID, _SEQUENCE, _CLAIMS = Changed("id"), Changed("sequence"), Changed("claims")


def step(
    request_id: str,
    edge: Edge,
    *,
    guard: Condition = AT,
    bound: Mapping[str, Any] | None = None,
    actor: User | None = None,
    error_code: str = "",
    then: Sequence[Statement] = (),
    **values: Any,
) -> GenerationRequest | None:
    """One transition with its row in the history and what else follows from it, all or nothing. Returns the request as
    it is now; nothing where the guard did not hold, because somebody was first. A guard contains what ``AT`` does, and
    ``bound`` is what else it is told. Raises ``ValueError`` for a step that no request can take."""
    _check(edge)
    told: dict[str, Any] = {"pk": request_id, "source": edge.source, **(bound or {})}
    row = _history(edge, actor=actor, error_code=error_code, request_id=_ID, sequence=_SEQUENCE, claim=_CLAIMS)
    then = [inserting(StatusChange, row), *then]
    changed = change(GenerationRequest, guard, {**values, "status": edge.target, "sequence": _NEXT}, *then, **told)
    if changed is not None:
        _tell([changed], edge)
    return changed


def step_all(
    request_ids: Collection[str], edge: Edge, *, actor: User | None = None, **values: Any
) -> list[GenerationRequest]:
    """The same transition of several requests that the caller has locked where the step begins. Returns them as they
    are now."""
    _check(edge)
    rows = GenerationRequest.objects.filter(pk__in=request_ids)
    rows.filter(status=edge.source).update(status=edge.target, sequence=_NEXT, **values)
    requests = list(rows.order_by("pk"))
    if requests:
        create(_histories(requests, edge, actor))
        _tell(requests, edge)
    return requests


def _check(edge: Edge) -> None:
    if edge not in TRANSITIONS:
        raise ValueError(f"{edge.source} → {edge.target} ({edge.reason}) is not a step of a request")


def begin(requests: Sequence[GenerationRequest], entries: Sequence[GenerationQueue], *, actor: User) -> None:
    """New requests with their rows in the ledger and in the history, all or nothing, and whom it concerns is told after
    the commit."""
    edge = Edge(None, Status.QUEUED, Reason.SUBMITTED)
    create(requests, entries, _histories(requests, edge, actor))
    _tell(requests, edge)


def _histories(requests: Sequence[GenerationRequest], edge: Edge, actor: User | None) -> Plain:
    rows = [
        _history(edge, actor=actor, request_id=request.pk, sequence=request.sequence, claim=request.claims)
        for request in requests
    ]
    return Plain(StatusChange, rows)


def _history(edge: Edge, *, actor: User | None = None, error_code: str = "", **values: Any) -> dict[str, Any]:
    return values | {
        "from_status": edge.source or "",
        "to_status": edge.target,
        "reason": edge.reason,
        "actor_id": actor and actor.pk,
        "error_code": error_code,
    }


def _tell(requests: Sequence[GenerationRequest], edge: Edge) -> None:
    """After the commit: those who watch, those who wait for the place or the picture, and what is counted."""
    events.announce(requests)
    if settings.ENABLE_METRICS:
        transaction.on_commit(lambda: _count(requests, edge), robust=True)
    if edge.source is None or edge.target == Status.IN_PROGRESS:
        return
    # A place in the batch may have become free, and who waits for the picture waits no longer.
    for batch_id in {request.batch_id for request in requests if request.batch_id}:
        places.fill_batch_after_commit(batch_id)
    for request in requests:
        sharing.wake_after_commit(request)


def _count(requests: Sequence[GenerationRequest], edge: Edge) -> None:
    for request in requests:
        instruments.count_transition(request, edge)
