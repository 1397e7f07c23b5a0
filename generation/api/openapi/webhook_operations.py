"""Descriptions of the operations on webhooks."""

from __future__ import annotations

from typing import Final

from drf_spectacular.utils import OpenApiResponse, extend_schema_serializer

from generation.access.rate_limits import RateExceeded
from generation.api.openapi import webhook_schemas as schemas
from generation.api.openapi.helpers import (
    BAD_BODY,
    INVALID,
    Responses,
    describe,
    exception_response,
    operation,
    path_id,
    response,
)
from generation.api.webhook_serializers import (
    ChangeWebhookSerializer,
    NewWebhookSerializer,
    RedeliverySerializer,
    RotateSecretSerializer,
)
from generation.api.webhooks import (
    AllDeliveriesSerializer,
    DeliveriesSerializer,
    DeliveryNotFound,
    DeliveryPending,
    DeliveryViewSet,
    DisabledByStaff,
    TooManyWebhooks,
    WebhookDisabled,
    WebhookNotFound,
    WebhookViewSet,
)
from generation.identifiers import DELIVERY_ID, WEBHOOK_ID

_TAG: Final = "Webhooks"
_OF_WEBHOOK: Final = path_id("webhook_id", WEBHOOK_ID.pattern, schemas.WEBHOOK_ID, "`webhookId` of a webhook.")
_OF_DELIVERY: Final = path_id("delivery_id", DELIVERY_ID.pattern, schemas.DELIVERY_ID, "`deliveryId` of a delivery.")
_MISSING: Final = exception_response(WebhookNotFound)
_LIMITED: Final[Responses] = exception_response(RateExceeded)

