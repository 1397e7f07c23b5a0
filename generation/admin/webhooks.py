"""Webhook endpoints and deliveries of all users. Staff see them, disable and enable endpoints, and send deliveries
again. Secrets are never loaded, and the query of a URL, which may hold a secret of the receiver, is not shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from unfold.contrib.filters.admin import DropdownFilter, TextFilter
from unfold.decorators import display

from generation import identifiers
from generation.access import audit, roles
from generation.access.client_address import client_address
from generation.admin.base import KeysetPageAdmin, badge, history, key_in
from generation.identifiers import BATCH_ID, DELIVERY_ID, REQUEST_ID, WEBHOOK_ID
from generation.models import WebhookDelivery, WebhookEndpoint
from generation.reports import webhook_log
from generation.states import WEBHOOK_EVENTS, DeliveryState, WebhookEventType
from generation.webhooks import deliveries, endpoints

#: The most rows of one action; a page of a list has fewer.
_MOST: Final = 100
#: No search finds out what the query of a URL holds.
_HOST: Final = re.compile(r"[\w.-]+")
#: Characters of an address in the list.
_LONGEST_ADDRESS: Final = 60
_SECRETS: Final = ("secret", "previous_secret")
_LOOKS: Final = {"healthy": "completed", "warning": "warning", "critical": "failed", "off": "cancelled"}
_STATES: Final[dict[str, dict[str, Any]]] = {
    "enabled": {"enabled": True},
    "failing": {"enabled": True, "failing_since__isnull": False},
    "disabled": {"enabled": False},
}


class OwnerFilter(TextFilter):
    """Filter by the name of the owner."""

    title = "owner"
    parameter_name = "owner"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        name = identifiers.user_name(self.value() or "")
        return _of_owner(queryset, name) if name else queryset


class EndpointStateFilter(DropdownFilter):
    """Filter by whether events are sent to the endpoint."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name.capitalize()) for name in _STATES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**_STATES.get(self.value() or "", {}))


