"""Attempts: the calls that were made, whoever made them."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import display

from generation.admin.reading import KeysetAdmin, between, dollars, seconds
from generation.identifiers import REQUEST_ID
from generation.models import GenerationAttempt
from generation.states import AttemptOutcome

_LOOKS: Final = {
    AttemptOutcome.RUNNING: "warning",
    AttemptOutcome.SUCCEEDED: "success",
    AttemptOutcome.FAILED: "danger",
    AttemptOutcome.ABANDONED: "default",
}


class ProviderFilter(DropdownFilter):
    """By provider."""

    title = "provider"
    parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in sorted({*settings.PROVIDERS, *settings.PROVIDER_OPTIONS})]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return queryset.filter(provider=value) if value else queryset


@admin.register(GenerationAttempt)
class GenerationAttemptAdmin(KeysetAdmin):
    list_display = ("of", "number", "badge", "provider", "model", "error_code", "took", "price", "worker", "started_at")
    list_display_links = None
    list_filter = (ProviderFilter,)
    search_fields = ("id",)
    search_help_text = "Request id, or the provider's own id of the call"

    def get_queryset(self, request: HttpRequest) -> QuerySet[GenerationAttempt]:
        return GenerationAttempt.objects.defer("usage", "prompt", "error_message")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        text = search_term.strip()
        if not text or "\0" in text:
            return queryset.none() if text else queryset, False
        if REQUEST_ID.fullmatch(text):
            return queryset.filter(request_id=text), False
        return queryset.filter(provider_request_id=text).exclude(provider_request_id=""), False

    @display(description="request")
    def of(self, row: GenerationAttempt) -> SafeString:
        address = reverse("admin:generation_generationrequest_change", args=[row.request_id])
        return format_html('<a class="vg-link" href="{}">{}</a>', address, row.request_id)

    @display(description="outcome", label=_LOOKS)
    def badge(self, row: GenerationAttempt) -> tuple[str, str]:
        return row.outcome, row.get_outcome_display()

    @display(description="took")
    def took(self, row: GenerationAttempt) -> str:
        return seconds(between(row.started_at, row.finished_at))

    @display(description="cost")
    def price(self, row: GenerationAttempt) -> str:
        return dollars(row.cost)
