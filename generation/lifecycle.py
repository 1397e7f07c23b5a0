"""The only writer of a status. Each function is one outcome: a guarded UPDATE, its row in the history, the ledger.

Every step locks the request first and its ledger row second, and several requests in the order of their ids, so that
no two steps can wait for each other. All times are the database's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q

from generation import dispatch, events
from generation.clock import Now
from generation.identifiers import new_request_id
from generation.models import GenerationAttempt, GenerationBatch, GenerationQueue, GenerationRequest, StatusChange
from generation.states import (
    ACTIVE,
    RETRY_WEIGHT,
    TRANSITIONS,
    WEIGHTS,
    AttemptOutcome,
    Edge,
    Reason,
    Status,
)

DEFAULT_MAX_ATTEMPTS: Final = 3


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A request as it is submitted, already checked."""

    type: str
    prompt: str
    priority: str
    project_id: str = ""
    page_id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    max_attempts: int = DEFAULT_MAX_ATTEMPTS


def submit(drafts: Sequence[Draft], *, owner: User, batch: GenerationBatch | None = None) -> list[GenerationRequest]:
    """Create queued requests with their ledger rows and history, and send their messages once all that is committed.

    Of a batch with a limit only as many are sent as it has places; the others wait in the ledger, held.
    """
    places = batch.max_concurrent if batch and batch.max_concurrent else len(drafts)
    with transaction.atomic():
        requests = GenerationRequest.objects.bulk_create(
            GenerationRequest(
                id=new_request_id(),
                owner=owner,
                batch=batch,
                type=draft.type,
                prompt=draft.prompt,
                priority=draft.priority,
                project_id=draft.project_id,
                page_id=draft.page_id,
                metadata=draft.metadata,
                max_attempts=draft.max_attempts,
            )
            for draft in drafts
        )
        first = sorted(requests, key=lambda request: (-WEIGHTS[request.priority], request.pk))[:places]
        sent = {request.pk for request in first}
        GenerationQueue.objects.bulk_create(
            GenerationQueue(
                request=request,
                priority_weight=WEIGHTS[request.priority],
                **(dispatch.sent_now() | {"dispatch_count": 1} if request.pk in sent else {"held": True}),
            )
            for request in requests
        )
        _record(requests, Edge(None, Status.QUEUED, Reason.SUBMITTED), actor=owner)
        dispatch.send_after_commit([(request.pk, WEIGHTS[request.priority]) for request in first])
    return requests


def claim(request_id: str, *, worker: str) -> Claim | None:
    """Make a queued request that may start now this worker's. ``None`` where it is not to be had: somebody was first,
    it was cancelled, it is not due yet, its batch has no place free, or there is no such request."""
    due = GenerationQueue.objects.filter(request_id=OuterRef("pk"), available_at__lte=Now())
    with transaction.atomic():
        if not dispatch.batch_has_place(request_id):
            return None
        claimed = _step(
            [request_id],
            Edge(Status.QUEUED, Status.IN_PROGRESS, Reason.CLAIMED),
            guard=Q(Exists(due)),
            claims=F("claims") + 1,
            attempts=F("attempts") + 1,
            started_at=Now(),
            lease_expires_at=Now() + settings.LEASE,
            worker=worker,
        )
        if not claimed:
            return None
        request = claimed[0]
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
            _enqueue_again(claim.request, weight=RETRY_WEIGHT, delay=delay)
    return back


