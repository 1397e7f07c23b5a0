"""The lifecycle of a request: the only module that writes a status, with ``inserts``, which only it uses.

Each function is one outcome, and writes the transition, the attempt's row and the queue row together. It locks the
request first and its queue row second, and several requests in the order of their ids, so that there are no deadlocks.
All times are the database's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Case, Count, F, Sum, Value, When
from django.utils import timezone

from generation.access import grants
from generation.db import queries
from generation.db.execution import as_json, fetch_all, fetch_one
from generation.db.functions import Now
from generation.models import GenerationAttempt, GenerationBatch, GenerationQueue, GenerationRequest
from generation.providers import budgets
from generation.queue import dispatch, run_limits
from generation.requests import endings, inserts, references, transitions
from generation.requests.claims import AttemptFailure, Claim
from generation.requests.endings import Ending
from generation.requests.new_request import NewRequest
from generation.requests.rows import read_request
from generation.states import (
    ACTIVE,
    GIVEN_UP,
    PARKED_WEIGHT,
    RETRY_WEIGHT,
    TRANSITIONS,
    WEIGHTS,
    AttemptOutcome,
    CancelReason,
    ErrorCode,
    Reason,
    Status,
    Transition,
)
from generation.storage import receipts
from generation.telemetry import correlation, tracing

# --- Queueing ---------------------------------------------------------------------------------------------------------


def submit(
    drafts: Sequence[NewRequest], *, owner: User, batch: GenerationBatch | None = None
) -> list[GenerationRequest]:
    """Create queued requests with their queue rows and history, and send messages after the commit, up to the capacity
    of the queues. If the batch or the owner's API key has a limit, the requests beyond it are held. Requests that wait
    for their images or their time are parked."""
    grant = grants.grant_of(owner)
    common = {
        "owner_id": owner.pk,
        "batch_id": batch and batch.pk,
        "api_key_id": grant.key_id if grant else None,
        "http_request_id": correlation.current(),
        "traceparent": tracing.traceparent(),
    }
    requests = [inserts.new_row(draft, common) for draft in drafts]
    cancel_after = {
        request.pk: draft.cancel_after and draft.cancel_after.total_seconds()
        for request, draft in zip(requests, drafts, strict=True)
    }
    images = {
        request.pk: references.columns(draft.images, requests)
        for request, draft in zip(requests, drafts, strict=True)
        if draft.images
    }
    now = timezone.now()
    parked = {
        request.pk
        for request, draft in zip(requests, drafts, strict=True)
        if draft.is_parked or (draft.not_before and draft.not_before > now)
    }
    free_slots = batch.max_concurrent if batch and batch.max_concurrent else len(drafts)
    limited_key = grant.key_id if grant and grant.max_active else None
    if limited_key:
        free_slots = 0
    weights = {request.pk: PARKED_WEIGHT if request.pk in parked else WEIGHTS[request.priority] for request in requests}
    ordered = sorted(requests, key=lambda request: (-weights[request.pk], request.pk))
    free_slots = min(free_slots, len(drafts) - len(parked))  # parked ones are the last
    messages = dispatch.select_sendable([(request, weights[request.pk]) for request in ordered[:free_slots]])
    sent = {request_id for request_id, _ in messages}
    rows = [
        inserts.columns(request)
        | {"priority_weight": weights[request.pk], "held": index >= free_slots, "sent": request.pk in sent}
        | {"cancel_after": cancel_after[request.pk], "images": images.get(request.pk)}
        for index, request in enumerate(ordered)
    ]
    for request, (now, turn, ahead) in zip(ordered, inserts.insert(rows), strict=True):
        request.created_at, request.turn, request.ahead = now, turn, ahead
        request.is_parked = request.pk in parked
    transitions.schedule_side_effects(requests, transitions.SUBMIT)
    dispatch.send_after_commit(messages)
    if limited_key:
        transaction.on_commit(partial(run_limits.KEY.fill, limited_key), robust=True)
    return requests


def retry(request_id: str, *, actor: User | None, keep_deadline: bool = False) -> GenerationRequest | None:
    """Queue a failed or cancelled request again, with its full number of attempts. Return None for any other."""
    with transaction.atomic(savepoint=False):
        source = (
            GenerationRequest.objects.select_for_update()
            .filter(pk=request_id, status__in=GIVEN_UP)
            .values_list("status", flat=True)
            .first()
        )
        if source is None:
            return None
        transition = Transition(Status(source), Status.QUEUED, Reason.RETRIED)
        reset: dict[str, Any] = {"attempts": 0, "waits": 0, "error": None, "started_at": None, "completed_at": None}
        reset |= {"cancel_reason": "", "api_key_id": actor and grants.key_id_of(actor)}
        if not keep_deadline:
            reset["cancel_at"] = None
        [request] = transitions.apply_transition([request_id], transition, actor=actor, **reset)
        is_parked = references.is_waiting(request)
        weight = PARKED_WEIGHT if is_parked else WEIGHTS[request.priority]
        held = is_parked or run_limits.applies_to(request)
        messages = [] if held else dispatch.select_sendable([(request, weight)])
        sent = dispatch.dispatch_columns() if messages else {}
        GenerationQueue.objects.create(
            request=request, priority_weight=weight, held=held, fair_key=request.fair_key, **sent
        )
        dispatch.send_after_commit(messages)
    request.is_parked = is_parked
    return request


# --- A worker's attempt -----------------------------------------------------------------------------------------------


def claim(request_id: str, *, worker: str) -> Claim | None:
    """Claim a queued request for this worker. Return None if it cannot start: another worker has claimed it, it was
    cancelled or paused, it is not due yet, its batch has no free slot, or there is no such request."""
    [claimed] = _claim_each([request_id], worker=worker)
    if claimed:
        return claimed
    with transaction.atomic():
        if not run_limits.has_free_slots(request_id):
            return None
        return _claim_reserved(request_id, worker=worker)


def claim_unlocked(request_ids: Sequence[tuple[str]], *, worker: str) -> list[Claim | None]:
    """Claim those of the requests, each given as a tuple of its id, that are free at once: no other transaction has
    locked them, and they need no slot in a batch. Return None for each of the others, which :func:`claim` may be able
    to claim."""
    return _claim_each([request_id for (request_id,) in request_ids], worker=worker, sql=queries.CLAIM_UNLOCKED)


def _claim_reserved(request_id: str, *, worker: str) -> Claim | None:
    [claimed] = _claim_each([request_id], worker=worker, reserved=True)
    return claimed


def _claim_each(
    request_ids: Sequence[str], *, worker: str, reserved: bool = False, sql: str = queries.CLAIM
) -> list[Claim | None]:
    lease_requested_at = time.monotonic()
    parameters = {"requests": list(request_ids), "worker": worker, "lease": settings.LEASE, "reserved": reserved}
    requests = [read_request(row) for row in fetch_all(sql, parameters)]
    if requests:
        transitions.announce(requests, transitions.CLAIM)
    claims = {request.pk: Claim(request, request.claims, lease_requested_at) for request in requests}
    return [claims.pop(request_id, None) for request_id in request_ids]


def end(ending: Ending) -> bool:
    """End a claim. Return False if it is stale: then an image is not used, but its cost is still booked."""
    late = ending.late_cost
    # Ending a claim is one statement. Together with the cost of an earlier claim it needs a transaction.
    with transaction.atomic() if ending.needs_transaction else nullcontext():
        [ended] = _end_each([ending], unlocked=False)
        if late is not None and (ending.needs_transaction or ended is None):
            budgets.book_late(ending.claim.request, late.paid_by, {} if ended is not None else late.columns, late.price)
        for act in ended or ():
            transaction.on_commit(act, robust=True)
    return ended is not None


def end_unlocked(endings: Sequence[Ending]) -> list[list[Callable[[], object]] | None]:
    """End those of the claims whose rows no other transaction has locked, by one statement.

    Return for each what is to be done after the commit, which may take long; None if the claim is stale or locked,
    which :func:`end` tells apart. The endings must be ``is_grouped``, and all or none of them queue their requests
    again.
    """
    return _end_each(endings, unlocked=True)


def _end_each(endings: Sequence[Ending], *, unlocked: bool) -> list[list[Callable[[], object]] | None]:
    for ending in endings:
        transitions.check(ending.transition)
    messages = {ending.claim.key: _message(ending) for ending in endings}
    rows = [ending.columns | {"sent": bool(messages[ending.claim.key])} for ending in endings]
    parameters: dict[str, Any] = {"requests": [request for request, _ in messages], "endings": as_json(rows)}
    if endings[0].requeues:
        parameters["lost_after"] = settings.REDISPATCH_AFTER
        sql = queries.RELEASE_UNLOCKED if unlocked else queries.RELEASE
    else:
        sql = queries.END_UNLOCKED if unlocked else queries.END
    by_key = {ending.claim.key: ending for ending in endings}
    ended: dict[tuple[str, int], list[Callable[[], object]]] = {}
    for row in fetch_all(sql, parameters):
        request, (is_limited, is_source) = read_request(row), row[-2:]
        key = (request.pk, request.claims)
        transitions.announce([request], by_key[key].transition)
        # A statement that may have waited for a submit's lock on the source does not see the submitted request.
        is_source = is_source or (not unlocked and not endings[0].requeues)
        ended[key] = transitions.wake_ups(request, is_limited=is_limited, is_source=is_source)
        if messages[key] and not is_limited:
            ended[key].append(partial(dispatch.send, messages[key]))
    return [ended.pop(ending.claim.key, None) for ending in endings]


def _message(ending: Ending) -> list[tuple[str, int]]:
    weight = ending.columns.get("weight", 0)
    return dispatch.select_sendable([(ending.claim.request, weight)]) if ending.send else []


def complete(claim: Claim, **receipt: Any) -> bool:
    """Complete the request; see :func:`endings.completed`. Return False if the claim is stale."""
    return end(endings.completed(claim, **receipt))


def fail(claim: Claim, failure: AttemptFailure) -> bool:
    """Fail the request for good. Return False if the claim is stale."""
    return end(endings.failed(claim, failure))


def retry_later(claim: Claim, failure: AttemptFailure, *, delay: timedelta) -> bool:
    """Queue the request again after a failed attempt. Return False if the claim is stale."""
    return end(endings.retried(claim, failure, delay=delay))


def snooze(claim: Claim, failure: AttemptFailure, *, delay: timedelta) -> bool:
    """Queue the request again, with a wait counted and no attempt. Return False if the claim is stale."""
    return end(endings.snoozed(claim, failure, delay=delay))


def release(claim: Claim, *, delay: timedelta = timedelta(0), waits_for: str = "") -> bool:
    """Release a claim under which nothing was sent. Return False if the claim is stale."""
    return end(endings.released(claim, delay=delay, waits_for=waits_for))


def fall_back(claim: Claim, failure: AttemptFailure, *, uses_attempt: bool) -> Claim | None:
    """End the claim after a provider failed, and return a new claim of the same worker for the next provider.

    Unless it ``uses_attempt``, the attempt is not counted. Return None if the claim is stale, or if the request is
    paused and now waits in the queue.
    """
    reason = Reason.RETRY if uses_attempt else Reason.POSTPONED
    columns = failure.attempt_columns() | {"attempts_back": 0 if uses_attempt else 1}
    with transaction.atomic():
        if not end(endings.requeued(claim, reason, columns, weight=RETRY_WEIGHT, send=False)):
            return None
        # Other transactions see only the state after the commit, in which the request still has its slot in the batch.
        return _claim_reserved(claim.request.pk, worker=claim.request.worker)


# --- Cancel and rescue ------------------------------------------------------------------------------------------------


def cancel(request_ids: Collection[str], *, actor: User | None, reason: Reason = Reason.CANCELLED) -> list[str]:
    """Cancel those of the requests that are queued or in progress. Return their ids.

    A client that left cancels only what is queued: what is in progress may be paid for already.
    """
    cancelled: list[str] = []
    statuses = [source for source in ACTIVE if Transition(source, Status.CANCELLED, reason) in TRANSITIONS]
    with transaction.atomic():
        # The locks, in the common order, keep the statuses from changing before the updates below.
        active = list(
            GenerationRequest.objects.select_for_update()
            .filter(pk__in=request_ids, status__in=statuses)
            .order_by("pk")
            .values_list("pk", "status")
        )
        # Before the transition: the counters take the provider from each attempt when the history is written.
        _abandon_attempts([pk for pk, status in active if status == Status.IN_PROGRESS])
        for source in statuses:
            ids = [pk for pk, status in active if status == source]
            transition = Transition(source, Status.CANCELLED, reason)
            values: dict[str, Any] = {"completed_at": Now(), "lease_expires_at": None, "worker": ""}
            values["cancel_reason"] = _cancel_reason(reason, actor)
            changed = transitions.apply_transition(ids, transition, actor=actor, **values)
            cancelled += [request.pk for request in changed]
        GenerationQueue.objects.filter(pk__in=cancelled).delete()
    return cancelled


def _cancel_reason(reason: Reason, actor: User | None) -> Any:
    """Return why a request is cancelled, as its client sees it."""
    if reason in CancelReason.values:
        return CancelReason(reason)
    by_owner = Case(When(owner=actor, then=Value(CancelReason.CLIENT)), default=Value(CancelReason.STAFF))
    return by_owner if reason == Reason.CANCELLED else CancelReason.CLIENT


def _abandon_attempts(request_ids: Collection[str]) -> None:
    """End the running attempts of these requests. A running call may be billed although its image is not used, so its
    estimate is booked."""
    rows = GenerationAttempt.objects.filter(request_id__in=request_ids, outcome=AttemptOutcome.RUNNING)
    # The lock waits for a transaction that is recording a call, so that the UPDATE sees the call.
    running = list(rows.select_for_update().order_by("pk").values_list("pk", flat=True))
    if not running:
        return
    attempts = GenerationAttempt.objects.filter(pk__in=running)
    estimate = When(call_started_at__isnull=False, billable=True, then=F("estimated_cost"))
    attempts.update(outcome=AttemptOutcome.ABANDONED, finished_at=Now(), booked_cost=Case(estimate))
    by_owner = attempts.filter(booked_cost__gt=0).values("request__owner")
    by_owner = by_owner.annotate(cost=Sum("booked_cost"), calls=Count("pk"))
    # Lock the spending of several owners in the order of their ids.
    for row in by_owner.order_by("request__owner"):
        budgets.book(row["request__owner"], row["cost"], calls=row["calls"])


def rescue(request_id: str, *, storage_error: OSError | None = None) -> Status | None:
    """End a claim whose lease ran out, and return the new status of its request; None if the lease has not run out.

    The request is queued again. After its last attempt it is completed if an attempt left an image in the storage, else
    it fails. A billable call without an answer may have been billed, so it is repeated at most once.

    Raises ``OSError`` if the storage cannot tell whether there is an image. If the caller has just had such an error
    and passes it as ``storage_error``, it is raised without accessing the storage.
    """
    with transaction.atomic():
        row = fetch_one(queries.RESCUE, {"request": request_id})
        if row is None:
            return None
        request = read_request(row)
        claim = Claim(request, request.claims)
        failure, may_retry = _lost_attempt(request, *row[-4:])
        if may_retry:
            # The call keeps its slot at the provider until its deadline.
            columns = failure.attempt_columns() | {"expired": True, "keep_deadline": True}
            # The dispatcher sends it, since Redis must not be accessed while the row is locked.
            ending = endings.requeued(claim, Reason.LEASE_EXPIRED, columns, weight=RETRY_WEIGHT, send=False)
            return Status.QUEUED if end(ending) else None
    # The storage may be slow, so it is accessed without a lock on the row.
    if storage_error is not None:
        raise storage_error
    receipt = receipts.find(request_id)
    if receipt is not None:
        ended = complete(claim, **receipt, lost_cost=failure.cost, expired=True)
        return Status.COMPLETED if ended else None
    return Status.FAILED if end(endings.lost(claim, failure)) else None


def _lost_attempt(
    request: GenerationRequest, provider: Any, is_unknown: Any, estimate: Any, unknown_before: Any
) -> tuple[AttemptFailure, bool]:
    """Return the failure of a lost worker's attempt, and whether another attempt may follow."""
    code = ErrorCode.UNKNOWN_OUTCOME if is_unknown else ErrorCode.WORKER_LOST
    may_retry = request.attempts < request.max_attempts and not (is_unknown and unknown_before)
    cost = estimate if is_unknown else None
    return AttemptFailure(message=code.label, code=code, retryable=True, provider=provider, cost=cost), may_retry
