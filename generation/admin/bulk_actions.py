"""Bulk actions: progress, refusals with reasons, and a stop button."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from unfold.decorators import display

from generation.access import roles
from generation.access.client_address import client_address
from generation.admin.base import KeysetPageAdmin, badge, history
from generation.models import BulkAction
from generation.requests import bulk_actions, filters
from generation.templatetags.formats import NONE

_STATE_LOOKS: Final = {"running": "running", "done": "completed", "stopped early": "failed"}
#: Digits of the largest bigint key.
_LONGEST_KEY: Final = 19


@admin.register(BulkAction)
class BulkActionAdmin(KeysetPageAdmin):
    page_template = "admin/generation/bulkaction/page.html"
    list_display = ("__str__", "matching", "state", "seen", "done", "skipped", "who", "created_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[BulkAction]:
        return BulkAction.objects.select_related("requested_by")

    @display(description="filter")
    def matching(self, row: BulkAction) -> str:
        return filters.in_words(row.conditions)

    @display(description="state")
    def state(self, row: BulkAction) -> SafeString:
        return badge(_STATE_LOOKS[_state(row)], _state(row))

    @display(description="skipped")
    def skipped(self, row: BulkAction) -> int:
        return row.refused

    @display(description="user")
    def who(self, row: BulkAction) -> str:
        return row.requested_by.get_username() if row.requested_by else NONE

    def get_urls(self) -> list[URLPattern]:
        stop = path("<int:bulk_id>/stop/", self.admin_site.admin_view(self.stop), name="generation_bulkaction_stop")
        return [stop, *super().get_urls()]

    def row_of(self, object_id: str) -> BulkAction | None:
        rows = BulkAction.objects.select_related("requested_by")
        is_key = object_id.isascii() and object_id.isdigit() and len(object_id) < _LONGEST_KEY
        return rows.filter(pk=int(object_id)).first() if is_key else None

    def page(self, request: HttpRequest, row: BulkAction) -> dict[str, Any]:
        return {
            "title": "Bulk action",
            "subtitle": str(row),
            "row": row,
            "state": _state(row),
            "percent": bulk_actions.progress(row),
            "matching": filters.in_words(row.conditions),
            "list": reverse("admin:generation_generationrequest_changelist") + "?" + urlencode(row.conditions),
            "refusals": [(reason, count, row.refused_ids.get(reason, [])) for reason, count in row.refusals.items()],
            "may_stop": row.finished_at is None and request.user.has_perm(roles.PERMISSIONS[row.action]),
            "log": history(row, request.user),
        }

    def stop(self, request: HttpRequest, bulk_id: int) -> HttpResponse:
        """POST: stop the bulk action."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        row = get_object_or_404(BulkAction, pk=bulk_id)
        if bulk_actions.stop(user=request.user, bulk=row, address=client_address(request)):  # type: ignore[arg-type]
            messages.success(request, "Stopped. Requests that were already changed stay changed.")
        else:
            messages.warning(request, "The bulk action had already finished.")
        return redirect("admin:generation_bulkaction_change", row.pk)


def _state(row: BulkAction) -> str:
    if row.finished_at is None:
        return "running"
    return "stopped early" if row.error else "done"
