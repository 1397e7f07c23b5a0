"""One action on everything that matches a filter, in steps: each looks at the next requests, from the newest down.

A worker takes step after step. What no worker has taken further for a while, since all are busy or gone, the dispatcher
does. The row of the action is locked during a step: of two workers one does it, and a stop waits for its end.
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

#: The task by its name, since this side does not know the workers' code. A test compares the two.
TASK: Final = "workers.tasks.advance_bulk_action"
#: The first queue that a worker looks at: whoever acts on many requests wants that now.
_QUEUE: Final = Priority.URGENT
#: Requests that one step looks at.
STEP: Final = 200
#: Refused ids that are kept for each reason.
_MOST_LISTED: Final = 50
_LONGEST_ERROR: Final = 200
#: What nobody took further for so long is taken up by the dispatcher.
_ABANDONED_AFTER: Final = timedelta(seconds=10)


def start(
    *, user: User, action: str, conditions: dict[str, str], argument: str = "", address: str = ""
) -> BulkAction | None:
    """Begin an action on all requests that match now. ``None`` where there are none. Raises ``PermissionDenied``, and
    ``ValueError`` for an action or argument that there is not, or a condition that there is not."""
    if unknown := set(conditions) - set(filters.CONDITIONS):
        raise ValueError(f"there is no condition {', '.join(sorted(unknown))}")
    services.act(
        user=user, action=action, request_ids=[], argument=argument, address=address
    )  # it refuses what it must
    newest = _matching(conditions).order_by("-pk").values_list("pk", flat=True).first()
    if newest is None:
        return None
    with transaction.atomic():
        made = BulkAction.objects.create(
            action=action,
            argument=argument,
            conditions=conditions,
            requested_by=user,
            address=address,
            newest=newest,
        )
        made.refresh_from_db()
        what = f"Started: {made.get_action_display().lower()} {argument}".rstrip()
        audit.record(
            user, made, f"{what} of all with {filters.in_words(conditions)}", address=address, flag=audit.ADDITION
        )
        transaction.on_commit(lambda: send(made.pk), robust=True)
    return made


def send(bulk_id: int) -> None:
    """Have a worker take the next steps."""
    try:
        broker.publish(TASK, [(bulk_id,)], queue=_QUEUE)
    except Exception as error:  # kombu, redis-py and the socket each raise their own
        logger.warning("the broker is away, the dispatcher does bulk action %d: %r", bulk_id, error)


def stop(*, user: User, bulk: BulkAction, address: str = "") -> bool:
    """End it before its time; what was done stays done. ``False`` where it has ended. Raises ``PermissionDenied``.

    The update waits for the row lock of a step that is under way, so that no request changes after it."""
    services.act(user=user, action=bulk.action, request_ids=[], argument=bulk.argument, address=address)
    unfinished = BulkAction.objects.filter(pk=bulk.pk, finished_at__isnull=True)
    stopped = bool(unfinished.update(finished_at=Now(), error=f"stopped by {user.get_username()}"[:_LONGEST_ERROR]))
    if stopped:
        audit.record(user, bulk, "Stopped", address=address)
    return stopped


def advance(bulk_id: int) -> bool:
    """Do the next step. Returns whether this caller has another one to do.

    The row is locked for the whole step. The changes of the step and its counts commit together, and a second call
    meanwhile does nothing.
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
    return _moved(bulk, ids, outcome)


def advance_abandoned() -> int:
    """Do a step of each action that no worker has taken further for a while. Returns how many steps."""
    left = BulkAction.objects.filter(finished_at__isnull=True, advanced_at__lt=Now() - _ABANDONED_AFTER)
    ids = list(left.values_list("pk", flat=True)[:10])
    for bulk_id in ids:
        if _advance_briefly(bulk_id):
            # It stays the dispatcher's until a worker is heard of.
            BulkAction.objects.filter(pk=bulk_id).update(advanced_at=Now() - _ABANDONED_AFTER)
    return len(ids)


def _advance_briefly(bulk_id: int) -> bool:
    return all(advance(bulk_id) for _ in range(5))


def progress(bulk: BulkAction) -> int | None:
    """Percent, by the time between the first and the last that match; ``None`` where it is not known yet."""
    if bulk.finished_at is not None:
        return 100
    if not bulk.cursor:
        return 0
    oldest = _matching(bulk.conditions).order_by("pk").values_list("pk", flat=True).first() or bulk.cursor
    ends = [filters.time_of(found).timestamp() for found in (bulk.newest, bulk.cursor, min(oldest, bulk.cursor))]
    whole = ends[0] - ends[2]
    return min(99, round(100 * (ends[0] - ends[1]) / whole)) if whole else 99


def _matching(conditions: dict[str, str]) -> QuerySet[GenerationRequest]:
    return filters.matching(GenerationRequest.objects.all(), conditions)


def _moved(bulk: BulkAction, ids: list[str], outcome: Outcome) -> bool:
    refusals, kept = dict(bulk.refusals), dict(bulk.refused_ids)
    for reason, refused in outcome.refused.items():
        refusals[reason] = refusals.get(reason, 0) + len(refused)
        kept[reason] = [*kept.get(reason, []), *refused][:_MOST_LISTED]
    values: dict[str, Any] = {
        "cursor": ids[-1],
        "seen": bulk.seen + len(ids),
        "done": bulk.done + len(outcome.done),
        "refusals": refusals,
        "refused_ids": kept,
        "advanced_at": Now(),
    }
    if len(ids) < STEP:
        values["finished_at"] = Now()
    BulkAction.objects.filter(pk=bulk.pk).update(**values)
    return len(ids) == STEP


def _end(bulk: BulkAction, *, error: str = "") -> bool:
    """End it; there is no other step. Its row is locked."""
    BulkAction.objects.filter(pk=bulk.pk).update(finished_at=Now(), error=error[:_LONGEST_ERROR])
    return False
