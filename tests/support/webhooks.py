"""Webhook endpoints as rows, without the checks of the API."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User

from generation.identifiers import new_webhook_id
from generation.models import WebhookDelivery, WebhookEndpoint
from generation.webhooks import outbox, signatures

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="


def endpoint_of(owner: User, *, url: str = "https://hooks.example.org/", **more: Any) -> WebhookEndpoint:
    """An endpoint with the known secret."""
    values: dict[str, Any] = {"events": ["request.completed"], "secret": signatures.encrypt(SECRET)}
    return WebhookEndpoint.objects.create(id=new_webhook_id(), owner=owner, url=url, **values | more)


def delivery_of(endpoint: WebhookEndpoint, **more: Any) -> WebhookDelivery:
    """A delivery to the endpoint that has failed."""
    row = outbox.delivery(
        owner_id=endpoint.owner_id, endpoint_id=endpoint.pk, url=endpoint.url, event="webhook.test", snapshot={}
    )
    outbox.add([row])
    values: dict[str, Any] = {"state": "failed", "next_attempt_at": None} | more
    WebhookDelivery.objects.filter(pk=row["id"]).update(**values)
    return WebhookDelivery.objects.get(pk=row["id"])
