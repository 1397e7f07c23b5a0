"""The endpoints of webhooks. Only the owner sees them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar, Final

from rest_framework import serializers, status, viewsets
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from generation.access.client_address import client_address
from generation.access.rate_limits import Limit, consume
from generation.api.errors import InvalidValue, NotFound
from generation.api.fields import ChoiceField, NameField
from generation.api.idempotency import current_user
from generation.api.pagination import NewestFirstPagination
from generation.api.serializers import CursorField, PageSerializer, query_parameters, validate
from generation.api.webhook_serializers import (
    ChangeWebhookSerializer,
    NewWebhookSerializer,
    RedeliverySerializer,
    RotateSecretSerializer,
)
from generation.identifiers import DELIVERY_ID
from generation.models import WebhookDelivery, WebhookEndpoint
from generation.requests.representations import timestamp
from generation.states import DeliveryState, Scope, WebhookEventType
from generation.webhooks import deliveries, endpoints
from generation.webhooks.targets import RefusedURLError

#: The rate of calls of one user that look a host up or send something.
_RATE: Final = "60/m"
#: An answer with a secret must be kept by no cache.
_NOT_STORED: Final = {"Cache-Control": "no-store"}


class WebhookNotFound(NotFound):
    """The webhook does not exist or belongs to another user."""

    default_detail = "Webhook not found"


class DeliveryNotFound(NotFound):
    """The delivery does not exist or belongs to another user."""

    default_detail = "Delivery not found"


class TooManyWebhooks(APIException):
    """The user has as many webhooks as one may have."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = f"You have {endpoints.MOST_ENDPOINTS} webhooks; delete one first"
    default_code = "too_many"


class WebhookDisabled(APIException):
    """The webhook is disabled, so that nothing is sent to it."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "The webhook is disabled; enable it first"
    default_code = "disabled"


class DisabledByStaff(APIException):
    """Staff disabled the webhook, so only staff enable it again."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "Staff disabled this webhook; ask them to enable it"
    default_code = "disabled_by_staff"


