"""Deliveries as their owners see them: the log, tests, and sending again."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from generation.access import grants
from generation.db import queries
from generation.db.execution import execute
from generation.db.functions import Now
from generation.db.locks import delete_in_steps, locked_keys
from generation.identifiers import DELIVERY_ID, identifier
from generation.models import GenerationRequest, WebhookDelivery, WebhookEndpoint, WebhookEvent
from generation.states import DeliveryState, WebhookEventType
from generation.webhooks import outbox

#: How far back deliveries are sent again, and how long they are kept.
LONGEST_REDELIVERY: Final = timedelta(days=7)
KEPT_FOR: Final = timedelta(days=30)
#: The most rows that one statement changes.
_STEP: Final = 1000
#: What the log says of a delivery that was not sent: its endpoint was disabled, its time is over, its request was
#: deleted, its secret was encrypted with another ``SECRET_KEY``, or its body could not be made.
ENDPOINT_DISABLED: Final = "endpoint_disabled"
EXPIRED: Final = "expired"
REQUEST_DELETED: Final = "request_deleted"
SECRET_UNREADABLE: Final = "secret_unreadable"  # noqa: S105  a word of the log
INTERNAL: Final = "internal"


class DisabledError(Exception):
    """The endpoint is disabled, so nothing is sent to it."""


class NotEndedError(Exception):
    """The delivery is pending already."""


def of_owner(owner: User) -> QuerySet[WebhookDelivery]:
    """Return the owner's deliveries. An API key that is limited to projects sees those of the projects' endpoints and
    requests."""
    rows = WebhookDelivery.objects.filter(owner=owner)
    projects = grants.projects_of(owner)
    if projects is None:
        return rows
    requests = GenerationRequest.objects.filter(pk=OuterRef("request_id"), project_id__in=projects)
    return rows.filter(Q(endpoint__project_id__in=projects) | (Q(endpoint=None) & Exists(requests)))


def of_endpoint(endpoint: WebhookEndpoint) -> QuerySet[WebhookDelivery]:
    """Return the deliveries of an endpoint."""
    return WebhookDelivery.objects.filter(endpoint=endpoint)


def find(delivery_id: str, *, owner: User) -> WebhookDelivery | None:
    """Return the delivery of this id, or None if the owner has none."""
    delivery_id = identifier(delivery_id)
    if not DELIVERY_ID.fullmatch(delivery_id):
        return None
    return of_owner(owner).select_related("endpoint").filter(pk=delivery_id).first()


def by_id(delivery_ids: Collection[str]) -> dict[str, WebhookDelivery]:
    """Return the existing deliveries of these ids, for a caller that has checked the permissions."""
    return WebhookDelivery.objects.defer("snapshot").in_bulk(list(delivery_ids))


def redeliver(delivery: WebhookDelivery) -> None:
    """Send a delivery again that has ended, under its id. Raises :class:`NotEndedError` and :class:`DisabledError`."""
    if delivery.endpoint is not None and not delivery.endpoint.enabled:
        raise DisabledError
    if not _queue_again(WebhookDelivery.objects.filter(pk=delivery.pk), delivery.endpoint):
        raise NotEndedError


def redeliver_many(endpoint: WebhookEndpoint, *, since: datetime, until: datetime | None, only_failed: bool) -> int:
    """Send the deliveries of events in this time again, and return their number. Raises :class:`DisabledError`.

    The caller ensures that ``since`` is at most :data:`LONGEST_REDELIVERY` ago.
    """
    if not endpoint.enabled:
        raise DisabledError
    rows = of_endpoint(endpoint).filter(created_at__gte=since)
    if until is not None:
        rows = rows.filter(created_at__lt=until)
    if only_failed:
        rows = rows.filter(state=DeliveryState.FAILED)
    count, last = 0, ""
    while True:
        with transaction.atomic():
            keys = locked_keys(rows.exclude(state=DeliveryState.PENDING).filter(pk__gt=last), limit=_STEP)
            if not keys:
                return count
            count += _queue_again(WebhookDelivery.objects.filter(pk__in=keys), endpoint)
            last = keys[-1]


def _queue_again(rows: QuerySet[WebhookDelivery], endpoint: WebhookEndpoint | None) -> int:
    """Queue those of the deliveries that have ended, for the present URL of their endpoint. Return their number."""
    address = {"url": endpoint.url, "host": outbox.host_of(endpoint.url)} if endpoint else {}
    return rows.exclude(state=DeliveryState.PENDING).update(
        state=DeliveryState.PENDING, tries=0, next_attempt_at=Now(), expires_at=Now() + outbox.LIFETIME, **address
    )


def send_test(endpoint: WebhookEndpoint) -> str:
    """Queue a test event for the endpoint and return the delivery's id. Raises :class:`DisabledError`."""
    if not endpoint.enabled:
        raise DisabledError
    row = outbox.delivery(
        owner_id=endpoint.owner_id,
        endpoint_id=endpoint.pk,
        url=endpoint.url,
        event=WebhookEventType.TEST,
        snapshot={"webhookId": endpoint.pk},
    )
    outbox.add([row])
    return str(row["id"])


def move_pending(endpoint: WebhookEndpoint) -> None:
    """Send the pending deliveries of an endpoint to its new URL."""
    host = outbox.host_of(endpoint.url)
    of_endpoint(endpoint).filter(state=DeliveryState.PENDING).update(url=endpoint.url, host=host)


def end_pending(endpoint_id: str) -> int:
    """Fail the pending deliveries of a disabled endpoint, and return their number. Those that are being sent end with
    their attempt."""
    ended = 0
    parameters: dict[str, Any] = {"target": endpoint_id, "most": _STEP, "error": ENDPOINT_DISABLED}
    while count := execute(queries.END_PENDING, parameters):
        ended += count
    return ended


def end_expired() -> int:
    """Fail deliveries that did not end in time, and return their number."""
    return execute(queries.END_EXPIRED, {"most": _STEP, "error": EXPIRED})


def delete_old() -> Iterator[int]:
    """Delete deliveries that ended and are too old to be kept, and events that became as old while no deliverer was
    up. Yields the number of deliveries that each step deleted."""
    while end_expired() == _STEP:  # they would stay pending forever without a deliverer
        pass
    old = WebhookDelivery.objects.filter(created_at__lt=Now() - KEPT_FOR).exclude(state=DeliveryState.PENDING)
    yield from delete_in_steps(old, step=_STEP)
    for _ in delete_in_steps(WebhookEvent.objects.filter(at__lt=Now() - KEPT_FOR), step=_STEP):
        pass
