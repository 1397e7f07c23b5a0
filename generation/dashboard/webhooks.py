"""The pages of webhooks: endpoints, and the deliveries of each and of single calls. The API makes all changes."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from generation.dashboard.context import common, user_of
from generation.models import WebhookDelivery, WebhookEndpoint, WebhookSecret
from generation.reports import webhook_log
from generation.states import DEFAULT_WEBHOOK_EVENTS, WEBHOOK_EVENTS, DeliveryState
from generation.webhooks import deliveries, endpoints

_PAGE_SIZE: Final = 25


@require_safe
@never_cache
@login_required
def webhooks(request: HttpRequest) -> HttpResponse:
    """GET /webhooks: the user's endpoints, and the default secret."""
    user = user_of(request)
    found = [_described(one) for one in _with_last_delivery(endpoints.of_owner(user))]
    secret = WebhookSecret.objects.filter(owner=user).first()
    return render(
        request,
        "webhooks.html",
        common()
        | _choices()
        | {
            "endpoints": found,
            "has_room": len(found) < endpoints.MOST_ENDPOINTS,
            "most": endpoints.MOST_ENDPOINTS,
            "data": {one["endpoint"].pk: _data(one["endpoint"]) for one in found},
            "timeout": f"{settings.WEBHOOK_TIMEOUT_S:g}",
            "overlap": secret and webhook_log.overlap_of(secret),
        },
    )


@require_safe
@never_cache
@login_required
def webhook(request: HttpRequest, webhook_id: str) -> HttpResponse:
    """GET /webhooks/ID: one endpoint with its deliveries."""
    found = endpoints.find(webhook_id, owner=user_of(request))
    if found is None:
        return render(request, "missing.html", common() | {"what": "webhook"}, status=404)
    endpoint = _with_last_delivery(WebhookEndpoint.objects.filter(pk=found.pk)).get()
    return render(
        request,
        "webhook.html",
        common()
        | _choices()
        | _described(endpoint)
        | _deliveries(request, deliveries.of_endpoint(endpoint))
        | {"data": {endpoint.pk: _data(endpoint)}},
    )


@require_safe
@never_cache
@login_required
def webhook_calls(request: HttpRequest) -> HttpResponse:
    """GET /webhooks/calls: the deliveries to addresses that came with single requests and batches."""
    rows = deliveries.of_owner(user_of(request)).filter(endpoint=None)
    return render(request, "webhook_calls.html", common() | _deliveries(request, rows))


def _with_last_delivery(rows: QuerySet[WebhookEndpoint]) -> QuerySet[WebhookEndpoint]:
    return webhook_log.with_last_delivery(rows).order_by("-pk")


def _described(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {
        "endpoint": endpoint,
        "health": webhook_log.health_of(endpoint),
        "overlap": webhook_log.overlap_of(endpoint),
        "last_delivered": webhook_log.last_delivered(endpoint),
        "pending": webhook_log.pending_count(endpoint),
        "most_pending": webhook_log.MOST_COUNTED,
    }


def _deliveries(request: HttpRequest, rows: QuerySet[WebhookDelivery]) -> dict[str, Any]:
    state = request.GET.get("state", "")
    if state in DeliveryState.values:
        rows = rows.filter(state=state)
    else:
        state = ""
    before = request.GET.get("before", "")
    page = webhook_log.page(rows, before=before, size=_PAGE_SIZE)
    return {"page": page, "state": state, "before": before, "states": [("", "All"), *DeliveryState.choices]}


def _choices() -> dict[str, Any]:
    """Return the choices of the form of an endpoint."""
    return {
        "events": [(event.value, event.label) for event in WEBHOOK_EVENTS],
        "default_events": [event.value for event in DEFAULT_WEBHOOK_EVENTS],
    }


def _data(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """Return what the page's script needs to know."""
    return {
        "webhookId": endpoint.pk,
        "url": endpoint.url,
        "events": endpoint.events,
        "projectId": endpoint.project_id,
        "description": endpoint.description,
        "overlaps": webhook_log.overlap_of(endpoint) is not None,
    }
