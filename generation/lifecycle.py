"""The only writer of a status. Each function is one outcome: a guarded UPDATE, its row in the history, the ledger.

Every step locks the request first and its ledger row second, so that steps of one request cannot deadlock. All times
are the database's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q

from generation import dispatch, events
from generation.clock import Now
from generation.identifiers import new_request_id
from generation.models import GenerationAttempt, GenerationBatch, GenerationQueue, GenerationRequest, StatusChange
from generation.states import (
    RETRY_WEIGHT,
    TRANSITIONS,
    WEIGHTS,
    AttemptOutcome,
    Edge,
    Reason,
    Status,
)


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to one request. Its number is the fence: a later claim makes every write of this one void."""

    request: GenerationRequest
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why an attempt gave no picture. ``message`` is for people and carries no secret."""

    message: str
    code: str
    retryable: bool
    provider: str = ""
    provider_request_id: str = ""

    def as_error(self) -> dict[str, Any]:
        """What a failed request keeps and its client sees."""
        return {
            "message": self.message,
            "code": self.code,
            "retryable": self.retryable,
            "provider": self.provider or None,
        }


def submit(
    *,
    owner: User,
    type: str,
    prompt: str,
    priority: str,
    project_id: str = "",
    page_id: str = "",
    metadata: dict[str, Any],
    max_attempts: int,
    batch: GenerationBatch | None = None,
) -> GenerationRequest:
    """Create a queued request with its ledger row and history, and send its message once all that is committed."""
    with transaction.atomic():
        request = GenerationRequest.objects.create(
            id=new_request_id(),
            owner=owner,
            batch=batch,
            type=type,
            prompt=prompt,
            priority=priority,
            project_id=project_id,
            page_id=page_id,
            metadata=metadata,
            max_attempts=max_attempts,
        )
        weight = WEIGHTS[priority]
        GenerationQueue.objects.create(request=request, priority_weight=weight, dispatch_count=1, **dispatch.sent_now())
        _record(request, Edge(None, Status.QUEUED, Reason.SUBMITTED), actor=owner)
        dispatch.send_after_commit(request.pk, weight)
    return request


def claim(request_id: str, *, worker: str) -> Claim | None:
    """Make a queued request that may start now this worker's. ``None`` where it is not to be had: somebody was first,
    it was cancelled, it is not due yet, or there is no such request."""
    due = GenerationQueue.objects.filter(request_id=OuterRef("pk"), available_at__lte=Now())
    with transaction.atomic():
        request = _step(
            request_id,
            Edge(Status.QUEUED, Status.IN_PROGRESS, Reason.CLAIMED),
            guard=Q(Exists(due)),
            claims=F("claims") + 1,
            attempts=F("attempts") + 1,
            started_at=Now(),
            lease_expires_at=Now() + settings.LEASE,
            worker=worker,
        )
        if request is None:
            return None
        GenerationQueue.objects.filter(pk=request_id).delete()
        GenerationAttempt.objects.create(request=request, claim=request.claims, number=request.attempts, worker=worker)
    return Claim(request, request.claims)


def record_call(claim: Claim, *, provider: str, model: str, prompt: str) -> bool:
    """Note what is about to be sent to whom. ``False`` where the claim is void, and then nothing may be sent."""
    with transaction.atomic():
        held = GenerationRequest.objects.select_for_update().filter(_fence(claim)).exists()
        if held:
            _attempt(claim).update(provider=provider, model=model, prompt=prompt)
    return held


def complete(claim: Claim, *, result: dict[str, Any], model: str, provider_request_id: str = "") -> bool:
    """The picture is stored. ``False`` where the claim is void: then it is not this worker's to show."""
    return _finish(
        claim,
        Edge(Status.IN_PROGRESS, Status.COMPLETED, Reason.COMPLETED),
        {"outcome": AttemptOutcome.SUCCEEDED, "model": model, "provider_request_id": provider_request_id},
        result=result,
        completed_at=Now(),
    )


def fail(claim: Claim, failure: Failure) -> bool:
    """No picture, and no further try. ``False`` where the claim is void."""
    return _finish(
        claim,
        Edge(Status.IN_PROGRESS, Status.FAILED, Reason.FAILED),
        _attempt_failed(failure),
        error_code=failure.code,
        error=failure.as_error(),
        completed_at=Now(),
    )


