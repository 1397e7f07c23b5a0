"""Bulk actions: one action on all requests that match a filter, in steps from the newest request to the oldest.

A worker does step after step. If no worker has advanced an action for a while, since all are busy or down, the
dispatcher does. The row of the action is locked during a step, so that only one process does it, and a stop waits for
its end.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any, Final

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet

from generation.access import audit
from generation.db.functions import Now
from generation.db.locks import long_statements
from generation.models import BulkAction, GenerationRequest
from generation.queue import broker
from generation.requests import filters, services
from generation.requests.services import Outcome
from generation.states import Priority

logger = logging.getLogger(__name__)

#: The task's name, since this package does not import the workers. A test compares it with the task.
TASK: Final = "workers.tasks.advance_bulk_action"
#: The queue that workers read first, since the user waits for the action.
_QUEUE: Final = Priority.URGENT
#: Number of requests in one step.
STEP: Final = 200
#: Maximum number of refused ids that are stored for each reason.
_MAX_LISTED: Final = 50
_MAX_ERROR_LENGTH: Final = 200
#: The dispatcher takes over an action that was not advanced for this time.
_ABANDONED_AFTER: Final = timedelta(seconds=10)
#: Maximum number of abandoned actions in one pass of the dispatcher, and of steps for each.
_MAX_ABANDONED, _MAX_STEPS = 10, 5


def start(
    *, user: User, action: str, conditions: dict[str, str], argument: str = "", address: str = ""
) -> BulkAction | None:
    """Start an action on all requests that match now. Return None if no request matches.

    Raises ``PermissionDenied``, and ``ValueError`` for an unknown action, argument or condition.
    """
    if unknown := set(conditions) - set(filters.CONDITIONS):
        raise ValueError(f"there is no condition {', '.join(sorted(unknown))}")
    # Without requests, it only checks the permission, the action and the argument.
    services.act(user=user, action=action, request_ids=[], argument=argument, address=address)
    newest = _matching(conditions).order_by("-pk").values_list("pk", flat=True).first()
    if newest is None:
        return None
    with transaction.atomic():
        bulk = BulkAction.objects.create(
            action=action,
            argument=argument,
            conditions=conditions,
            requested_by=user,
            address=address,
            newest=newest,
        )
        bulk.refresh_from_db()
        started = f"Started: {bulk.get_action_display().lower()} {argument}".rstrip()
        audit.record(
            user, bulk, f"{started} of all with {filters.in_words(conditions)}", address=address, flag=audit.ADDITION
        )
        transaction.on_commit(lambda: send(bulk.pk), robust=True)
    return bulk


def send(bulk_id: int) -> None:
    """Send a message that has a worker do the next steps."""
    try:
        broker.publish(TASK, [(bulk_id,)], queue=_QUEUE)
    except Exception as error:  # kombu, redis-py and the socket each raise their own
        logger.warning("the broker is unavailable, the dispatcher does bulk action %d: %r", bulk_id, error)


def stop(*, user: User, bulk: BulkAction, address: str = "") -> bool:
    """Stop the action; completed steps are not undone. Return False if it has already ended. Raises
    ``PermissionDenied``.

    The update waits for the row lock of a running step, so that no request changes after it.
    """
    services.act(user=user, action=bulk.action, request_ids=[], argument=bulk.argument, address=address)
    unfinished = BulkAction.objects.filter(pk=bulk.pk, finished_at__isnull=True)
    stopped = bool(unfinished.update(finished_at=Now(), error=f"stopped by {user.get_username()}"[:_MAX_ERROR_LENGTH]))
    if stopped:
        audit.record(user, bulk, "Stopped", address=address)
    return stopped


def advance(bulk_id: int) -> bool:
    """Do the next step. Return whether this caller has another step to do.

    The row is locked for the whole step. The changes of the step and its counts commit together, and a concurrent call
    does nothing.
    """
    with transaction.atomic():
        unfinished = BulkAction.objects.filter(pk=bulk_id, finished_at__isnull=True)
        bulk = unfinished.select_for_update(skip_locked=True, of=("self",)).select_related("requested_by").first()
        return bulk is not None and _step(bulk)


def _step(bulk: BulkAction) -> bool:
    rows = _matching(bulk.conditions).filter(pk__lte=bulk.newest)
    if bulk.cursor:
        rows = rows.filter(pk__lt=bulk.cursor)
    with long_statements():
        ids = list(rows.order_by("-pk").values_list("pk", flat=True)[:STEP])
    if not ids:
        return _end(bulk)
    user = bulk.requested_by
    if user is None or not user.is_active:
        return _end(bulk, error="the user who started it has no active account")
    try:
        outcome = services.act(
            user=user,
            action=bulk.action,
            request_ids=ids,
            argument=bulk.argument,
            address=bulk.address,
            why=f"with bulk action {bulk.pk}",
        )
    except PermissionDenied:
        return _end(bulk, error=f"{user.get_username()} may not do that any more")
    return _record_step(bulk, ids, outcome)


def advance_abandoned() -> int:
    """Do some steps of each action that no worker has advanced for a while. Return the number of actions."""
    abandoned = BulkAction.objects.filter(finished_at__isnull=True, advanced_at__lt=Now() - _ABANDONED_AFTER)
    ids = list(abandoned.values_list("pk", flat=True)[:_MAX_ABANDONED])
    for bulk_id in ids:
        if _advance_some(bulk_id):
            # It still counts as abandoned at the next pass, unless a worker advances it meanwhile.
            BulkAction.objects.filter(pk=bulk_id).update(advanced_at=Now() - _ABANDONED_AFTER)
    return len(ids)


def _advance_some(bulk_id: int) -> bool:
    return all(advance(bulk_id) for _ in range(_MAX_STEPS))


def progress(bulk: BulkAction) -> int | None:
    """Return the progress in percent, by the submit times of the newest, the current and the oldest request."""
    if bulk.finished_at is not None:
        return 100
    if not bulk.cursor:
        return 0
    oldest = _matching(bulk.conditions).order_by("pk").values_list("pk", flat=True).first() or bulk.cursor
    newest_at, current_at, oldest_at = (
        filters.time_of(request_id).timestamp() for request_id in (bulk.newest, bulk.cursor, min(oldest, bulk.cursor))
    )
    whole = newest_at - oldest_at
    return min(99, round(100 * (newest_at - current_at) / whole)) if whole else 99


def _matching(conditions: dict[str, str]) -> QuerySet[GenerationRequest]:
    return filters.matching(GenerationRequest.objects.all(), conditions)


def _record_step(bulk: BulkAction, ids: list[str], outcome: Outcome) -> bool:
    refusals, listed = dict(bulk.refusals), dict(bulk.refused_ids)
    for reason, refused in outcome.refused.items():
        refusals[reason] = refusals.get(reason, 0) + len(refused)
        listed[reason] = [*listed.get(reason, []), *refused][:_MAX_LISTED]
    values: dict[str, Any] = {
        "cursor": ids[-1],
        "seen": bulk.seen + len(ids),
        "done": bulk.done + len(outcome.done),
        "refusals": refusals,
        "refused_ids": listed,
        "advanced_at": Now(),
    }
    if len(ids) < STEP:
        values["finished_at"] = Now()
    BulkAction.objects.filter(pk=bulk.pk).update(**values)
    return len(ids) == STEP


def _end(bulk: BulkAction, *, error: str = "") -> bool:
    """End the action, whose row is locked. Return False: there is no further step."""
    BulkAction.objects.filter(pk=bulk.pk).update(finished_at=Now(), error=error[:_MAX_ERROR_LENGTH])
    return False
