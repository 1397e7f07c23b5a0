"""Batches, with how far each is."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from generation import selectors
from generation.admin import pictures
from generation.admin.reading import KeysetAdmin, history
from generation.identifiers import BATCH_ID
from generation.models import GenerationBatch, GenerationRequest
from generation.states import TERMINAL, Status


@admin.register(GenerationBatch)
class GenerationBatchAdmin(KeysetAdmin):
    list_display = ("id", "progress", "standing", "owner_name", "priority", "max_concurrent", "created_at")
    search_fields = ("id",)
    search_help_text = "Id, or the name of the owner"

    def get_queryset(self, request: HttpRequest) -> QuerySet[GenerationBatch]:
        return GenerationBatch.objects.select_related("owner")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        text = search_term.strip()
        if not text or "\0" in text:
            return queryset.none() if text else queryset, False
        if BATCH_ID.fullmatch(text):
            return queryset.filter(pk=text), False
        return queryset.filter(owner__username=text), False

    def complete(self, rows: list[Any]) -> None:
        """How many requests of each stand where, in one query."""
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

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        key = object_id if BATCH_ID.fullmatch(object_id) else unquote(object_id)
        batch = GenerationBatch.objects.select_related("owner").filter(pk=key).first() if _is_id(key) else None
        if batch is None:
            answer: HttpResponse = self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
            return answer
        if not self.has_view_permission(request, batch):
            raise PermissionDenied
        requests = selectors.batch_requests(batch)
        counts = Counter(one.status for one in requests)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Batch",
            "subtitle": batch.pk,
            "batch": batch,
            "bar": bar(_ended(counts), len(requests)),
            "standing": _standing(counts),
            "requests": [(one, pictures.small(one)) for one in requests],
            "list": reverse("admin:generation_generationrequest_changelist") + f"?batch={batch.pk}",
            "log": history(batch, request.user),
        }
        return TemplateResponse(request, "admin/generation/generationbatch/page.html", context)


def bar(done: int, total: int) -> SafeString:
    """How much of it is done."""
    percent = round(100 * done / total) if total else 100
    return format_html(
        '<span class="vg-bar"><progress max="100" value="{}"></progress><span>{} of {}</span></span>',
        percent,
        done,
        total,
    )


def _is_id(key: str) -> bool:
    return BATCH_ID.fullmatch(key) is not None


def _ended(counts: Counter[str]) -> int:
    return sum(counts[status] for status in TERMINAL)


def _standing(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[status]} {Status(status).label.lower()}" for status in Status if counts[status]) or "–"
