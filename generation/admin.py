"""What staff can look at, and what they may set: limits, budgets, models and phrases. No status is edited here, since
the lifecycle alone changes those."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from generation import breakers
from generation.models import (
    Budget,
    GenerationAttempt,
    GenerationBatch,
    GenerationRequest,
    PromptStyle,
    ProviderModel,
    ProviderState,
    Spending,
    StatusChange,
    WorkerProcess,
)


class ReadOnly:
    """Rows that the system writes."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class StatusChangeInline(ReadOnly, admin.TabularInline):
    model = StatusChange
    fields = ("sequence", "from_status", "to_status", "reason", "error_code", "actor", "at")
    extra = 0


class AttemptInline(ReadOnly, admin.TabularInline):
    model = GenerationAttempt
    fields = ("claim", "number", "worker", "provider", "model", "outcome", "error_code", "started_at", "finished_at")
    extra = 0


@admin.register(GenerationRequest)
class GenerationRequestAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("id", "type", "status", "priority", "owner", "attempts", "created_at", "completed_at")
    list_filter = ("status", "type", "priority")
    list_select_related = ("owner",)
    search_fields = ("=id", "=project_id")
    show_full_result_count = False
    inlines = (AttemptInline, StatusChangeInline)


@admin.register(GenerationBatch)
class GenerationBatchAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("id", "owner", "priority", "max_concurrent", "created_at")


@admin.register(WorkerProcess)
class WorkerProcessAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("name", "slots", "started_at", "seen_at")


@admin.register(PromptStyle)
class PromptStyleAdmin(admin.ModelAdmin):
    list_display = ("scope", "name", "phrase")


@admin.register(ProviderModel)
class ProviderModelAdmin(admin.ModelAdmin):
    list_display = ("provider", "name", "enabled", "shutdown_date", "successor")


@admin.register(ProviderState)
class ProviderStateAdmin(admin.ModelAdmin):
    list_display = ("provider", "max_concurrent", "calls", "per_seconds", "failures", "reason", "open_until")
    readonly_fields = ("failures", "reason", "open_until")
    actions = ("call_again",)

    @admin.action(permissions=["change"], description="Call again what is left alone")
    def call_again(self, request: HttpRequest, rows: QuerySet[ProviderState]) -> None:
        closed = [row.provider for row in rows if breakers.close(row.provider)]
        self.message_user(request, f"Called again: {', '.join(closed) or 'none, since none was left alone'}")


@admin.register(Budget)
class BudgetAdmin(admin.ModelAdmin):
    list_display = ("owner", "per_day")
    list_select_related = ("owner",)
    raw_id_fields = ("owner",)


@admin.register(Spending)
class SpendingAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("day", "owner", "calls", "cost")
    list_select_related = ("owner",)
    date_hierarchy = "day"
