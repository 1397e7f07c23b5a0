"""The actions of clients and staff. Each function checks permissions and rules; the lifecycle writes the changes.

All users may act on their own requests. An action on another user's requests needs a permission, both in the API and in
the admin, and is recorded in the audit log with the client's address.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, connection, transaction

from generation.access import audit, grants, roles
from generation.identifiers import new_batch_id
from generation.models import GenerationBatch, GenerationRequest, Pause
from generation.providers import budgets
from generation.providers.pricing import OverBudgetError
from generation.queue import control, pauses
from generation.requests import lifecycle, permissions, references, selectors
from generation.requests.approval import decide
from generation.requests.new_request import NewRequest, Webhook, variation
from generation.requests.references import ReferenceFailedError
from generation.states import Approval, BulkActionName, Priority, Reason, Status


class NotRetryableError(Exception):
    """The request cannot be retried, since it has neither failed nor been cancelled."""


class NotQueuedError(Exception):
    """The request has started or has ended."""


def submit(*, owner: User, draft: NewRequest) -> GenerationRequest:
    """Accept one request. Raises :class:`generation.providers.pricing.OverBudgetError`,
    :class:`generation.access.grants.NotAllowedError` and
    :class:`generation.requests.references.InvalidReferencesError`."""
    draft = permissions.permitted(owner, draft)
    reservation = budgets.reserve(owner.pk, [draft.estimated_cost], key_id=grants.key_id_of(owner))
    with _references_of(owner, [draft]) as drafts, reservation:
        return lifecycle.submit(drafts, owner=owner)[0]


def submit_variations(*, owner: User, draft: NewRequest, count: int) -> tuple[GenerationBatch, list[GenerationRequest]]:
    """Accept ``count`` requests for images of the same prompt as a batch, all or none. Raises what :func:`submit`
    does."""
    draft, webhook = permissions.permitted(owner, replace(draft, webhook=None)), draft.webhook
    drafts = [variation(draft, index) for index in range(count)]
    return _submit_together(owner, drafts, draft.priority, webhook=webhook)


def submit_batch(
    *,
    owner: User,
    drafts: Sequence[NewRequest],
    priority: str,
    max_concurrent: int | None,
    webhook: Webhook | None = None,
) -> tuple[GenerationBatch, list[GenerationRequest]]:
    """Accept a batch of requests, all or none. At most ``max_concurrent`` of them will be in progress at once. Raises
    :class:`generation.providers.pricing.OverBudgetError` and :class:`generation.access.grants.NotAllowedError`."""
    drafts = [permissions.permitted(owner, draft, path=f"requests[{index}].") for index, draft in enumerate(drafts)]
    return _submit_together(owner, drafts, priority, max_concurrent, webhook=webhook)


def _submit_together(
    owner: User,
    drafts: Sequence[NewRequest],
    priority: str,
    max_concurrent: int | None = None,
    *,
    webhook: Webhook | None,
) -> tuple[GenerationBatch, list[GenerationRequest]]:
    estimates, key_id = [draft.estimated_cost for draft in drafts], grants.key_id_of(owner)
    with (
        _references_of(owner, drafts) as resolved,
        transaction.atomic(),
        budgets.reserve(owner.pk, estimates, key_id=key_id),
    ):
        batch = GenerationBatch.objects.create(
            id=new_batch_id(),
            owner=owner,
            priority=priority,
            max_concurrent=max_concurrent,
            **(webhook.as_columns() if webhook else {}),
        )
        return batch, lifecycle.submit(resolved, owner=owner, batch=batch)


@contextmanager
def _references_of(owner: User, drafts: Sequence[NewRequest]) -> Iterator[list[NewRequest]]:
    """Yield the requests as :func:`references.resolved` returns them. If one of their images is deleted before they are
    stored, raises the same exception as if it had been deleted before."""
    resolved = references.resolved(owner, drafts)
    is_nested = connection.in_atomic_block and any(draft.images for draft in drafts)
    try:
        with transaction.atomic() if is_nested else nullcontext():
            yield resolved
            if is_nested:  # else the foreign keys are checked at the commit, which is the caller's
                connection.check_constraints()
    except IntegrityError:
        references.resolved(owner, drafts)
        raise


# --- Submitted requests ---


def cancel(*, user: User, request_id: str, address: str = "") -> bool:
    """Cancel a request that the user may see. Return False if there is none, or if it has ended. Raises
    ``PermissionDenied``."""
    request = selectors.find_request(request_id, user=user)
    if request is None:
        return False
    _check(user, BulkActionName.CANCEL, {request.owner_id}, address)
    cancelled = lifecycle.cancel([request.pk], actor=user)
    _audit(user, cancelled if request.owner_id != user.pk else [], "Cancelled", address)
    return bool(cancelled)


def cancel_unsent(*, user: User, request_ids: Collection[str]) -> list[str]:
    """Cancel those of the user's own requests that are queued, since the client that waited for them left. Return
    their ids."""
    return lifecycle.cancel(request_ids, actor=user, reason=Reason.CLIENT_LEFT)


def cancel_batch(*, user: User, batch: GenerationBatch, address: str = "") -> int:
    """Cancel the active requests of a batch. Return their number. Raises ``PermissionDenied``."""
    _check(user, BulkActionName.CANCEL, {batch.owner_id}, address)
    cancelled = lifecycle.cancel(list(batch.requests.values_list("pk", flat=True)), actor=user)
    _audit(user, cancelled if batch.owner_id != user.pk else [], "Cancelled with its batch", address)
    return len(cancelled)


def retry(*, user: User, request: GenerationRequest, address: str = "") -> GenerationRequest:
    """Queue a failed or cancelled request again. Raises :class:`NotRetryableError` for any other,
    :class:`generation.providers.pricing.OverBudgetError`, :class:`generation.access.grants.NotAllowedError`,
    :class:`generation.requests.references.ReferenceFailedError` and ``PermissionDenied``."""
    _check(user, BulkActionName.RETRY, {request.owner_id}, address)
    permissions.check_retry(user, request)
    references.check_retry(request)
    queued = _retry(user, request)
    _audit(user, [queued.pk] if queued.owner_id != user.pk else [], "Retried", address)
    return queued


def queue_again(*, user: User, request: GenerationRequest) -> GenerationRequest:
    """Queue a request again that was cancelled since its client left, and which has returned. Its deadline stays.
    Raises what :func:`retry` does."""
    permissions.check_retry(user, request)
    return _retry(user, request, keep_deadline=True)


def _retry(user: User, request: GenerationRequest, *, keep_deadline: bool = False) -> GenerationRequest:
    with budgets.reserve(request.owner_id, [request.estimated_cost], key_id=grants.key_id_of(user)):
        queued = lifecycle.retry(request.pk, actor=user, keep_deadline=keep_deadline)
    if queued is None:
        raise NotRetryableError
    return queued


def approve(*, user: User, request: GenerationRequest, approval: str, note: str = "", address: str = "") -> None:
    """Approve or reject the image of a request, or take that back with an empty ``approval``. Raises
    :class:`generation.requests.approval.NotCompletedError` and ``PermissionDenied``."""
    is_own = request.owner_id == user.pk
    if not is_own:
        _check_permission(user, roles.APPROVE, "approve or reject an image", address)
    decide(request, approval=approval, note=note)
    message = Approval(approval).label if approval else "Approval taken back"
    _audit(user, [] if is_own else [request.pk], message, address)


def change_priority(*, user: User, request: GenerationRequest, priority: str, address: str = "") -> None:
    """Give a queued request another priority. Raises :class:`NotQueuedError`,
    :class:`generation.access.grants.NotAllowedError` and ``PermissionDenied``."""
    _check(user, BulkActionName.PRIORITY, {request.owner_id}, address)
    permissions.check_priority(user, priority)
    changed = control.change_priority([request.pk], priority)
    if not changed:
        raise NotQueuedError
    _audit(user, changed if request.owner_id != user.pk else [], f"Priority changed to {priority}", address)


def may_decide(user: User, request: GenerationRequest) -> bool:
    """Return whether :func:`approve` permits the user this request."""
    return request.owner_id == user.pk or (user.is_staff and user.has_perm(roles.APPROVE))


def may_reorder(user: User, request: GenerationRequest) -> bool:
    """Return whether :func:`change_priority` permits the user this request."""
    permission = roles.PERMISSIONS[BulkActionName.PRIORITY]
    return request.owner_id == user.pk or (user.is_staff and user.has_perm(permission))


# --- Staff's actions on many requests ---


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The result of an action on many requests: the ids of the changed ones, and of the unchanged ones by reason."""

    done: list[str]
    refused: dict[str, list[str]] = field(default_factory=dict)

    @property
    def count_refused(self) -> int:
        """The number of requests that were not changed."""
        return sum(map(len, self.refused.values()))


