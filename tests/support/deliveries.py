"""Deliveries of webhooks as rows, with what only a receiver and time would write."""

from __future__ import annotations

from typing import Any

from generation.models import WebhookDelivery, WebhookEndpoint
from generation.webhooks import outbox

AT = "2026-03-01T12:00:00.000Z"


def delivery_of(endpoint: WebhookEndpoint, **columns: Any) -> WebhookDelivery:
    """A delivery of the endpoint, with these columns."""
    row = outbox.delivery(
        owner_id=endpoint.owner_id,
        endpoint_id=endpoint.pk,
        url=endpoint.url,
        event=columns.pop("event", "request.completed"),
        snapshot={},
        request_id=columns.pop("request_id", ""),
    )
    outbox.add([row])
    if columns.get("state", "pending") != "pending":
        columns |= {"next_attempt_at": None}
    WebhookDelivery.objects.filter(pk=row["id"]).update(**columns)
    return WebhookDelivery.objects.get(pk=row["id"])


def attempt(status: int | None, error: str | None = None, ms: int = 12) -> dict[str, Any]:
    """An entry of a delivery's log."""
    return {"at": AT, "status": status, "error": error, "ms": ms}
