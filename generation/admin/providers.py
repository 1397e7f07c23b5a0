"""Settings of staff: provider limits, models, prompt styles and budgets; and the lists of spending and processes."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Final

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import JSONField, QuerySet
from django.forms.fields import InvalidJSONInput
from django.http import HttpRequest
from unfold.decorators import display
from unfold.widgets import UnfoldAdminExpandableTextareaWidget

from generation.access import audit
from generation.access.client_address import client_address
from generation.admin.base import ReadOnly
from generation.admin.changelists import StrictAdmin
from generation.models import Budget, PromptStyle, ProviderModel, ProviderState, Spending, WorkerProcess
from generation.providers import circuit_breaker
from generation.queue import pauses, processes

_ABOUT_MODELS: Final = {
    "preference": "Among the models that support a request, the one with the lowest number is used first.",
    "capabilities": "Supported options of a request, or one value of an option, such as outputFormat:png.",
    "sizes": "Width and height in pixels by aspect ratio, or a rule under “any”.",
    "larger_sizes": "The same for each resolution above 1K, such as 2K and 4K.",
    "price_rule": "Price of an image, in US dollars.",
    "max_prompt": "Characters of the prompt that is sent, with all phrases.",
    "shutdown_date": "From this day on, the successor is used instead.",
    "successor": "Used instead when this model is disabled or shut down.",
}


class _JSONFormField(forms.JSONField):
    """Django's field, which reports too deep JSON and too long numbers as form errors instead of failing."""

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except (RecursionError, ValueError) as error:
            raise ValidationError(self.error_messages["invalid"], code="invalid", params={"value": ""}) from error

    def bound_data(self, data: Any, initial: Any) -> Any:
        try:
            value = super().bound_data(data, initial)
            json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate cannot be encoded
        except (RecursionError, ValueError):
            return InvalidJSONInput(data)
        return value

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(super().has_changed(initial, data))
        except (RecursionError, ValueError):
            return True


@admin.register(PromptStyle)
class PromptStyleAdmin(StrictAdmin):
    list_display = ("scope", "name", "phrase")
    list_filter = ("scope",)
    search_fields = ("name", "phrase")


@admin.register(ProviderModel)
class ProviderModelAdmin(StrictAdmin):
    list_display = ("name", "provider", "enabled", "preference", "shutdown_date", "successor")
    list_filter = ("provider", "enabled")
    list_select_related = ("successor",)
    search_fields = ("name", "provider")
    # Grows with its text.
    formfield_overrides: ClassVar = {
        JSONField: {"widget": UnfoldAdminExpandableTextareaWidget, "form_class": _JSONFormField}
    }

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **more: Any) -> Any:
        return super().get_form(request, obj, change, help_texts=_ABOUT_MODELS, **more)


@admin.register(ProviderState)
class ProviderStateAdmin(StrictAdmin):
    list_display = ("provider", "state", "max_concurrent", "calls", "per_seconds", "failures", "reason", "open_until")
    readonly_fields = ("failures", "reason", "open_until")
    actions = ("call_again",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        fields = tuple(super().get_readonly_fields(request, obj))
        return (*fields, "provider") if obj else fields  # the primary key: changing it would insert another row

    @display(description="state", label={"active": "success", "circuit open": "danger", "paused": "warning"})
    def state(self, row: ProviderState) -> str:
        if ("provider", row.provider) in pauses.recent():
            return "paused"
        is_open = row.provider in {one.provider for one in circuit_breaker.open_breakers()}
        return "circuit open" if is_open else "active"

    @admin.action(permissions=["change"], description="Close the circuit breaker")
    def call_again(self, request: HttpRequest, rows: QuerySet[ProviderState]) -> None:
        closed = [row for row in rows if circuit_breaker.close(row.provider)]
        user: Any = request.user
        for row in closed:
            audit.record(user, row, "Closed the circuit breaker", address=client_address(request))
        names = ", ".join(row.provider for row in closed)
        text = f"Closed the circuit breaker of {names}." if closed else "No circuit breaker was open."
        self.message_user(request, text)


@admin.register(Budget)
class BudgetAdmin(StrictAdmin):
    list_display = ("owner", "per_day")
    list_select_related = ("owner",)
    raw_id_fields = ("owner",)


@admin.register(Spending)
class SpendingAdmin(ReadOnly, StrictAdmin):
    list_display = ("day", "owner", "calls", "cost")
    list_select_related = ("owner",)
    search_fields = ("=owner__username",)


@admin.register(WorkerProcess)
class WorkerProcessAdmin(ReadOnly, StrictAdmin):
    list_display = ("name", "kind", "state", "slots", "started_at", "seen_at")

    @display(description="state", label={"up": "success", "silent": "danger"})
    def state(self, row: WorkerProcess) -> str:
        return "up" if processes.live_processes(row.kind).filter(pk=row.pk).exists() else "silent"