def cancel(request_ids: Collection[str], *, actor: User) -> list[str]:
    """Give up what is queued or running of these, at once and for good. Returns the ids of what was given up."""
    cancelled: list[str] = []
    with transaction.atomic():
        # The locks keep the statuses from changing between this look and the steps below; their order is everybody's.
        found = list(
            GenerationRequest.objects.select_for_update()
            .filter(pk__in=request_ids, status__in=ACTIVE)
            .order_by("pk")
            .values_list("pk", "status")
        )
        for source in ACTIVE:
            ids = [pk for pk, status in found if status == source]
            edge = Edge(source, Status.CANCELLED, Reason.CANCELLED)
            values: dict[str, Any] = {"completed_at": Now(), "lease_expires_at": None, "worker": ""}
            cancelled += [request.pk for request in _step(ids, edge, actor=actor, **values)]
        GenerationQueue.objects.filter(pk__in=cancelled).delete()
        GenerationAttempt.objects.filter(request_id__in=cancelled, outcome=AttemptOutcome.RUNNING).update(
            outcome=AttemptOutcome.ABANDONED, finished_at=Now()
        )
    return cancelled


def retry(request_id: str, *, actor: User) -> GenerationRequest | None:
    """Queue a failed or cancelled request again, with all its attempts before it. ``None`` for any other."""
    with transaction.atomic():
        source = (
            GenerationRequest.objects.select_for_update()
            .filter(pk=request_id, status__in=(Status.FAILED, Status.CANCELLED))
            .values_list("status", flat=True)
            .first()
        )
        if source is None:
            return None
        edge = Edge(Status(source), Status.QUEUED, Reason.RETRIED)
        request = _step([request_id], edge, actor=actor, attempts=0, error=None, started_at=None, completed_at=None)[0]
        _enqueue_again(request, weight=WEIGHTS[request.priority])
    return request


def extend_leases(request_ids: list[str], *, worker: str) -> int:
    """Renew the leases of what this worker still works on. Returns how many it still holds."""
    held = GenerationRequest.objects.filter(pk__in=request_ids, worker=worker, status=Status.IN_PROGRESS)
    with transaction.atomic():
        locked = list(held.select_for_update().order_by("pk").values_list("pk", flat=True))
        return GenerationRequest.objects.filter(pk__in=locked).update(lease_expires_at=Now() + settings.LEASE)


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


def _enqueue_again(request: GenerationRequest, *, weight: int, delay: timedelta | None = None) -> None:
    """Put a request that just became queued into the ledger. Without a delay it is sent at once; with one the
    dispatcher sends it when it is due, and in a batch with a limit whoever fills its places does."""
    entry = GenerationQueue(request=request, priority_weight=weight)
    entry.held = GenerationBatch.objects.filter(pk=request.batch_id, max_concurrent__isnull=False).exists()
    if delay is not None:
        entry.available_at = Now() + delay
    elif not entry.held:
        for column, value in dispatch.sent_now().items():
            setattr(entry, column, value)
        dispatch.send_after_commit([(request.pk, weight)])
    entry.save(force_insert=True)


def _finish(claim: Claim, edge: Edge, attempt: dict[str, Any], **values: Any) -> bool:
    """End a claim: the step, guarded by its fence, and the attempt's row."""
    with transaction.atomic():
        ended = _step([claim.request.pk], edge, guard=_fence(claim), lease_expires_at=None, worker="", **values)
        if ended:
            _attempt(claim).update(finished_at=Now(), **attempt)
    return bool(ended)


def _step(
    request_ids: Sequence[str],
    edge: Edge,
    *,
    guard: Q | None = None,
    actor: User | None = None,
    error_code: str = "",
    **values: Any,
) -> list[GenerationRequest]:
    """One transition of one request, or of several that are locked, inside the caller's transaction. Returns them as
    they are now; nothing where the guard did not hold, because somebody was first."""
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
    _record(requests, edge, actor=actor, error_code=error_code)
    if edge.target != Status.IN_PROGRESS:  # whatever else it is, a place in the batch may have become free
        for batch_id in {request.batch_id for request in requests if request.batch_id}:
            dispatch.fill_batch_after_commit(batch_id)
    return requests


def _record(
    requests: Sequence[GenerationRequest], edge: Edge, *, actor: User | None = None, error_code: str = ""
) -> None:
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
