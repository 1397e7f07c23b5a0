"""Schemas and examples of responses about webhooks."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from generation.api.openapi.examples import REQUEST_ID
from generation.api.openapi.schemas import Count, Pattern, ResponseSerializer, Text, Timestamp
from generation.identifiers import BATCH_ID as BATCH
from generation.identifiers import DELIVERY_ID as DELIVERY
from generation.identifiers import REQUEST_ID as REQUEST
from generation.identifiers import WEBHOOK_ID as WEBHOOK
from generation.states import WEBHOOK_EVENTS, DeliveryState, DisabledReason, WebhookEventType

WEBHOOK_ID: Final = "vgw_1769158200000000_c4n8r2f6z0k5y9p1w7"
DELIVERY_ID: Final = "vgd_1769158260000000_m7t3x9v1q5l8d2j6h0"
#: The secret of no webhook: "example example example example!" in base64.
SECRET: Final = "whsec_ZXhhbXBsZSBleGFtcGxlIGV4YW1wbGUgZXhhbXBsZSE="  # noqa: S105

NEW: Final[dict[str, Any]] = {
    "url": "https://books.example.org/hooks/images",
    "events": ["request.completed", "request.failed"],
    "projectId": "proj_123",
}
SINCE: Final = "2026-01-23T08:00:00Z"
ENDPOINT: Final = {
    "webhookId": WEBHOOK_ID,
    **NEW,
    "description": "",
    "enabled": True,
    "disabledReason": None,
    "failingSince": None,
    "createdAt": "2026-01-23T08:50:00.000Z",
    "previousUntil": None,
}
WITH_SECRET: Final = ENDPOINT | {"secret": SECRET}
ENDPOINTS: Final = {"results": [ENDPOINT], "next": None, "previous": None}
DELIVERY_SHOWN: Final = {
    "deliveryId": DELIVERY_ID,
    "webhookId": WEBHOOK_ID,
    "url": NEW["url"],
    "event": "request.completed",
    "requestId": REQUEST_ID,
    "batchId": None,
    "sequence": 3,
    "state": "pending",
    "attempts": [{"at": "2026-01-23T08:51:00.120Z", "status": 502, "error": "rejected", "ms": 48}],
    "nextAttemptAt": "2026-01-23T08:51:05.170Z",
    "createdAt": "2026-01-23T08:51:00.070Z",
}
DELIVERIES: Final = {"results": [DELIVERY_SHOWN], "next": None, "previous": None}
ACCEPTED: Final = {"success": True, "deliveryId": DELIVERY_ID}
COUNTED: Final = {"success": True, "count": 12}


class Webhook(ResponseSerializer):
    """An address to which events are sent."""

    webhookId = Pattern(WEBHOOK.pattern)
    url = serializers.CharField()
    events = serializers.ListField(child=Pattern("|".join(WEBHOOK_EVENTS).join("()")))
    projectId = serializers.CharField(allow_null=True, help_text="The only project whose events are sent.")
    description = Text()
    enabled = serializers.BooleanField()
    disabledReason = Pattern(
        "|".join(DisabledReason).join("()"),
        allow_null=True,
        help_text="`gone`: it answered 410. `failing`: nothing could be delivered for five days. `staff`: staff did.",
    )
    failingSince = Timestamp(allow_null=True, help_text="The first failure since the last successful delivery.")
    createdAt = Timestamp()
    previousUntil = Timestamp(allow_null=True, help_text="Until when the previous secret signs as well.")


class WebhookWithSecret(Webhook):
    """A webhook with its secret, which no later call shows."""

    secret = Pattern("whsec_[0-9A-Za-z+/]{43}=", help_text="Verifies `webhook-signature` (Standard Webhooks).")


@extend_schema_serializer(many=False)
class Webhooks(ResponseSerializer):
    """All webhooks of the user, the newest first."""

    results = Webhook(many=True)
    next = serializers.URLField(allow_null=True, help_text="Always `null`: there are at most 10.")
    previous = serializers.URLField(allow_null=True, help_text="Always `null`.")


class WebhookSecret(ResponseSerializer):
    """The secret that signs what is sent to a `webhookUrl`."""

    secret = Pattern("whsec_[0-9A-Za-z+/]{43}=")


class DeliveryAttempt(ResponseSerializer):
    """One attempt to deliver."""

    at = Timestamp()
    status = serializers.IntegerField(allow_null=True, help_text="The HTTP status; `null` if there was none.")
    error = serializers.CharField(
        allow_null=True,
        help_text="`null` if it was delivered, else why not, such as `rejected`, `redirect`, `timeout`,"
        " `connection_failed`, `certificate`, `unresolvable`, `not_allowed`, `endpoint_disabled`, `expired` or"
        " `request_deleted`.",
    )
    ms = Count(help_text="How long it took.")


class WebhookDelivery(ResponseSerializer):
    """One event for one address, with its newest 20 attempts."""

    deliveryId = Pattern(DELIVERY.pattern, help_text="Also the `webhook-id` of each attempt.")
    webhookId = Pattern(WEBHOOK.pattern, allow_null=True, help_text="`null` for a `webhookUrl`.")
    url = serializers.CharField()
    event = Pattern("|".join(WebhookEventType).join("()"))
    requestId = Pattern(REQUEST.pattern, allow_null=True)
    batchId = Pattern(BATCH.pattern, allow_null=True)
    sequence = Count(help_text="Orders the events of a request, which may arrive in another order.")
    state = Pattern("|".join(DeliveryState).join("()"))
    attempts = DeliveryAttempt(many=True)
    nextAttemptAt = Timestamp(allow_null=True)
    createdAt = Timestamp()


@extend_schema_serializer(many=False)
class WebhookDeliveryPage(ResponseSerializer):
    """One page of deliveries, the newest first."""

    results = WebhookDelivery(many=True)
    next = serializers.URLField(allow_null=True, help_text="URL of the page with older deliveries.")
    previous = serializers.URLField(allow_null=True, help_text="URL of the page with newer deliveries.")


class DeliveryAccepted(ResponseSerializer):
    """The delivery is queued."""

    success = serializers.BooleanField()
    deliveryId = Pattern(DELIVERY.pattern)


class DeliveriesAccepted(ResponseSerializer):
    """So many deliveries are queued."""

    success = serializers.BooleanField()
    count = Count()