def act(
    *, user: User, action: str, request_ids: Collection[str], argument: str = "", address: str = "", why: str = ""
) -> Outcome:
    """Apply the action to each of the requests that allow it.

    ``argument`` is the new priority if the action changes it. ``why`` is appended to the audit log's entries. Raises
    ``PermissionDenied``, and ``ValueError`` for an unknown action or argument.
    """
    if action not in BulkActionName.values or (action == BulkActionName.PRIORITY and argument not in Priority.values):
        raise ValueError(f"there is no action {action} {argument}".rstrip())
    _check(user, action, {None}, address)
    ids = sorted(set(request_ids))
    refused: dict[str, list[str]] = {}
    match action:
        case BulkActionName.CANCEL:
            done = lifecycle.cancel(ids, actor=user)
            message = "Cancelled"
        case BulkActionName.RETRY:
            done, refused = _retry_each(user, ids)
            message = "Retried"
        case BulkActionName.REQUEUE:
            done = control.requeue(ids)
            message = "Requeued"
        case _:
            done = control.change_priority(ids, argument)
            message = f"Priority changed to {argument}"
    _audit(user, done, f"{message} {why}".rstrip(), address)
    explained = {*done, *(pk for refused_ids in refused.values() for pk in refused_ids)}
    for pk, reason in _reasons(set(ids) - explained).items():
        refused.setdefault(reason, []).append(pk)
    return Outcome(done=done, refused=refused)


