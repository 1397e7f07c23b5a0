"""Batches and their progress."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.contrib import admin
from django.db.models import Count, Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from generation.admin import images
from generation.admin.base import KeysetPageAdmin, history, key_in
from generation.identifiers import BATCH_ID
from generation.models import GenerationBatch, GenerationRequest
from generation.requests import selectors
from generation.states import TERMINAL, Status
from generation.templatetags.formats import NONE


@admin.register(GenerationBatch)
class GenerationBatchAdmin(KeysetPageAdmin):
    page_template = "admin/generation/generationbatch/page.html"
    list_display = ("id", "progress", "standing", "owner_name", "priority", "max_concurrent", "created_at")
    search_fields = ("id",)
    search_help_text = "Batch ID or owner"

    def get_queryset(self, request: HttpRequest) -> QuerySet[GenerationBatch]:
        return GenerationBatch.objects.select_related("owner")

    def found(self, rows: QuerySet[Any], text: str) -> QuerySet[Any]:
        return rows.filter(pk=text) if BATCH_ID.fullmatch(text) else rows.filter(owner__username=text)

    def complete(self, rows: list[Any]) -> None:
        """Count the requests of each batch by status, in one query."""
        found = GenerationRequest.objects.filter(batch_id__in=[row.pk for row in rows]).order_by()
        counts: dict[str, Counter[str]] = {}
        for batch_id, status, count in found.values_list("batch_id", "status").annotate(count=Count("pk")):
            counts.setdefault(batch_id, Counter())[status] = count
        for row in rows:
            row.counts = counts.get(row.pk, Counter())

    @display(description="progress")
    def progress(self, row: Any) -> SafeString:
        return bar(_ended(row.counts), sum(row.counts.values()))

    @display(description="requests")
    def standing(self, row: Any) -> str:
        return _standing(row.counts)

    @display(description="owner")
    def owner_name(self, row: GenerationBatch) -> str:
        return row.owner.get_username()

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.has_perm("generation.view_generationbatch"))

    def row_of(self, object_id: str) -> GenerationBatch | None:
        key = key_in(object_id, BATCH_ID)
        rows = GenerationBatch.objects.select_related("owner")
        return rows.filter(pk=key).first() if BATCH_ID.fullmatch(key) else None

    def page(self, request: HttpRequest, row: GenerationBatch) -> dict[str, Any]:
        requests = selectors.batch_requests(row)
        counts = Counter(one.status for one in requests)
        return {
            "title": "Batch",
            "subtitle": row.pk,
            "batch": row,
            "bar": bar(_ended(counts), len(requests)),
            "standing": _standing(counts),
            "requests": [(one, images.small(one)) for one in requests],
            "list": reverse("admin:generation_generationrequest_changelist") + f"?batch={row.pk}",
            "log": history(row, request.user),
        }


def bar(done: int, total: int) -> SafeString:
    """Render a progress bar."""
    percent = round(100 * done / total) if total else 100
    return format_html(
        '<span class="vg-bar"><progress max="100" value="{}"></progress><span>{} of {}</span></span>',
        percent,
        done,
        total,
    )


def _ended(counts: Counter[str]) -> int:
    return sum(counts[status] for status in TERMINAL)


def _standing(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[status]} {Status(status).label.lower()}" for status in Status if counts[status]) or NONE
