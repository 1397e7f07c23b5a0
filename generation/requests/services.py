"""What clients and staff can do. Each function checks what the rules say and leaves the writing to the lifecycle.

Everybody may do what there is to do with their own requests. With somebody else's that takes a permission, whichever
door one comes through, and is written down with the address that it came from.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction

from generation.access import audit, roles
from generation.identifiers import new_batch_id
from generation.models import GenerationBatch, GenerationRequest, Pause
from generation.providers import budgets
from generation.providers.pricing import OverBudgetError
from generation.queue import control, pauses
from generation.requests import lifecycle, selectors
from generation.requests.lifecycle import NewRequest
from generation.states import BulkActionName, Priority, Status


class NotRetryableError(Exception):
    """Only what failed or was cancelled can be tried again."""


def submit(*, owner: User, draft: NewRequest) -> GenerationRequest:
    """Accept one request. Raises :class:`generation.providers.pricing.OverBudgetError`."""
    with budgets.reserve(owner.pk, [draft.estimated_cost]):
        return lifecycle.submit([draft], owner=owner)[0]


def submit_batch(
    *, owner: User, drafts: Sequence[NewRequest], priority: str, max_concurrent: int | None
) -> tuple[GenerationBatch, list[GenerationRequest]]:
    """Accept all of them or none. At most ``max_concurrent`` of them will be in progress at once. Raises
    :class:`generation.providers.pricing.OverBudgetError`."""
    with transaction.atomic(), budgets.reserve(owner.pk, [draft.estimated_cost for draft in drafts]):
        batch = GenerationBatch.objects.create(
            id=new_batch_id(), owner=owner, priority=priority, max_concurrent=max_concurrent
        )
        return batch, lifecycle.submit(drafts, owner=owner, batch=batch)


# --- What has been submitted ---


def cancel(*, user: User, request_id: str, address: str = "") -> bool:
    """Give up a request that the user may see. ``False`` where there is none, or it has ended. Raises
    ``PermissionDenied``."""
    found = selectors.find_request(request_id, user=user)
    if found is None:
        return False
    _check(user, BulkActionName.CANCEL, {found.owner_id}, address)
    cancelled = lifecycle.cancel([found.pk], actor=user)
    _note(user, cancelled if found.owner_id != user.pk else [], "Cancelled", address)
    return bool(cancelled)


def cancel_batch(*, user: User, batch: GenerationBatch, address: str = "") -> int:
    """Give up what is left of a batch. Returns how many requests that was. Raises ``PermissionDenied``."""
    _check(user, BulkActionName.CANCEL, {batch.owner_id}, address)
    cancelled = lifecycle.cancel(list(batch.requests.values_list("pk", flat=True)), actor=user)
    _note(user, cancelled if batch.owner_id != user.pk else [], "Cancelled with its batch", address)
    return len(cancelled)


def retry(*, user: User, request: GenerationRequest, address: str = "") -> GenerationRequest:
    """Queue a failed or cancelled request again. Raises :class:`NotRetryableError` for any other,
    :class:`generation.providers.pricing.OverBudgetError`, and ``PermissionDenied``."""
    _check(user, BulkActionName.RETRY, {request.owner_id}, address)
    again = _retry(user, request)
    _note(user, [again.pk] if again.owner_id != user.pk else [], "Retried", address)
    return again


def _retry(user: User, request: GenerationRequest) -> GenerationRequest:
    with budgets.reserve(request.owner_id, [request.estimated_cost]):
        again = lifecycle.retry(request.pk, actor=user)
    if again is None:
        raise NotRetryableError
    return again


# --- What staff do to many ---


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of an action on many requests: the ids it was done to, and those it was not done to, by reason."""

    done: list[str]
    refused: dict[str, list[str]] = field(default_factory=dict)

    @property
    def count_refused(self) -> int:
        """To how many it was not done."""
        return sum(map(len, self.refused.values()))


