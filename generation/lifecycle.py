"""The only writer of a status. Each function is one outcome: the step, the attempt's row, the ledger.

Every step locks the request first and its ledger row second, and several requests in the order of their ids, so that
no two steps can wait for each other. All times are the database's.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Case, Count, F, Q, Sum, When

from generation import budgets, correlation, dispatch, guards, inserts, pauses, places, prepared, storage, tracing
from generation.claims import Claim, Failure
from generation.clock import Now
from generation.identifiers import new_request_id
from generation.models import GenerationAttempt, GenerationBatch, GenerationQueue, GenerationRequest
from generation.prepared import Changed, Condition
from generation.states import ACTIVE, GIVEN_UP, RETRY_WEIGHT, WEIGHTS, AttemptOutcome, Edge, ErrorCode, Reason, Status
from generation.transitions import begin, step, step_all

DEFAULT_MAX_ATTEMPTS: Final = 3

_NEW_ATTEMPT: Final = inserts.defaults(GenerationAttempt)
_OF_CLAIM: Final = {"request": Changed("id"), "claim": Changed("claims"), "number": Changed("attempts")}
_ONE_MORE_CLAIM: Final = F("claims") + 1
_ONE_MORE_ATTEMPT: Final = F("attempts") + 1


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
    estimated_cost: Decimal | None = None


# --- Into the queue ---------------------------------------------------------------------------------------------------


def submit(drafts: Sequence[Draft], *, owner: User, batch: GenerationBatch | None = None) -> list[GenerationRequest]:
    """Create queued requests with their ledger rows and history, and send messages once all that is committed, as far
    as the queues have room. Of a batch with a limit only as many may start as it has places; the others are held."""
    call, trace = correlation.current(), tracing.traceparent()
    places_free = batch.max_concurrent if batch and batch.max_concurrent else len(drafts)
    requests = [
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
            estimated_cost=draft.estimated_cost,
            http_request_id=call,
            traceparent=trace,
        )
        for draft in drafts
    ]
    ordered = sorted(requests, key=lambda request: (-WEIGHTS[request.priority], request.pk))
    entries = [GenerationQueue(request=request, priority_weight=WEIGHTS[request.priority]) for request in ordered]
    for entry in entries[places_free:]:
        entry.held = True
    leaving = _leave(entries[:places_free])
    begin(requests, entries, actor=owner)
    dispatch.send_after_commit(leaving)
    return requests


def retry(request_id: str, *, actor: User | None) -> GenerationRequest | None:
    """Queue a failed or cancelled request again, with all its attempts before it. ``None`` for any other."""
    with transaction.atomic(savepoint=False):
        source = (
            GenerationRequest.objects.select_for_update()
            .filter(pk=request_id, status__in=GIVEN_UP)
            .values_list("status", flat=True)
            .first()
        )
        if source is None:
            return None
        edge = Edge(Status(source), Status.QUEUED, Reason.RETRIED)
        fresh: dict[str, Any] = {"attempts": 0, "waits": 0, "error": None, "started_at": None, "completed_at": None}
        request = step(request_id, edge, actor=actor, **fresh)
        assert request is not None  # noqa: S101  its row is locked
        _enqueue(request, weight=WEIGHTS[request.priority])
    return request


# --- A worker's attempt -----------------------------------------------------------------------------------------------


def claim(request_id: str, *, worker: str) -> Claim | None:
    """Make a queued request that may start now this worker's. ``None`` where it is not to be had: somebody was first,
    it was cancelled or paused, it is not due yet, its batch has no place free, or there is no such request."""
    if taken := _take(request_id, worker=worker, guard=guards.DUE_WITHOUT_LIMIT):
        return taken
    with transaction.atomic():
        return _take(request_id, worker=worker, guard=guards.DUE) if places.batch_has_place(request_id) else None


def _take(request_id: str, *, worker: str, guard: Condition) -> Claim | None:
    asked_at = time.monotonic()
    edge = Edge(Status.QUEUED, Status.IN_PROGRESS, Reason.CLAIMED)
    taken: dict[str, Any] = {"claims": _ONE_MORE_CLAIM, "attempts": _ONE_MORE_ATTEMPT, "worker": worker}
    lease: dict[str, Any] = {"started_at": Now(), "lease_expires_at": Now() + settings.LEASE}
    then = [
        inserts.inserting(GenerationAttempt, _NEW_ATTEMPT | _OF_CLAIM | {"worker": worker}),
        prepared.deleting(GenerationQueue, guards.ENTRY_OF_CHANGED, pk=request_id),
    ]
    request = step(request_id, edge, guard=guard, then=then, **taken, **lease)
    return Claim(request, request.claims, asked_at) if request else None


def complete(
    claim: Claim,
    *,
    result: dict[str, Any],
    model: str,
    provider_request_id: str = "",
    usage: dict[str, int] | None = None,
    cost: str | None = None,
    estimate: str | None = None,
    paid_by: int | None = None,
    lost_cost: Decimal | None = None,
    guard: Condition = guards.FENCE,
) -> bool:
    """The image is stored. ``cost`` is in US dollars; where it is not known, the ``estimate`` is booked.
    ``paid_by`` is the earlier claim that made the call, of which some cost may be booked already; ``lost_cost`` is what
    a call of this claim may have cost beside it. False if the claim is stale: then the image is not shown, but its cost
    is booked all the same."""
    noted: dict[str, Any] = {"model": model, "provider_request_id": provider_request_id, "usage": usage or {}}
    noted["cost"] = None if cost is None else Decimal(cost)
    known = estimate if cost is None else cost
    price = None if known is None else Decimal(known)
    payer = claim.number if paid_by is None else paid_by
    paid_earlier = payer != claim.number
    booked = lost_cost if paid_earlier else price
    edge = Edge(Status.IN_PROGRESS, Status.COMPLETED, Reason.COMPLETED)
    succeeded = {"outcome": AttemptOutcome.SUCCEEDED, "booked_cost": booked} | noted
    if paid_earlier:
        succeeded["cost"] = None if lost_cost else Decimal(0)
    # The end of a claim is one statement; with the cost of an earlier claim it is a transaction.
    with transaction.atomic() if paid_earlier else nullcontext():
        done = _finish(claim, edge, succeeded, guard=guard, result=result, completed_at=Now())
        if paid_earlier or not done:
            budgets.book_late(claim.request, payer, {} if done else noted, price)
    return done


def fail(claim: Claim, failure: Failure) -> bool:
    """No picture, and no further try. ``False`` where the claim is void."""
    return _finish(
        claim,
        Edge(Status.IN_PROGRESS, Status.FAILED, Reason.FAILED),
        failure.as_attempt(),
        error_code=failure.code,
        error=failure.as_error(),
        completed_at=Now(),
    )


def retry_later(claim: Claim, failure: Failure, *, delay: timedelta) -> bool:
    """No picture this time: back into the queue, behind those that had no try, and not before ``delay`` is over.
    ``False`` where the claim is void."""
    edge = Edge(Status.IN_PROGRESS, Status.QUEUED, Reason.RETRY)
    return _back(claim, edge, failure.as_attempt(), weight=RETRY_WEIGHT, delay=delay, error_code=failure.code)


def postpone(claim: Claim, failure: Failure, *, delay: timedelta) -> bool:
    """Told to wait, which is not failing: as :func:`retry_later`, but the attempt is given back and a wait counted."""
    edge = Edge(Status.IN_PROGRESS, Status.QUEUED, Reason.POSTPONED)
    counted: dict[str, Any] = {"attempts": F("attempts") - 1, "waits": F("waits") + 1, "error_code": failure.code}
    return _back(claim, edge, failure.as_attempt(), weight=RETRY_WEIGHT, delay=delay, **counted)


def move_on(claim: Claim, failure: Failure, *, counts: bool) -> Claim | None:
    """No picture from this provider, but perhaps from another one, which is tried at once: the claim ends and the same
    worker has the next one. Unless it ``counts``, the attempt is given back. ``None`` where the claim is void, or the
    request is paused and waits in the queue."""
    edge = Edge(Status.IN_PROGRESS, Status.QUEUED, Reason.RETRY if counts else Reason.POSTPONED)
    given_back: dict[str, Any] = {} if counts else {"attempts": F("attempts") - 1}
    with transaction.atomic():
        if not _finish(claim, edge, failure.as_attempt(), started_at=None, error_code=failure.code, **given_back):
            return None
        following = _take(claim.request.pk, worker=claim.request.worker, guard=guards.AT_AND_NOT_PAUSED)
        if following is None:
            _enqueue(claim.request, weight=RETRY_WEIGHT)
        return following


def give_back(claim: Claim, *, delay: timedelta = timedelta(0), waits_for: str = "") -> bool:
    """Nothing was sent, and this worker will not send it: somebody else may, at the old priority and with the attempt
    given back; after the delay, or as soon as what it ``waits_for`` has come about. ``False`` where the claim is
    void."""
    edge = Edge(Status.IN_PROGRESS, Status.QUEUED, Reason.GIVEN_BACK)
    attempt = {"outcome": AttemptOutcome.ABANDONED}
    values: dict[str, Any] = {"weight": WEIGHTS[claim.request.priority], "attempts": F("attempts") - 1}
    return _back(claim, edge, attempt, delay=delay, waits_for=waits_for, **values)


# --- From outside -----------------------------------------------------------------------------------------------------


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
            cancelled += [request.pk for request in step_all(ids, edge, actor=actor, **values)]
        GenerationQueue.objects.filter(pk__in=cancelled).delete()
        _abandon_attempts(cancelled)
    return cancelled


def _abandon_attempts(request_ids: Collection[str]) -> None:
    """End the running attempts of these requests. A call under way may be billed whether its image is wanted or not, so
    its estimate is booked."""
    rows = GenerationAttempt.objects.filter(request_id__in=request_ids, outcome=AttemptOutcome.RUNNING)
    # The lock waits for a call that is being noted at this moment, so that the UPDATE sees it.
    running = list(rows.select_for_update().order_by("pk").values_list("pk", flat=True))
    if not running:
        return
    attempts = GenerationAttempt.objects.filter(pk__in=running)
    begun = When(call_started_at__isnull=False, billable=True, then=F("estimated_cost"))
    attempts.update(outcome=AttemptOutcome.ABANDONED, finished_at=Now(), booked_cost=Case(begun))
    by_owner = attempts.filter(booked_cost__gt=0).values("request__owner")
    by_owner = by_owner.annotate(cost=Sum("booked_cost"), calls=Count("pk"))
    # Rows of several owners are locked in the order of their ids.
    for row in by_owner.order_by("request__owner"):
        budgets.book(row["request__owner"], row["cost"], calls=row["calls"])


def rescue(request_id: str, *, storage_error: OSError | None = None) -> Status | None:
    """Take a request from a worker whose lease ran out: back into the queue; or, after its last attempt, completed with
    the image that an attempt left in the storage, or failed. Returns its new status, None if there is nothing to rescue
    (any more). Raises ``OSError`` where the storage cannot say whether there is an image; with the ``storage_error`` of
    a moment ago, the storage is not asked again.

    A call that costs money and was not answered may have been billed, so it is repeated once at the most.
    """
    with transaction.atomic():
        claim = _expired_claim(request_id)
        if claim is None:
            return None
        attempt, failure, again = _lost_attempt(claim)
        if again:
            back = Edge(Status.IN_PROGRESS, Status.QUEUED, Reason.LEASE_EXPIRED)
            ends: dict[str, Any] = {"weight": RETRY_WEIGHT, "error_code": failure.code}
            return Status.QUEUED if _back(claim, back, attempt, guard=guards.EXPIRED, **ends) else None
    # The storage may be slow, so it is asked without a lock on the row.
    if storage_error is not None:
        raise storage_error
    receipt = storage.find_receipt(request_id)
    if receipt is not None:
        done = complete(claim, **receipt, lost_cost=failure.cost, guard=guards.EXPIRED)
        return Status.COMPLETED if done else None
    error, code = failure.as_error(), failure.code
    given_up = Edge(Status.IN_PROGRESS, Status.FAILED, Reason.LEASE_EXPIRED)
    ended: dict[str, Any] = {"guard": guards.EXPIRED, "error": error, "error_code": code, "completed_at": Now()}
    return Status.FAILED if _finish(claim, given_up, attempt, **ended) else None


def _expired_claim(request_id: str) -> Claim | None:
    """Return the claim whose lease ran out, with its request locked unless another transaction has it."""
    expired = Q(status=Status.IN_PROGRESS, lease_expires_at__lt=Now())
    request = GenerationRequest.objects.select_for_update(skip_locked=True).filter(expired, pk=request_id).first()
    return None if request is None else Claim(request, request.claims)


def _lost_attempt(claim: Claim) -> tuple[dict[str, Any], Failure, bool]:
    """Return the end of the attempt of a lost worker, the failure, and whether another attempt may follow."""
    request, attempt = claim.request, claim.attempt().get()
    unknown = attempt.billable and attempt.call_started_at is not None
    code = ErrorCode.UNKNOWN_OUTCOME if unknown else ErrorCode.WORKER_LOST
    again = request.attempts < request.max_attempts and not (unknown and unknown_outcomes(request))
    cost = attempt.estimated_cost if unknown else None
    failure = Failure(message=code.label, code=code, retryable=True, provider=attempt.provider, cost=cost)
    # The call keeps its place at the provider until its deadline.
    return failure.as_attempt() | {"call_deadline_at": attempt.call_deadline_at}, failure, again


def unknown_outcomes(request: GenerationRequest) -> int:
    """Return how many calls for this request may have been billed without an answer that is understood."""
    rows = GenerationAttempt.objects.filter(request=request, billable=True, call_started_at__isnull=False)
    return rows.filter(error_code__in=[ErrorCode.UNKNOWN_OUTCOME, ErrorCode.INTERNAL]).count()


# --- What they share --------------------------------------------------------------------------------------------------


def _finish(
    claim: Claim,
    edge: Edge,
    attempt: dict[str, Any],
    *,
    guard: Condition = guards.FENCE,
    **values: Any,
) -> bool:
    """End a claim in one statement: the step, guarded by its fence, the attempt's row, and the cost that is booked."""
    over = {"finished_at": Now(), "call_deadline_at": None} | attempt
    ended = prepared.updating(GenerationAttempt, guards.ATTEMPT_OF_CHANGED, over, **claim.keys)
    spent = budgets.booking(claim.request.owner_id, attempt.get("booked_cost"))
    fence: dict[str, Any] = {"guard": guard, "bound": {"claims": claim.number}, "then": [ended, *spent]}
    return step(claim.request.pk, edge, **fence, lease_expires_at=None, worker="", **values) is not None