class DeliveryPending(APIException):
    """The delivery has not ended yet."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "The delivery is pending already"
    default_code = "pending"


class DeliveriesSerializer(PageSerializer):
    """The filters of the deliveries of a webhook."""

    state = ChoiceField(DeliveryState.choices, required=False)
    event = ChoiceField(WebhookEventType.choices, required=False)
    limit = serializers.IntegerField(min_value=1, max_value=100, default=20, help_text="Deliveries per page.")
    cursor = CursorField(
        format="delivery-cursor",
        max_length=500,
        required=False,
        help_text="The start of the page; take it from `next` or `previous`.",
    )


class AllDeliveriesSerializer(DeliveriesSerializer):
    """The filters of all deliveries."""

    requestId = NameField(max_length=64, required=False, source="request_id")


def representation(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """Return the endpoint as its owner sees it."""
    return {
        "webhookId": endpoint.pk,
        "url": endpoint.url,
        "events": endpoint.events,
        "projectId": endpoint.project_id or None,
        "description": endpoint.description,
        "enabled": endpoint.enabled,
        "disabledReason": endpoint.disabled_reason or None,
        "failingSince": timestamp(endpoint.failing_since),
        "createdAt": timestamp(endpoint.created_at),
        "previousUntil": timestamp(endpoint.previous_until),
    }


def delivery_representation(delivery: WebhookDelivery) -> dict[str, Any]:
    """Return the delivery as its owner sees it."""
    return {
        "deliveryId": delivery.pk,
        "webhookId": delivery.endpoint_id,
        "url": delivery.url,
        "event": delivery.event,
        "requestId": delivery.request_id or None,
        "batchId": delivery.batch_id or None,
        "sequence": delivery.sequence,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "nextAttemptAt": timestamp(delivery.next_attempt_at),
        "createdAt": timestamp(delivery.created_at),
    }


class WebhookViewSet(viewsets.ViewSet):
    """Make, see, change, rotate, test and delete one's own webhooks."""

    scopes: ClassVar = dict.fromkeys(
        [
            *("create", "list", "retrieve", "partial_update", "destroy", "rotate", "test"),
            *("deliveries", "redeliver", "secret", "rotate_secret"),
        ],
        Scope.WEBHOOKS,
    )

    def create(self, request: Request) -> Response:
        values = validate(NewWebhookSerializer, request.data)
        _limit(request)
        try:
            endpoint, secret = endpoints.create(current_user(request), values, address=_address(request))
        except RefusedURLError as refusal:
            raise InvalidValue("url", str(refusal), refusal.code) from None
        except endpoints.TooManyEndpointsError:
            raise TooManyWebhooks from None
        body = representation(endpoint) | {"secret": secret}
        return Response(body, status=status.HTTP_201_CREATED, headers=_NOT_STORED)

    def list(self, request: Request) -> Response:
        # At most MOST_ENDPOINTS, so they are one page.
        results = [representation(one) for one in endpoints.of_owner(current_user(request)).order_by("-pk")]
        return Response({"results": results, "next": None, "previous": None})

    def retrieve(self, request: Request, webhook_id: str) -> Response:
        return Response(representation(_find(request, webhook_id)))

    def partial_update(self, request: Request, webhook_id: str) -> Response:
        endpoint = _find(request, webhook_id)
        values = validate(ChangeWebhookSerializer, request.data)
        if "url" in values:
            _limit(request)
        try:
            if values:
                endpoints.change(endpoint, values, by=current_user(request), address=_address(request))
        except RefusedURLError as refusal:
            raise InvalidValue("url", str(refusal), refusal.code) from None
        except endpoints.DisabledByStaffError:
            raise DisabledByStaff from None
        return Response(representation(endpoint))

    def destroy(self, request: Request, webhook_id: str) -> Response:
        endpoints.delete(_find(request, webhook_id), by=current_user(request), address=_address(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    def rotate(self, request: Request, webhook_id: str) -> Response:
        endpoint = _find(request, webhook_id)
        secret = endpoints.rotate(
            endpoint, overlap=_overlap(request), by=current_user(request), address=_address(request)
        )
        return Response(representation(endpoint) | {"secret": secret}, headers=_NOT_STORED)

    def test(self, request: Request, webhook_id: str) -> Response:
        endpoint = _find(request, webhook_id)
        _limit(request)
        try:
            delivery_id = deliveries.send_test(endpoint)
        except deliveries.DisabledError:
            raise WebhookDisabled from None
        return Response({"success": True, "deliveryId": delivery_id}, status=status.HTTP_202_ACCEPTED)

    def deliveries(self, request: Request, webhook_id: str) -> Response:
        return _page(request, deliveries.of_endpoint(_find(request, webhook_id)), DeliveriesSerializer)

    def redeliver(self, request: Request, webhook_id: str) -> Response:
        endpoint = _find(request, webhook_id)
        valid = validate(RedeliverySerializer, request.data)
        _limit(request)
        try:
            count = deliveries.redeliver_many(
                endpoint, since=valid["since"], until=valid.get("until"), only_failed=valid["onlyFailed"]
            )
        except deliveries.DisabledError:
            raise WebhookDisabled from None
        return Response({"success": True, "count": count}, status=status.HTTP_202_ACCEPTED)

    def secret(self, request: Request) -> Response:
        return Response({"secret": endpoints.default_secret(current_user(request))}, headers=_NOT_STORED)

    def rotate_secret(self, request: Request) -> Response:
        secret = endpoints.rotate_default_secret(
            current_user(request), overlap=_overlap(request), address=_address(request)
        )
        return Response({"secret": secret}, headers=_NOT_STORED)


class DeliveryViewSet(viewsets.ViewSet):
    """See all deliveries, and send one again."""

    scopes: ClassVar = dict.fromkeys(["list", "redeliver"], Scope.WEBHOOKS)

    def list(self, request: Request) -> Response:
        return _page(request, deliveries.of_owner(current_user(request)), AllDeliveriesSerializer)

    def redeliver(self, request: Request, delivery_id: str) -> Response:
        delivery = deliveries.find(delivery_id, owner=current_user(request))
        if delivery is None:
            raise DeliveryNotFound
        _limit(request)
        try:
            deliveries.redeliver(delivery)
        except deliveries.DisabledError:
            raise WebhookDisabled from None
        except deliveries.NotEndedError:
            raise DeliveryPending from None
        return Response({"success": True, "deliveryId": delivery.pk}, status=status.HTTP_202_ACCEPTED)


def _page(request: Request, rows: Any, kind: type[PageSerializer]) -> Response:
    query = validate(kind, query_parameters(request))
    conditions = {name: value for name, value in query.items() if name not in {"limit", "cursor"}}
    pagination = NewestFirstPagination(page_size=query["limit"], ids=DELIVERY_ID, rows=deliveries.by_id)
    page = pagination.paginate_queryset(rows.filter(**conditions), request)
    return pagination.get_paginated_response([delivery_representation(row) for row in page])


def _find(request: Request, webhook_id: str) -> WebhookEndpoint:
    endpoint = endpoints.find(webhook_id, owner=current_user(request))
    if endpoint is None:
        raise WebhookNotFound
    return endpoint


def _overlap(request: Request) -> timedelta:
    return timedelta(hours=validate(RotateSecretSerializer, request.data)["overlapHours"])


def _limit(request: Request) -> None:
    consume(request._request, "webhooks", Limit("user", str(current_user(request).pk), _RATE))


def _address(request: Request) -> str:
    return client_address(request._request)
