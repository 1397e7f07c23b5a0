"""The lifecycle of a request: the only module that writes a status.

Each function is one outcome, and writes the transition, the attempt's row and the queue row together. It locks the
request first and its queue row second, and several requests in the order of their ids, so that there are no deadlocks.
All times are the database's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeAlias

from django.conf import settings
from django.contrib.auth.models import User
from django.db import DEFAULT_DB_ALIAS, Error, IntegrityError, connection, transaction
from django.db.models import Case, Count, F, Sum, When

from generation.db import queries
from generation.db.execution import as_json, fetch_all, fetch_one
from generation.db.functions import Now
from generation.db.groups import Group, Lane
from generation.db.outages import is_cut_connection
from generation.identifiers import new_request_id
from generation.models import GenerationAttempt, GenerationBatch, GenerationQueue, GenerationRequest
from generation.providers import budgets
from generation.queue import batch_limits, dispatch
from generation.requests import endings, transitions
from generation.requests.claims import AttemptFailure, Claim
from generation.requests.endings import Ending
from generation.requests.new_request import NewRequest
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

_COLUMNS: Final = [column.attname for column in GenerationRequest._meta.concrete_fields]
#: Columns that a request has from its draft.
_GIVEN: Final = ["type", "prompt", "priority", "project_id", "page_id", "metadata", "max_attempts", "estimated_cost"]
#: Columns that the submitting statement copies from a request.
_COPIED: Final = ("id", "owner_id", "batch_id", *_GIVEN, "http_request_id", "traceparent")
#: A request as that statement writes it.
_INITIAL: Final[dict[str, Any]] = dict.fromkeys(_COLUMNS) | {
    "status": Status.QUEUED.value,
    "sequence": 1,
    "claims": 0,
    "attempts": 0,
    "waits": 0,
    "worker": "",
}


# --- Queueing ---------------------------------------------------------------------------------------------------------


def submit(
    drafts: Sequence[NewRequest], *, owner: User, batch: GenerationBatch | None = None
) -> list[GenerationRequest]:
    """Create queued requests with their queue rows and history, and send messages after the commit, up to the capacity
    of the queues. If the batch has a limit, the requests beyond it are held."""
    common = {
        "owner_id": owner.pk,
        "batch_id": batch and batch.pk,
        "http_request_id": correlation.current(),
        "traceparent": tracing.traceparent(),
    }
    requests = [_new_request(draft, common) for draft in drafts]
    free_slots = batch.max_concurrent if batch and batch.max_concurrent else len(drafts)
    ordered = sorted(requests, key=lambda request: (-WEIGHTS[request.priority], request.pk))
    messages = dispatch.select_sendable([(request, WEIGHTS[request.priority]) for request in ordered[:free_slots]])
    sent = {request_id for request_id, _ in messages}
    rows = [
        _copied(request)
        | {"priority_weight": WEIGHTS[request.priority], "held": index >= free_slots, "sent": request.pk in sent}
        for index, request in enumerate(ordered)
    ]
    for request, (now, ahead) in zip(ordered, _insert(rows), strict=True):
        request.created_at, request.ahead = now, ahead
    transitions.schedule_side_effects(requests, transitions.SUBMIT)
    dispatch.send_after_commit(messages)
    return requests


def _new_request(draft: NewRequest, common: Mapping[str, Any]) -> GenerationRequest:
    given = {name: getattr(draft, name) for name in _GIVEN}
    values = {**_INITIAL, **common, **given, "id": new_request_id()}
    # The constructor with names takes twice as long.
    request = GenerationRequest.from_db(DEFAULT_DB_ALIAS, _COLUMNS, [values[name] for name in _COLUMNS])
    if draft.options:
        request.options = draft.options
    return request


def _copied(request: GenerationRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in _COPIED}


#: The time of a new request and the number of queue rows ahead of it, if it was counted.
_Inserted: TypeAlias = tuple[datetime, int | None]


def _insert(rows: Sequence[Mapping[str, Any]]) -> Sequence[_Inserted]:
    """Insert the rows. A single one outside of a transaction goes into one statement with those of other calls."""
    if connection.in_atomic_block:
        return _insert_at_once(rows)
    try:
        if len(rows) == 1 and (inserted := _submits.ask(rows[0])) is not None:
            return [inserted]
        return _insert_at_once(rows)
    except Error as error:
        if not is_cut_connection(error):
            raise
    return _insert_again(rows)


def _insert_again(rows: Sequence[Mapping[str, Any]]) -> Sequence[_Inserted]:
    """Insert rows whose statement lost its connection, and may have been committed or may still be running.

    In both cases their ids are taken, and the second statement fails once the first one is committed.
    """
    connection.close()
    try:
        return _insert_at_once(rows)
    except IntegrityError:
        ids = [row["id"] for row in rows]
        times = dict(GenerationRequest.objects.filter(pk__in=ids).values_list("pk", "created_at"))
        if len(times) < len(ids):
            raise
        return [(times[request_id], None) for request_id in ids]


def _insert_at_once(rows: Sequence[Mapping[str, Any]]) -> list[_Inserted]:
    parameters = {"lost_after": settings.REDISPATCH_AFTER, "counted": queries.COUNTED, "requests": as_json(rows)}
    found = fetch_all(queries.SUBMIT, parameters)
    ahead = {weight: count for _, weight, count in found}
    ordered = sorted(rows, key=lambda row: (-row["priority_weight"], row["id"]))
    places = {row["id"]: ahead[row["priority_weight"]] + index for index, row in enumerate(ordered)}
    return [(found[0][0], places[row["id"]]) for row in rows]


_submits: Final = Group[Mapping[str, Any], _Inserted](Lane("submits"), _insert_at_once)


def retry(request_id: str, *, actor: User | None) -> GenerationRequest | None:
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
        [request] = transitions.apply_transition([request_id], transition, actor=actor, **reset)
        weight = WEIGHTS[request.priority]
        held = GenerationBatch.objects.filter(pk=request.batch_id, max_concurrent__isnull=False).exists()
        messages = [] if held else dispatch.select_sendable([(request, weight)])
        sent = dispatch.dispatch_columns() if messages else {}
        GenerationQueue.objects.create(request=request, priority_weight=weight, held=held, **sent)
        dispatch.send_after_commit(messages)
    return request


# --- A worker's attempt -----------------------------------------------------------------------------------------------


def claim(request_id: str, *, worker: str) -> Claim | None:
    """Claim a queued request for this worker. Return None if it cannot start: another worker has claimed it, it was
    cancelled or paused, it is not due yet, its batch has no free slot, or there is no such request."""
    [claimed] = _claim_each([request_id], worker=worker)
    if claimed:
        return claimed
    with transaction.atomic():
        if not batch_limits.batch_has_free_slot(request_id):
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
        request, is_limited = read_request(row), row[-1]
        key = (request.pk, request.claims)
        transitions.announce([request], by_key[key].transition)
        ended[key] = transitions.wake_ups(request, is_limited=is_limited)
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


def cancel(request_ids: Collection[str], *, actor: User) -> list[str]:
    """Cancel those of the requests that are queued or in progress. Return their ids."""
    cancelled: list[str] = []
    with transaction.atomic():
        # The locks, in the common order, keep the statuses from changing before the updates below.
        active = list(
            GenerationRequest.objects.select_for_update()
            .filter(pk__in=request_ids, status__in=ACTIVE)
            .order_by("pk")
            .values_list("pk", "status")
        )
        # Before the transition: the counters take the provider from each attempt when the history is written.
        _abandon_attempts([pk for pk, status in active if status == Status.IN_PROGRESS])
        for source in ACTIVE:
            ids = [pk for pk, status in active if status == source]
            transition = Transition(source, Status.CANCELLED, Reason.CANCELLED)
            values: dict[str, Any] = {"completed_at": Now(), "lease_expires_at": None, "worker": ""}
            changed = transitions.apply_transition(ids, transition, actor=actor, **values)
            cancelled += [request.pk for request in changed]
        GenerationQueue.objects.filter(pk__in=cancelled).delete()
    return cancelled


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