extend_schema_serializer(component_name="NewWebhook")(NewWebhookSerializer)
extend_schema_serializer(component_name="WebhookChange")(ChangeWebhookSerializer)
extend_schema_serializer(component_name="SecretRotation")(RotateSecretSerializer)
extend_schema_serializer(component_name="Redelivery")(RedeliverySerializer)
describe(
    WebhookViewSet,
    create=operation(
        "makeWebhook",
        "Make a webhook",
        "Events are sent as `POST` with `{type, timestamp, data}`, signed by the rules of Standard Webhooks with the"
        " secret in this response, which no later call shows. `data` has the shape of a status without `imageData`, or"
        " of a batch. A user has at most 10. `Idempotency-Key` is ignored.",
        tag=_TAG,
        request=NewWebhookSerializer,
        example=schemas.NEW,
        responses=BAD_BODY
        | _LIMITED
        | exception_response(TooManyWebhooks)
        | {201: response(schemas.WebhookWithSecret, "The webhook with its secret.", webhook=schemas.WITH_SECRET)},
    ),
    list=operation(
        "listWebhooks",
        "List webhooks",
        "The user's own webhooks, the newest first.",
        tag=_TAG,
        responses={200: response(schemas.Webhooks, "All webhooks.", webhooks=schemas.ENDPOINTS)},
    ),
    retrieve=operation(
        "getWebhook",
        "Get a webhook",
        "Without its secret.",
        tag=_TAG,
        parameters=[_OF_WEBHOOK],
        responses=_MISSING | {200: response(schemas.Webhook, "The webhook.", webhook=schemas.ENDPOINT)},
    ),
    partial_update=operation(
        "changeWebhook",
        "Change a webhook",
        "What is absent stays. A webhook that was disabled, by its owner or since it failed, is enabled again here; one"
        " that staff disabled is not.",
        tag=_TAG,
        parameters=[_OF_WEBHOOK],
        request=ChangeWebhookSerializer,
        example={"events": ["request.completed"], "enabled": True},
        responses=BAD_BODY
        | _MISSING
        | _LIMITED
        | exception_response(DisabledByStaff)
        | {200: response(schemas.Webhook, "The changed webhook.", webhook=schemas.ENDPOINT)},
    ),
    destroy=operation(
        "deleteWebhook",
        "Delete a webhook",
        "Deletes its deliveries as well, also those that are pending.",
        tag=_TAG,
        parameters=[_OF_WEBHOOK],
        responses=_MISSING | {204: OpenApiResponse(None, description="The webhook is deleted.")},
    ),
    rotate=operation(
        "rotateWebhookSecret",
        "Give a webhook a new secret",
        "The previous secret signs as well for `overlapHours`: `webhook-signature` then has two signatures.",
        tag=_TAG,
        parameters=[_OF_WEBHOOK],
        request=RotateSecretSerializer,
        example={"overlapHours": 24},
        responses=BAD_BODY
        | _MISSING
        | {200: response(schemas.WebhookWithSecret, "With its new secret.", webhook=schemas.WITH_SECRET)},
    ),
    test=operation(
        "testWebhook",
        "Send a test event",
        "Sends a `webhook.test`, whatever events the webhook names.",
        tag=_TAG,
        parameters=[_OF_WEBHOOK],
        responses=_MISSING
        | _LIMITED
        | exception_response(WebhookDisabled)
        | {202: response(schemas.DeliveryAccepted, "The delivery is queued.", accepted=schemas.ACCEPTED)},
    ),
    deliveries=operation(
        "listWebhookDeliveries",
        "List the deliveries of a webhook",
        "The newest first, kept for 30 days. What a receiver answers is not kept.",
        tag=_TAG,
        parameters=[_OF_WEBHOOK, DeliveriesSerializer],  # type: ignore[list-item]  # each of its fields is one
        responses=INVALID
        | _MISSING
        | {200: response(schemas.WebhookDeliveryPage, "One page.", page=schemas.DELIVERIES)},
    ),
    redeliver=operation(
        "redeliverWebhook",
        "Send deliveries of a webhook again",
        "After an outage of the receiver: those made in this time that have ended, each under its `webhook-id`.",
        tag=_TAG,
        parameters=[_OF_WEBHOOK],
        request=RedeliverySerializer,
        example={"since": schemas.SINCE, "onlyFailed": True},
        responses=BAD_BODY
        | _MISSING
        | _LIMITED
        | exception_response(WebhookDisabled)
        | {202: response(schemas.DeliveriesAccepted, "They are queued.", accepted=schemas.COUNTED)},
    ),
    secret=operation(
        "getDefaultSecret",
        "Get the default secret",
        "The secret that signs what is sent to the `webhookUrl` of a request or batch. It is made at its first use.",
        tag=_TAG,
        responses={200: response(schemas.WebhookSecret, "The secret.", secret={"secret": schemas.SECRET})},
    ),
    rotate_secret=operation(
        "rotateDefaultSecret",
        "Make a new default secret",
        "The previous secret signs as well for `overlapHours`.",
        tag=_TAG,
        request=RotateSecretSerializer,
        example={"overlapHours": 24},
        responses=BAD_BODY | {200: response(schemas.WebhookSecret, "It.", secret={"secret": schemas.SECRET})},
    ),
)
describe(
    DeliveryViewSet,
    list=operation(
        "listDeliveries",
        "List all deliveries",
        "Of all webhooks of the user, and of each `webhookUrl`; the newest first, kept for 30 days.",
        tag=_TAG,
        parameters=[AllDeliveriesSerializer],  # type: ignore[list-item]  # each of its fields is one
        responses=INVALID | {200: response(schemas.WebhookDeliveryPage, "One page.", page=schemas.DELIVERIES)},
    ),
    redeliver=operation(
        "redeliver",
        "Send a delivery again",
        "One that has ended, under its `webhook-id`.",
        tag=_TAG,
        parameters=[_OF_DELIVERY],
        responses=exception_response(DeliveryNotFound)
        | _LIMITED
        | exception_response(WebhookDisabled, DeliveryPending)
        | {202: response(schemas.DeliveryAccepted, "The delivery is queued.", accepted=schemas.ACCEPTED)},
    ),
)
