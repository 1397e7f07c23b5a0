"""What staff set: providers' limits, models, phrases and budgets; and what is spent and which processes are up."""

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
    "preference": "Of several models that can do what is wished, the one with the lowest number is tried first.",
    "capabilities": "The options of a request that it honours, or one value of an option, such as outputFormat:png.",
    "sizes": "Pixels for each aspect ratio, or under “any” the rule by which they are found.",
    "price_rule": "What a picture costs, in US dollars.",
    "shutdown_date": "From this day on, its successor stands in for it.",
    "successor": "Stands in for it where it is not enabled or was shut down.",
}


class _JSONFormField(forms.JSONField):
    """Django's, for which JSON of any depth and numbers of any length are a mistake of the form."""

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except (RecursionError, ValueError) as error:
            raise ValidationError(self.error_messages["invalid"], code="invalid", params={"value": ""}) from error

    def bound_data(self, data: Any, initial: Any) -> Any:
        try:
            value = super().bound_data(data, initial)
            json.dumps(value, ensure_ascii=False).encode()  # half a character cannot be shown
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
    # As high as what is written in it.
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
        return (*fields, "provider") if obj else fields  # its key: another name would make another row

    @display(description="state", label={"called": "success", "left alone": "danger", "paused": "warning"})
    def state(self, row: ProviderState) -> str:
        if ("provider", row.provider) in pauses.recent():
            return "paused"
        return "left alone" if row.provider in {one.provider for one in circuit_breaker.open_breakers()} else "called"

    @admin.action(permissions=["change"], description="Call again what is left alone")
    def call_again(self, request: HttpRequest, rows: QuerySet[ProviderState]) -> None:
        closed = [row for row in rows if circuit_breaker.close(row.provider)]
        user: Any = request.user
        for row in closed:
            audit.record(user, row, "Called again", address=client_address(request))
        names = ", ".join(row.provider for row in closed)
        self.message_user(request, f"Called again: {names or 'none, since none was left alone'}")


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