def _back(
    claim: Claim,
    edge: Edge,
    attempt: dict[str, Any],
    *,
    weight: int,
    delay: timedelta = timedelta(0),
    waits_for: str = "",
    **values: Any,
) -> bool:
    """End a claim and queue its request again."""
    with transaction.atomic():
        back = _finish(claim, edge, attempt, started_at=None, **values)
        if back:
            _enqueue(claim.request, weight=weight, delay=delay, waits_for=waits_for)
    return back


def _enqueue(request: GenerationRequest, *, weight: int, delay: timedelta = timedelta(0), waits_for: str = "") -> None:
    """Put a request that just became queued into the ledger. What may start now leaves at once; with a delay the
    dispatcher sends it when it is due, and in a batch with a limit whoever fills its places does."""
    entry = GenerationQueue(request=request, priority_weight=weight, waits_for=waits_for)
    entry.held = GenerationBatch.objects.filter(pk=request.batch_id, max_concurrent__isnull=False).exists()
    if delay:
        entry.available_at = entry.weight_since = Now() + delay
    leaving = [] if delay or entry.held else _leave([entry])
    entry.save(force_insert=True)
    dispatch.send_after_commit(leaving)


def _leave(entries: Sequence[GenerationQueue]) -> list[tuple[str, int]]:
    """Mark the entries that have room in the queues as sent. Returns what is to be sent once they are committed."""
    entries = [entry for entry in entries if not pauses.is_paused(entry.request)]
    allowed = dispatch.reserve([entry.priority_weight for entry in entries])
    leaving = [entry for entry, now in zip(entries, allowed, strict=True) if now]
    for entry in leaving:
        for column, value in dispatch.sent_now().items():
            setattr(entry, column, value)
    return [(entry.request_id, entry.priority_weight) for entry in leaving]