def act(
    *, user: User, action: str, request_ids: Collection[str], argument: str = "", address: str = "", why: str = ""
) -> Outcome:
    """Do this to each of the requests with which it can be done. ``argument`` is the new priority where that is what is
    changed. Raises ``PermissionDenied``, and ``ValueError`` for an action or argument that there is not."""
    if action not in BulkActionName.values or (action == BulkActionName.PRIORITY and argument not in Priority.values):
        raise ValueError(f"there is no action {action} {argument}".rstrip())
    _check(user, action, {None}, address)
    ids = sorted(set(request_ids))
    refused: dict[str, list[str]] = {}
    match action:
        case BulkActionName.CANCEL:
            done = lifecycle.cancel(ids, actor=user)
            what = "Cancelled"
        case BulkActionName.RETRY:
            done, refused = _retry_each(user, ids)
            what = "Retried"
        case BulkActionName.REQUEUE:
            done = control.requeue(ids)
            what = "Requeued"
        case _:
            done = control.change_priority(ids, argument)
            what = f"Priority changed to {argument}"
    _note(user, done, f"{what} {why}".rstrip(), address)
    explained = {*done, *(pk for some in refused.values() for pk in some)}
    for pk, reason in _reasons(set(ids) - explained).items():
        refused.setdefault(reason, []).append(pk)
    return Outcome(done=done, refused=refused)


def _retry_each(user: User, ids: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    done: list[str] = []
    refused: dict[str, list[str]] = {}
    # A step of a bulk action is one transaction, so the days of several owners are locked in the order of their ids.
    for request in GenerationRequest.objects.filter(pk__in=ids).order_by("owner_id", "pk"):
        try:
            done.append(_retry(user, request).pk)
        except NotRetryableError:
            continue  # its status says why
        except OverBudgetError:
            refused.setdefault("the owner's budget of the day is used up", []).append(request.pk)
    return done, refused


def _reasons(ids: Collection[str]) -> dict[str, str]:
    """Why nothing was done to these: what stands in the way is where they are."""
    found = dict(GenerationRequest.objects.filter(pk__in=ids).values_list("pk", "status"))
    return {
        pk: f"it is {Status(found[pk]).label.lower()}" if pk in found else "there is no such request"
        for pk in sorted(ids)
    }


def pause(*, user: User, scope: str, value: str, reason: str = "", address: str = "") -> Pause | None:
    """Start nothing more of this. ``None`` where it is paused already. Raises ``PermissionDenied``, and ``ValueError``
    for what cannot be paused."""
    if value not in pauses.choices(scope):
        raise ValueError(f"there is no {scope} {value}")
    _check_permission(user, roles.PAUSE, f"pause {scope} {value}".rstrip(), address)
    made = control.pause(scope, value, reason=reason, by=user)
    if made is not None:
        audit.record(user, made, f"Paused {made}", address=address, flag=audit.ADDITION)
    return made


def resume(*, user: User, paused: Pause, address: str = "") -> bool:
    """Let what is paused start. ``False`` where somebody else has. Raises ``PermissionDenied``."""
    _check_permission(user, roles.RESUME, f"resume {paused}", address)
    resumed = control.resume(paused)
    if resumed:
        audit.record(user, paused, f"Resumed {paused}", address=address, flag=audit.DELETION)
    return resumed


def _check(user: User, action: str, owners: Collection[int | None], address: str) -> None:
    if any(owner != user.pk for owner in owners):
        _check_permission(user, roles.PERMISSIONS[action], f"{BulkActionName(action).label.lower()}", address)


def _check_permission(user: User, permission: str, what: str, address: str) -> None:
    if not (user.is_staff and user.has_perm(permission)):
        audit.refused(user, what, address=address)
        raise PermissionDenied


def _note(user: User, request_ids: Collection[str], what: str, address: str) -> None:
    if request_ids:
        audit.record_requests(user, request_ids, what, address=address)
