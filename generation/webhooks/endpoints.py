"""The endpoints of owners, and their default secrets: made, changed, rotated and deleted by their owners."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet

from generation.access import audit, grants
from generation.identifiers import WEBHOOK_ID, identifier, new_webhook_id
from generation.models import WebhookDelivery, WebhookEndpoint
from generation.states import DisabledReason
from generation.webhooks import deliveries, signatures, targets

#: Endpoints of one owner.
MOST_ENDPOINTS: Final = 10


class TooManyEndpointsError(Exception):
    """The owner has :data:`MOST_ENDPOINTS` endpoints."""


class DisabledByStaffError(Exception):
    """Staff disabled the endpoint."""


def of_owner(owner: User) -> QuerySet[WebhookEndpoint]:
    """Return the owner's endpoints, the newest first. An API key that is limited to projects sees theirs."""
    rows = WebhookEndpoint.objects.filter(owner=owner)
    projects = grants.projects_of(owner)
    return rows if projects is None else rows.filter(project_id__in=projects)


def find(webhook_id: str, *, owner: User) -> WebhookEndpoint | None:
    """Return the endpoint of this id, or None if the owner has none."""
    webhook_id = identifier(webhook_id)
    return of_owner(owner).filter(pk=webhook_id).first() if WEBHOOK_ID.fullmatch(webhook_id) else None


def check_url(url: str) -> None:
    """Look the host of the URL up. Raises :class:`generation.webhooks.targets.RefusedURLError`."""
    targets.resolve_soon(targets.read(url))


def create(owner: User, values: Mapping[str, Any], *, address: str) -> tuple[WebhookEndpoint, str]:
    """Make an endpoint with these columns. Return it with its secret, which is not shown again. Raises
    :class:`TooManyEndpointsError`, :class:`generation.webhooks.targets.RefusedURLError` and
    :class:`generation.access.grants.NotAllowedError`."""
    _check_project(owner, values.get("project_id", ""))
    check_url(values["url"])
    secret = signatures.new()
    with transaction.atomic():
        # Two calls at once must not both see one free place.
        User.objects.select_for_update(no_key=True).get(pk=owner.pk)
        if WebhookEndpoint.objects.filter(owner=owner).count() >= MOST_ENDPOINTS:
            raise TooManyEndpointsError
        endpoint = WebhookEndpoint.objects.create(
            id=new_webhook_id(), owner=owner, secret=signatures.encrypt(secret), **values
        )
        audit.record(owner, endpoint, "Made a webhook endpoint", address=address, flag=audit.ADDITION)
    return endpoint, secret


def change(endpoint: WebhookEndpoint, values: Mapping[str, Any], *, by: User, address: str) -> None:
    """Write these columns. Enabling an endpoint forgets that it failed; disabling it ends its pending deliveries.
    Raises :class:`generation.webhooks.targets.RefusedURLError`, and :class:`DisabledByStaffError` if it is to be
    enabled, which only staff may do then."""
    if "url" in values:
        check_url(values["url"])
    written = dict(values)
    if "enabled" in values:
        written |= {"disabled_reason": "", "failing_since": None}
    with transaction.atomic():
        now = WebhookEndpoint.objects.select_for_update(no_key=True).filter(pk=endpoint.pk).first()
        if now is not None and now.disabled_reason == DisabledReason.STAFF:
            if values.get("enabled"):
                raise DisabledByStaffError
            written |= {"enabled": False, "disabled_reason": DisabledReason.STAFF}
        for name, value in written.items():
            setattr(endpoint, name, value)
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(**written)
        if values.get("enabled") is False:
            deliveries.end_pending(endpoint.pk)
        if "url" in values:
            deliveries.move_pending(endpoint)
        audit.record(by, endpoint, f"Changed {', '.join(sorted(values))} of a webhook endpoint", address=address)


def enable_by_staff(endpoint: WebhookEndpoint, *, enabled: bool, by: User, address: str) -> bool:
    """Enable or disable another user's endpoint. Return False if it is so already."""
    with transaction.atomic():
        reason = "" if enabled else DisabledReason.STAFF
        rows = WebhookEndpoint.objects.filter(pk=endpoint.pk, enabled=not enabled)
        if not rows.update(enabled=enabled, disabled_reason=reason, failing_since=None):
            return False
        if not enabled:
            deliveries.end_pending(endpoint.pk)
        audit.record(by, endpoint, f"{'Enabled' if enabled else 'Disabled'} a webhook endpoint", address=address)
    return True


def rotate(endpoint: WebhookEndpoint, *, overlap: timedelta, by: User, address: str) -> str:
    """Give the endpoint a new secret and return it. The previous one signs as well for the overlap."""
    with transaction.atomic():
        endpoint.refresh_from_db(from_queryset=WebhookEndpoint.objects.select_for_update())
        secret = signatures.rotate(endpoint, overlap=overlap)
        endpoint.save(update_fields=["secret", "previous_secret", "previous_until"])
        audit.record(by, endpoint, "Rotated the secret of a webhook endpoint", address=address)
    return secret


def delete(endpoint: WebhookEndpoint, *, by: User, address: str) -> None:
    """Delete the endpoint with its deliveries."""
    with transaction.atomic():
        # The fan-out shares this lock, so that it adds no delivery meanwhile.
        if not WebhookEndpoint.objects.select_for_update().filter(pk=endpoint.pk).exists():
            return
        audit.record(by, endpoint, "Deleted a webhook endpoint", address=address, flag=audit.DELETION)
        WebhookDelivery.objects.filter(endpoint=endpoint).delete()
        WebhookEndpoint.objects.filter(pk=endpoint.pk).delete()


# --- The default secret -----------------------------------------------------------------------------------------------


def default_secret(owner: User) -> str:
    """Return the owner's default secret, which is made at its first use. An unreadable one is replaced."""
    row = signatures.default(owner)
    try:
        return signatures.decrypt(row.secret)
    except signatures.UnreadableSecretError:
        secret = signatures.rotate(row, overlap=timedelta(0))
        row.save()
        return secret


def rotate_default_secret(owner: User, *, overlap: timedelta, address: str) -> str:
    """Give the owner a new default secret and return it. The previous one signs as well for the overlap."""
    row = signatures.default(owner)
    with transaction.atomic():
        row.refresh_from_db(from_queryset=type(row)._default_manager.select_for_update())
        secret = signatures.rotate(row, overlap=overlap)
        row.save()
        audit.record(owner, row, "Rotated the default webhook secret", address=address)
    return secret


def _check_project(owner: User, project_id: str) -> None:
    grant = grants.grant_of(owner)
    if grant is not None and not grant.allows_project(project_id):
        projects = ", ".join(grant.projects or ())
        raise grants.NotAllowedError("projectId", f"This API key is for the projects {projects}.")
