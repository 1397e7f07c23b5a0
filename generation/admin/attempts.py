"""The list of attempts, that is of claims and their provider calls."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from generation.admin.base import KeysetAdmin, badge, between
from generation.admin.list_filters import OneOfTheProviders
from generation.identifiers import REQUEST_ID
from generation.models import GenerationAttempt
from generation.templatetags.formats import NONE, charges, duration


def costs_and_providers(request_ids: Collection[str]) -> tuple[dict[str, Decimal], dict[str, str]]:
    """Return the known cost of all attempts and the last provider called, by request, in one query."""
    costs: dict[str, Decimal] = {}
    providers: dict[str, str] = {}
    found = GenerationAttempt.objects.filter(request_id__in=request_ids).order_by("claim")
    for request_id, provider, cost in found.values_list("request_id", "provider", "cost"):
        if provider:
            providers[request_id] = provider
        if cost is not None:
            costs[request_id] = costs.get(request_id, Decimal(0)) + cost
    return costs, providers


class ProviderFilter(OneOfTheProviders):
    """Filter by the attempt's provider."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return queryset.filter(provider=value) if value else queryset


@admin.register(GenerationAttempt)
class GenerationAttemptAdmin(KeysetAdmin):
    list_display = (
        *("of", "number", "outcome_badge", "provider", "model", "error", "took", "price", "worker"),
        "started_at",
    )
    list_display_links = None
    list_filter = (ProviderFilter,)
    search_fields = ("id",)
    search_help_text = "Request ID, or the provider's request ID"

    def get_queryset(self, request: HttpRequest) -> QuerySet[GenerationAttempt]:
        return GenerationAttempt.objects.defer("usage", "prompt", "error_message")

    def found(self, rows: QuerySet[Any], text: str) -> QuerySet[Any]:
        if REQUEST_ID.fullmatch(text):
            return rows.filter(request_id=text)
        return rows.filter(provider_request_id=text).exclude(provider_request_id="")

    @display(description="request")
    def of(self, row: GenerationAttempt) -> SafeString:
        address = reverse("admin:generation_generationrequest_change", args=[row.request_id])
        return format_html('<a class="vg-link" href="{}">{}</a>', address, row.request_id)

    @display(description="outcome")
    def outcome_badge(self, row: GenerationAttempt) -> SafeString:
        return badge(row.outcome, row.get_outcome_display())

    @display(description="error")
    def error(self, row: GenerationAttempt) -> str:
        return row.error_code or NONE

    @display(description="duration")
    def took(self, row: GenerationAttempt) -> str:
        return duration(between(row.started_at, row.finished_at))

    @display(description="cost")
    def price(self, row: GenerationAttempt) -> str:
        return charges([(row.cost, row.booked_cost)])