def _retry_each(user: User, ids: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    done: list[str] = []
    refused: dict[str, list[str]] = {}
    # A step of a bulk action is one transaction, so the spending rows of several owners are locked in a fixed order.
    for request in GenerationRequest.objects.filter(pk__in=ids).order_by("owner_id", "pk"):
        try:
            references.check_retry(request)
            done.append(_retry(user, request).pk)
        except NotRetryableError:
            continue  # its reason comes from _reasons
        except ReferenceFailedError:
            refused.setdefault("an image that it refers to was not made", []).append(request.pk)
        except OverBudgetError:
            refused.setdefault("the owner's budget of the day is used up", []).append(request.pk)
    return done, refused


def _reasons(ids: Collection[str]) -> dict[str, str]:
    """Return by id why these requests were not changed: their status, or that they do not exist."""
    statuses = dict(GenerationRequest.objects.filter(pk__in=ids).values_list("pk", "status"))
    return {
        pk: f"it is {Status(statuses[pk]).label.lower()}" if pk in statuses else "there is no such request"
        for pk in sorted(ids)
    }


def pause(*, user: User, scope: str, value: str, reason: str = "", address: str = "") -> Pause | None:
    """Stop starting requests of this scope and value. Return None if it is already paused. Raises ``PermissionDenied``,
    and ``ValueError`` for an unknown scope or value."""
    if value not in pauses.choices(scope):
        raise ValueError(f"there is no {scope} {value}")
    _check_permission(user, roles.PAUSE, f"pause {scope} {value}".rstrip(), address)
    created = control.pause(scope, value, reason=reason, by=user)
    if created is not None:
        audit.record(user, created, f"Paused {created}", address=address, flag=audit.ADDITION)
    return created


def resume(*, user: User, paused: Pause, address: str = "") -> bool:
    """End the pause. Return False if it has already ended. Raises ``PermissionDenied``."""
    _check_permission(user, roles.RESUME, f"resume {paused}", address)
    resumed = control.resume(paused)
    if resumed:
        audit.record(user, paused, f"Resumed {paused}", address=address, flag=audit.DELETION)
    return resumed


def _check(user: User, action: str, owners: Collection[int | None], address: str) -> None:
    if any(owner != user.pk for owner in owners):
        _check_permission(user, roles.PERMISSIONS[action], f"{BulkActionName(action).label.lower()}", address)


def _check_permission(user: User, permission: str, action: str, address: str) -> None:
    if not (user.is_staff and user.has_perm(permission)):
        audit.refused(user, action, address=address)
        raise PermissionDenied


def _audit(user: User, request_ids: Collection[str], message: str, address: str) -> None:
    if request_ids:
        audit.record_requests(user, request_ids, message, address=address)