class DeliveryStateFilter(DropdownFilter):
    """Filter by the state of the delivery."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(DeliveryState.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(state=self.value()) if self.value() in DeliveryState.values else queryset


class EventFilter(DropdownFilter):
    """Filter by the event."""

    title = "event"
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(event.value, event.value) for event in WebhookEventType]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in WebhookEventType.values:
            return queryset
        name = "events__contains" if queryset.model is WebhookEndpoint else "event"
        return queryset.filter(**{name: self.value()})


class _ActingAdmin(KeysetPageAdmin):
    """A list whose rows a form on their page, and actions of the list, act on."""

    #: The permission of the actions, and what each does with the ids; it returns what to tell.
    permission: str
    acts: dict[str, Callable[[HttpRequest, list[str]], None]]

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may act on rows, which is also the permission of the list's actions."""
        return bool(request.user.has_perm(self.permission))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.act)
        return [path("act/", view, name=f"generation_{self.opts.model_name}_act"), *super().get_urls()]

    def act(self, request: HttpRequest) -> HttpResponse:
        """POST: act on one row, from its page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        name, key = request.POST.get("action", ""), request.POST.get("id", "")
        act = self.acts.get(name)
        if not (self.has_view_permission(request) and self.has_act_permission(request)):
            user: Any = request.user
            audit.refused(user, f"{name[:20]} of {self.opts.verbose_name} {key[:64]}", address=client_address(request))
            raise PermissionDenied
        if act is None or self.row_of(key) is None:
            messages.error(request, "It does not exist.")
            return redirect(f"admin:generation_{self.opts.model_name}_changelist")
        act(request, [key])
        return redirect(f"admin:generation_{self.opts.model_name}_change", key)


def _enable(request: HttpRequest, ids: list[str], *, enabled: bool) -> None:
    user: Any = request.user
    address = client_address(request)
    rows = WebhookEndpoint.objects.filter(pk__in=ids[:_MOST]).order_by("pk")
    done = [endpoints.enable_by_staff(row, enabled=enabled, by=user, address=address) for row in rows]
    word = "enabled" if enabled else "disabled"
    if count := sum(done):
        messages.success(request, f"{word.capitalize()} {_counted(count, 'webhook')}.")
    if already := len(done) - sum(done):
        messages.warning(request, f"Skipped {_counted(already, 'webhook')}, already {word}.")


def _redeliver(request: HttpRequest, ids: list[str]) -> None:
    user: Any = request.user
    address = client_address(request)
    count, skipped = 0, 0
    for row in WebhookDelivery.objects.select_related("endpoint").defer("snapshot").filter(pk__in=ids[:_MOST]):
        try:
            deliveries.redeliver(row)
        except (deliveries.NotEndedError, deliveries.DisabledError):
            skipped += 1
            continue
        audit.record(user, row, "Sent a webhook delivery again", address=address)
        count += 1
    if count:
        messages.success(request, f"{_counted(count, 'delivery')} will be sent again.")
    if skipped:
        messages.warning(request, f"Skipped {_counted(skipped, 'delivery')}: pending, or of a disabled webhook.")


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(_ActingAdmin):
    page_template = "admin/generation/webhookendpoint/page.html"
    list_display = ("short_address", "owner_name", "state", "event_count", "project", "last_success")
    list_filter = (EndpointStateFilter, EventFilter, OwnerFilter)
    search_fields = ("id",)
    search_help_text = "ID, owner, or the beginning of the host"
    actions = ("disable_selected", "enable_selected")
    permission = roles.DISABLE_WEBHOOK
    acts: dict[str, Callable[[HttpRequest, list[str]], None]] = {  # noqa: RUF012  as Django's own attributes
        "disable": lambda request, ids: _enable(request, ids, enabled=False),
        "enable": lambda request, ids: _enable(request, ids, enabled=True),
    }

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookEndpoint]:
        rows = WebhookEndpoint.objects.select_related("owner").defer(*_SECRETS)
        return webhook_log.with_last_delivery(rows)

    def found(self, rows: QuerySet[Any], text: str) -> QuerySet[Any]:
        if WEBHOOK_ID.fullmatch(text):
            return rows.filter(pk=text)
        by_owner = _of_owner(rows, identifiers.user_name(text))
        return by_owner | rows.filter(url__icontains=f"//{text}") if _HOST.fullmatch(text) else by_owner

    @display(description="address")
    def short_address(self, row: WebhookEndpoint) -> str:
        return Truncator(webhook_log.without_query(row.url)).chars(_LONGEST_ADDRESS)

    @display(description="owner")
    def owner_name(self, row: WebhookEndpoint) -> str:
        return str(row.owner.get_username())

    @display(description="state")
    def state(self, row: WebhookEndpoint) -> SafeString:
        health = webhook_log.health_of(row)
        return badge(_LOOKS[health.kind], health.label)

    @display(description="events")
    def event_count(self, row: WebhookEndpoint) -> str:
        return f"{len(row.events)} of {len(WEBHOOK_EVENTS)}"

    @display(description="project")
    def project(self, row: WebhookEndpoint) -> str:
        return row.project_id or "all"

    @display(description="last success")
    def last_success(self, row: WebhookEndpoint) -> str:
        return _clock(webhook_log.last_delivered(row)) or "none yet"

    def row_of(self, object_id: str) -> WebhookEndpoint | None:
        rows = webhook_log.with_last_delivery(WebhookEndpoint.objects.select_related("owner").defer(*_SECRETS))
        key = key_in(object_id, WEBHOOK_ID)
        return rows.filter(pk=key).first() if WEBHOOK_ID.fullmatch(key) else None

    def page(self, request: HttpRequest, row: WebhookEndpoint) -> dict[str, Any]:
        until, why = webhook_log.overlap_of(row), webhook_log.health_of(row).why
        return {
            "title": "Webhook",
            "subtitle": row.pk,
            "row": row,
            "address": webhook_log.without_query(row.url),
            "state": self.state(row),
            "facts": [
                *([("Why", why)] if why else []),
                ("Events", ", ".join(row.events)),
                ("Project", self.project(row)),
                ("Description", row.description or "none"),
                ("Created", _clock(row.created_at)),
                ("Last success", self.last_success(row)),
                ("Waiting", f"{webhook_log.pending_count(row):,}"),
                *([("Previous secret", f"signs as well until {_clock(until)}")] if until else []),
            ],
            "may_act": self.has_act_permission(request),
            "log": history(row, request.user),
        }

    @admin.action(permissions=["act"], description="Disable; waiting deliveries fail")
    def disable_selected(self, request: HttpRequest, rows: QuerySet[WebhookEndpoint]) -> None:
        """Disable the selected endpoints."""
        _enable(request, list(rows.values_list("pk", flat=True)[:_MOST]), enabled=False)

    @admin.action(permissions=["act"], description="Enable")
    def enable_selected(self, request: HttpRequest, rows: QuerySet[WebhookEndpoint]) -> None:
        """Enable the selected endpoints."""
        _enable(request, list(rows.values_list("pk", flat=True)[:_MOST]), enabled=True)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(_ActingAdmin):
    page_template = "admin/generation/webhookdelivery/page.html"
    list_display = ("event_name", "shown_state", "owner_name", "target_host", "result", "occurred_at")
    list_filter = (DeliveryStateFilter, EventFilter, OwnerFilter)
    search_fields = ("id",)
    search_help_text = "ID of a delivery, webhook or request, or the owner"
    actions = ("redeliver_selected",)
    permission = roles.REDELIVER
    acts: dict[str, Callable[[HttpRequest, list[str]], None]] = {"redeliver": _redeliver}  # noqa: RUF012

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookDelivery]:
        return WebhookDelivery.objects.select_related("owner").defer("snapshot")

    def found(self, rows: QuerySet[Any], text: str) -> QuerySet[Any]:
        for pattern, column in ((DELIVERY_ID, "pk"), (WEBHOOK_ID, "endpoint_id"), (REQUEST_ID, "request_id")):
            if pattern.fullmatch(text):
                return rows.filter(**{column: text})
        return rows.none() if BATCH_ID.fullmatch(text) else _of_owner(rows, identifiers.user_name(text))

    @display(description="event")
    def event_name(self, row: WebhookDelivery) -> str:
        return row.event

    @display(description="state")
    def shown_state(self, row: WebhookDelivery) -> SafeString:
        looks: dict[str, str] = {DeliveryState.PENDING: "warning", DeliveryState.DELIVERED: "completed"}
        return badge(looks.get(row.state, "failed"), row.get_state_display())

    @display(description="owner")
    def owner_name(self, row: WebhookDelivery) -> str:
        return str(row.owner.get_username())

    @display(description="host")
    def target_host(self, row: WebhookDelivery) -> str:
        return row.host

    @display(description="result")
    def result(self, row: WebhookDelivery) -> str:
        return webhook_log.attempt_of(row.attempts[-1]).text if row.attempts else "not sent yet"

    def row_of(self, object_id: str) -> WebhookDelivery | None:
        rows = WebhookDelivery.objects.select_related("owner").defer("snapshot")
        key = key_in(object_id, DELIVERY_ID)
        return rows.filter(pk=key).first() if DELIVERY_ID.fullmatch(key) else None

    def page(self, request: HttpRequest, row: WebhookDelivery) -> dict[str, Any]:
        return {
            "title": "Webhook delivery",
            "subtitle": row.pk,
            "row": row,
            "state": self.shown_state(row),
            "facts": [
                ("Address", webhook_log.without_query(row.url)),
                ("Event occurred", _clock(row.occurred_at)),
                ("Sequence", str(row.sequence)),
                *([("Next attempt", _clock(row.next_attempt_at))] if row.next_attempt_at else []),
                *([("Given up", _clock(row.expires_at))] if row.next_attempt_at else []),
            ],
            "attempts": [webhook_log.attempt_of(entry) for entry in reversed(row.attempts)],
            "may_act": self.has_act_permission(request) and row.state != DeliveryState.PENDING,
            "log": history(row, request.user),
        }

    @admin.action(permissions=["act"], description="Send again")
    def redeliver_selected(self, request: HttpRequest, rows: QuerySet[WebhookDelivery]) -> None:
        """Send the selected deliveries again."""
        _redeliver(request, list(rows.values_list("pk", flat=True)[:_MOST]))


def _of_owner(rows: QuerySet[Any], name: str) -> QuerySet[Any]:
    # By id: for a join the planner may walk all newer rows of other owners.
    owner = User.objects.filter(username=name).values_list("pk", flat=True).first()
    return rows.none() if owner is None else rows.filter(owner_id=owner)


def _clock(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else ""


def _counted(count: int, word: str) -> str:
    plural = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"1 {word}" if count == 1 else f"{count} {plural}"
