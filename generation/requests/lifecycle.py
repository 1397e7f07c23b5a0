"""The only writer of a status. Each function is one outcome: the step, the attempt's row, the ledger.

Every step locks the request first and its ledger row second, and several requests in the order of their ids, so that
no two steps can wait for each other. All times are the database's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import User
from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models import Case, Count, F, Sum, When

from generation.db import queries
from generation.db.execution import Row, fetch_all, fetch_one
from generation.db.functions import Now
from generation.identifiers import new_request_id
from generation.models import GenerationAttempt, GenerationBatch, GenerationQueue, GenerationRequest
from generation.models.options import GenerationOptions
from generation.providers import budgets
from generation.queue import batch_limits, dispatch
from generation.requests import transitions
from generation.requests.claims import NO_OUTCOME, Claim, Failure
from generation.requests.rows import read_request
from generation.states import (
    ACTIVE,
    GIVEN_UP,
    RETRY_WEIGHT,
    WEIGHTS,
    AttemptOutcome,
    ErrorCode,
    Reason,
    Status,
    Transition,
)
from generation.storage import receipts
from generation.telemetry import correlation, tracing

DEFAULT_MAX_ATTEMPTS: Final = 3

#: What a new row has of a request as it stands.
_GIVEN: Final = ("id", "type", "prompt", "priority", "project_id", "page_id", "metadata", "max_attempts")
_COMPLETED: Final = Transition(Status.IN_PROGRESS, Status.COMPLETED, Reason.COMPLETED)
_FAILED: Final = Transition(Status.IN_PROGRESS, Status.FAILED, Reason.FAILED)
#: A worker was lost, and no attempt is left.
_LOST: Final = Transition(Status.IN_PROGRESS, Status.FAILED, Reason.LEASE_EXPIRED)


@dataclass(frozen=True, kw_only=True, slots=True)
class NewRequest:
    """A request as it is submitted, already checked."""

    type: str
    prompt: str
    priority: str
    project_id: str = ""
    page_id: str = ""
    #: As the client gave it; ``options`` are parsed from it.
    metadata: dict[str, Any] = field(default_factory=dict)
    options: GenerationOptions | None = None
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    estimated_cost: Decimal | None = None


# --- Into the queue ---------------------------------------------------------------------------------------------------


def submit(
    drafts: Sequence[NewRequest], *, owner: User, batch: GenerationBatch | None = None
) -> list[GenerationRequest]:
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
    for request, draft in zip(requests, drafts, strict=True):
        if draft.options:
            request.options = draft.options
    ordered = sorted(requests, key=lambda request: (-WEIGHTS[request.priority], request.pk))
    leaving = dispatch.select_sendable([(request, WEIGHTS[request.priority]) for request in ordered[:places_free]])
    sent = {request_id for request_id, _ in leaving}
    given = [
        {column: getattr(request, column) for column in _GIVEN}
        | {
            "estimated_cost": None if request.estimated_cost is None else str(request.estimated_cost),
            "priority_weight": WEIGHTS[request.priority],
            "held": index >= places_free,
            "sent": request.pk in sent,
        }
        for index, request in enumerate(ordered)
    ]
    of_all: dict[str, Any] = {
        "owner": owner.pk,
        "batch": batch and batch.pk,
        "http_request": call,
        "traceparent": trace,
    }
    parameters = of_all | {"lost_after": settings.REDISPATCH_AFTER, "counted": queries.COUNTED}
    found = fetch_all(queries.SUBMIT, parameters | {"requests": json.dumps(given)})
    _record_submitted(ordered, found)
    transitions.schedule_side_effects(requests, transitions.SUBMIT)
    dispatch.send_after_commit(leaving)
    return requests


def _record_submitted(ordered: Sequence[GenerationRequest], found: Sequence[Row]) -> None:
    """Set on the new requests, which are in the order of the queue, what the database gave them."""
    counts: dict[Any, Any] = {weight: count for _, weight, count in found}
    now: Any = found[0][0]
    for index, request in enumerate(ordered):
        weight = WEIGHTS[request.priority]
        request.created_at = now
        request._state.adding, request._state.db = False, DEFAULT_DB_ALIAS
        entry = GenerationQueue(request=request, priority_weight=weight, queued_at=now)
        entry.ahead = counts[weight] + index


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
        edge = Transition(Status(source), Status.QUEUED, Reason.RETRIED)
        fresh: dict[str, Any] = {"attempts": 0, "waits": 0, "error": None, "started_at": None, "completed_at": None}
        [request] = transitions.apply_transition([request_id], edge, actor=actor, **fresh)
        weight = WEIGHTS[request.priority]
        held = GenerationBatch.objects.filter(pk=request.batch_id, max_concurrent__isnull=False).exists()
        leaving = [] if held else dispatch.select_sendable([(request, weight)])
        sent = dispatch.dispatch_columns() if leaving else {}
        GenerationQueue.objects.create(request=request, priority_weight=weight, held=held, **sent)
        dispatch.send_after_commit(leaving)
    return request


# --- A worker's attempt -----------------------------------------------------------------------------------------------


def claim(request_id: str, *, worker: str) -> Claim | None:
    """Make a queued request that may start now this worker's. ``None`` where it is not to be had: somebody was first,
    it was cancelled or paused, it is not due yet, its batch has no place free, or there is no such request."""
    if taken := _claim_queued(request_id, worker=worker, reserved=False):
        return taken
    with transaction.atomic():
        if not batch_limits.batch_has_free_slot(request_id):
            return None
        return _claim_queued(request_id, worker=worker, reserved=True)


def _claim_queued(request_id: str, *, worker: str, reserved: bool) -> Claim | None:
    asked_at = time.monotonic()
    parameters = {"request": request_id, "worker": worker, "lease": settings.LEASE, "reserved": reserved}
    row = fetch_one(queries.CLAIM, parameters)
    if row is None:
        return None
    request = read_request(row)
    transitions.schedule_side_effects([request], transitions.CLAIM)
    return Claim(request, request.claims, asked_at)


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
    expired: bool = False,
) -> bool:
    """The image is stored. ``cost`` is in US dollars; where it is not known, the ``estimate`` is booked.
    ``paid_by`` is the earlier claim that made the call, of which some cost may be booked already; ``lost_cost`` is what
    a call of this claim may have cost beside it. ``expired`` ends a claim only if its lease ran out. False if the claim
    is stale: then the image is not shown, but its cost is booked all the same."""
    noted: dict[str, Any] = {"model": model, "provider_request_id": provider_request_id, "usage": usage or {}}
    noted["cost"] = None if cost is None else Decimal(cost)
    known = estimate if cost is None else cost
    price = None if known is None else Decimal(known)
    payer = claim.number if paid_by is None else paid_by
    paid_earlier = payer != claim.number
    booked = lost_cost if paid_earlier else price
    succeeded: dict[str, Any] = {"outcome": AttemptOutcome.SUCCEEDED, "booked": booked, "model": model}
    succeeded |= {"provider_request": provider_request_id, "usage": json.dumps(noted["usage"]), "cost": noted["cost"]}
    if paid_earlier:
        succeeded["cost"] = None if lost_cost else Decimal(0)
    # The end of a claim is one statement; with the cost of an earlier claim it is a transaction.
    with transaction.atomic() if paid_earlier else nullcontext():
        done = _end(claim, _COMPLETED, succeeded, result=result, expired=expired)
        if paid_earlier or not done:
            budgets.book_late(claim.request, payer, {} if done else noted, price)
    return done


def fail(claim: Claim, failure: Failure) -> bool:
    """No picture, and no further try. ``False`` where the claim is void."""
    return _end(claim, _FAILED, failure.as_attempt(), error=failure.as_error())


def retry_later(claim: Claim, failure: Failure, *, delay: timedelta) -> bool:
    """No image this time: back into the queue, behind those that had no try, and not before ``delay`` is over.
    ``False`` where the claim is void."""
    return _requeue(claim, Reason.RETRY, failure.as_attempt(), weight=RETRY_WEIGHT, delay=delay)


def snooze(claim: Claim, failure: Failure, *, delay: timedelta) -> bool:
    """Told to wait, which is not failing: as :func:`retry_later`, but the attempt is given back and a wait counted."""
    return _requeue(
        claim, Reason.POSTPONED, failure.as_attempt(), weight=RETRY_WEIGHT, delay=delay, attempts_back=1, waits=1
    )


def fall_back(claim: Claim, failure: Failure, *, counts: bool) -> Claim | None:
    """No image from this provider, but perhaps from another one, which is tried at once: the claim ends and the same
    worker has the next one. Unless it ``counts``, the attempt is given back. ``None`` where the claim is void, or the
    request is paused and waits in the queue."""
    reason = Reason.RETRY if counts else Reason.POSTPONED
    back = 0 if counts else 1
    with transaction.atomic():
        if not _requeue(claim, reason, failure.as_attempt(), weight=RETRY_WEIGHT, attempts_back=back, may_leave=False):
            return None
        # Others see only the end of this transaction, in which the request has the place that it had.
        return _claim_queued(claim.request.pk, worker=claim.request.worker, reserved=True)


def release(claim: Claim, *, delay: timedelta = timedelta(0), waits_for: str = "") -> bool:
    """Nothing was sent, and this worker will not send it: another may, at the old priority and with the attempt given
    back; after the delay, or as soon as what it ``waits_for`` has come about. ``False`` where the claim is void."""
    weight = WEIGHTS[claim.request.priority]
    abandoned = {"outcome": AttemptOutcome.ABANDONED}
    return _requeue(
        claim, Reason.GIVEN_BACK, abandoned, weight=weight, delay=delay, waits_for=waits_for, attempts_back=1
    )


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
        # Before the history, which is counted with the provider that each attempt has by then.
        _abandon_attempts([pk for pk, status in found if status == Status.IN_PROGRESS])
        for source in ACTIVE:
            ids = [pk for pk, status in found if status == source]
            edge = Transition(source, Status.CANCELLED, Reason.CANCELLED)
            values: dict[str, Any] = {"completed_at": Now(), "lease_expires_at": None, "worker": ""}
            cancelled += [request.pk for request in transitions.apply_transition(ids, edge, actor=actor, **values)]
        GenerationQueue.objects.filter(pk__in=cancelled).delete()
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
        row = fetch_one(queries.RESCUE, {"request": request_id})
        if row is None:
            return None
        request = read_request(row)
        claim = Claim(request, request.claims)
        failure, again = _lost_attempt(request, *row[-4:])
        # The call keeps its place at the provider until its deadline.
        attempt = failure.as_attempt() | {"keep_deadline": True}
        if again:
            # The dispatcher sends it. Redis is not asked while the row is locked.
            ends: dict[str, Any] = {"weight": RETRY_WEIGHT, "expired": True, "may_leave": False}
            return Status.QUEUED if _requeue(claim, Reason.LEASE_EXPIRED, attempt, **ends) else None
    # The storage may be slow, so it is asked without a lock on the row.
    if storage_error is not None:
        raise storage_error
    receipt = receipts.find(request_id)
    if receipt is not None:
        done = complete(claim, **receipt, lost_cost=failure.cost, expired=True)
        return Status.COMPLETED if done else None
    done = _end(claim, _LOST, attempt, error=failure.as_error(), expired=True)
    return Status.FAILED if done else None


def _lost_attempt(
    request: GenerationRequest, provider: Any, is_unknown: Any, estimate: Any, unknown_before: Any
) -> tuple[Failure, bool]:
    """Return why the attempt of a lost worker failed, and whether another attempt may follow."""
    code = ErrorCode.UNKNOWN_OUTCOME if is_unknown else ErrorCode.WORKER_LOST
    again = request.attempts < request.max_attempts and not (is_unknown and unknown_before)
    cost = estimate if is_unknown else None
    return Failure(message=code.label, code=code, retryable=True, provider=provider, cost=cost), again


def unknown_outcomes(request: GenerationRequest) -> int:
    """Return how many calls for this request may have been billed without an answer that is understood."""
    rows = GenerationAttempt.objects.filter(request=request, billable=True, call_started_at__isnull=False)
    return rows.filter(error_code__in=[ErrorCode.UNKNOWN_OUTCOME, ErrorCode.INTERNAL]).count()


# --- What they share --------------------------------------------------------------------------------------------------


def _end(
    claim: Claim,
    edge: Transition,
    attempt: dict[str, Any],
    *,
    result: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
    expired: bool = False,
) -> bool:
    """End a claim and its request. ``attempt`` are parameters of the statement. False where the claim is void."""
    parameters = _end_values(claim, edge, attempt, expired)
    texts = {"result": result and json.dumps(result), "error": error and json.dumps(error)}
    row = fetch_one(queries.END, parameters | {"target": edge.target} | texts)
    if row is not None:
        transitions.schedule_side_effects([read_request(row)], edge)
    return row is not None


def _requeue(
    claim: Claim,
    reason: Reason,
    attempt: dict[str, Any],
    *,
    weight: int,
    delay: timedelta = timedelta(0),
    waits_for: str = "",
    attempts_back: int = 0,
    waits: int = 0,
    expired: bool = False,
    may_leave: bool = True,
) -> bool:
    """End a claim and queue its request again. What may start now leaves at once; with a delay the dispatcher sends it
    when it is due. False where the claim is void."""
    edge = Transition(Status.IN_PROGRESS, Status.QUEUED, reason)
    leaving = dispatch.select_sendable([(claim.request, weight)]) if may_leave and not delay else []
    parameters = _end_values(claim, edge, attempt, expired)
    parameters |= {"attempts_back": attempts_back, "waits": waits, "weight": weight, "delay": delay}
    parameters |= {"waits_for": waits_for, "sent": bool(leaving), "lost_after": settings.REDISPATCH_AFTER}
    row = fetch_one(queries.RELEASE, parameters)
    if row is None:
        return False
    transitions.schedule_side_effects([read_request(row)], edge)
    is_held = row[-1]
    dispatch.send_after_commit([] if is_held else leaving)
    return True


def _end_values(claim: Claim, edge: Transition, attempt: dict[str, Any], expired: bool) -> dict[str, Any]:
    transitions.check(edge)
    ending: dict[str, Any] = {"request": claim.request.pk, "claim": claim.number, "expired": expired}
    return ending | {"reason": edge.reason} | NO_OUTCOME | attempt