def retry_later(claim: Claim, failure: Failure, *, delay: timedelta) -> bool:
    """No picture this time: back into the queue, behind those that had no try, and not before ``delay`` is over.
    ``False`` where the claim is void."""
    with transaction.atomic():
        back = _finish(
            claim,
            Edge(Status.IN_PROGRESS, Status.QUEUED, Reason.RETRY),
            _attempt_failed(failure),
            error_code=failure.code,
            started_at=None,
        )
        if back:
            GenerationQueue.objects.create(
                request_id=claim.request.pk, priority_weight=RETRY_WEIGHT, available_at=Now() + delay
            )
    return back


def cancel(request_id: str, *, actor: User) -> bool:
    """Give up a queued or running request, at once and for good. ``False`` where there is none to give up."""
    with transaction.atomic():
        # The lock keeps the status from changing between this look and the step below.
        status = (
            GenerationRequest.objects.select_for_update().filter(pk=request_id).values_list("status", flat=True).first()
        )
        if status not in (Status.QUEUED, Status.IN_PROGRESS):
            return False
        request = _step(
            request_id,
            Edge(Status(status), Status.CANCELLED, Reason.CANCELLED),
            actor=actor,
            completed_at=Now(),
            lease_expires_at=None,
            worker="",
        )
        if request is None:
            return False
        GenerationQueue.objects.filter(pk=request_id).delete()
        GenerationAttempt.objects.filter(request_id=request_id, outcome=AttemptOutcome.RUNNING).update(
            outcome=AttemptOutcome.ABANDONED, finished_at=Now()
        )
    return True


def extend_leases(request_ids: list[str], *, worker: str) -> int:
    """Renew the leases of what this worker still works on. Returns how many it still holds."""
    return GenerationRequest.objects.filter(pk__in=request_ids, worker=worker, status=Status.IN_PROGRESS).update(
        lease_expires_at=Now() + settings.LEASE
    )


def _fence(claim: Claim) -> Q:
    return Q(pk=claim.request.pk, status=Status.IN_PROGRESS, claims=claim.number)


def _attempt(claim: Claim) -> Any:
    return GenerationAttempt.objects.filter(request_id=claim.request.pk, claim=claim.number)


def _attempt_failed(failure: Failure) -> dict[str, Any]:
    return {
        "outcome": AttemptOutcome.FAILED,
        "error_code": failure.code,
        "error_message": failure.message,
        "provider_request_id": failure.provider_request_id,
    }


def _finish(claim: Claim, edge: Edge, attempt: dict[str, Any], **values: Any) -> bool:
    """End a claim: the step, guarded by its fence, and the attempt's row."""
    with transaction.atomic():
        request = _step(claim.request.pk, edge, guard=_fence(claim), lease_expires_at=None, worker="", **values)
        if request is not None:
            _attempt(claim).update(finished_at=Now(), **attempt)
    return request is not None


def _step(
    request_id: str,
    edge: Edge,
    *,
    guard: Q | None = None,
    actor: User | None = None,
    error_code: str = "",
    **values: Any,
) -> GenerationRequest | None:
    """One transition, inside the caller's transaction. ``None`` where the guard did not hold: somebody was first."""
    if edge not in TRANSITIONS:
        raise ValueError(f"{edge.source} → {edge.target} ({edge.reason}) is not a step of a request")
    won = GenerationRequest.objects.filter(guard or Q(), pk=request_id, status=edge.source).update(
        status=edge.target, sequence=F("sequence") + 1, **values
    )
    if won != 1:
        return None
    request = GenerationRequest.objects.get(pk=request_id)
    _record(request, edge, actor=actor, error_code=error_code)
    return request


def _record(request: GenerationRequest, edge: Edge, *, actor: User | None = None, error_code: str = "") -> None:
    StatusChange.objects.create(
        request=request,
        sequence=request.sequence,
        from_status=edge.source or "",
        to_status=edge.target,
        reason=edge.reason,
        claim=request.claims,
        actor=actor,
        error_code=error_code,
    )
    events.announce(request)
