"""The list of requests and the page of one request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.db.models.functions import Substr
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from generation.access import audit, roles
from generation.access.client_address import client_address
from generation.admin import actions, attempts, export, images, request_detail
from generation.admin.base import KeysetChangeList, KeysetPageAdmin, badge, between, key_in
from generation.admin.changelists import OddAddressError, refuse, refuse_unknown
from generation.admin.date_hierarchy import Calendar
from generation.admin.list_filters import OF_REQUESTS
from generation.identifiers import REQUEST_ID
from generation.models import GenerationRequest
from generation.requests import filters, selectors
from generation.states import BulkActionName, Status
from generation.templatetags.formats import NONE, dollars, duration

_EXCERPT: Final = 90
#: The columns of a row. The list does not load the prompt, which can be long, nor the JSON documents.
_LISTED: Final = (
    *("id", "type", "status", "priority", "project_id", "attempts", "max_attempts"),
    *("created_at", "started_at", "completed_at", "owner__username", "approval"),
)


class RequestChangeList(KeysetChangeList):
    """The list with its date drill-down."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.calendar = Calendar.of(request.GET.get("on", ""), self)


@admin.register(GenerationRequest)
class GenerationRequestAdmin(KeysetPageAdmin):
    list_display = (
        *("image", "what", "status_badge", "priority", "owner_name", "project", "waited", "took", "tries", "cost"),
        "provider",
    )
    list_display_links = ("what",)
    list_filter = OF_REQUESTS
    change_list_template = "admin/generation/generationrequest/change_list.html"
    page_template = "admin/generation/generationrequest/page.html"
    search_fields = ("id",)
    search_help_text = "ID, project, or words of the prompt"
    actions = tuple(f"act_{name}" for name in BulkActionName.values)

    # --- The list ---

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return RequestChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[GenerationRequest]:
        rows = GenerationRequest.objects.select_related("owner").only(*_LISTED)
        return rows.annotate(excerpt=Substr("prompt", 1, _EXCERPT))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return filters.matching(queryset, {filters.SEARCH: search_term}), False

    def complete(self, rows: list[Any]) -> None:
        """Add the providers and costs of the requests."""
        costs, providers = attempts.costs_and_providers([row.pk for row in rows])
        for row in rows:
            row.spent, row.asked = costs.get(row.pk), providers.get(row.pk, "")

    @display(description="")
    def image(self, row: GenerationRequest) -> SafeString:
        return images.small(row)

    @display(description="request")
    def what(self, row: Any) -> SafeString:
        more = "…" if len(row.excerpt) == _EXCERPT else ""
        return format_html(
            '<span class="vg-summary"><span>{}{}</span><small>{}</small><small class="vg-id">{}</small></span>',
            row.excerpt,
            more,
            row.get_type_display(),
            row.pk,
        )

    @display(description="status")
    def status_badge(self, row: GenerationRequest) -> SafeString:
        shown = badge(row.status, row.get_status_display())
        if not row.approval:
            return shown
        return format_html("{} {}", shown, badge(row.approval, row.get_approval_display()))

    @display(description="owner")
    def owner_name(self, row: GenerationRequest) -> str:
        return row.owner.get_username()

    @display(description="project")
    def project(self, row: GenerationRequest) -> str:
        return (row.project_id if len(row.project_id) <= 24 else f"{row.project_id[:23]}…") or NONE

    @display(description="wait")
    def waited(self, row: GenerationRequest) -> str:
        end = row.started_at or row.completed_at or datetime.now(UTC)
        return duration(between(row.created_at, end))

    @display(description="duration")
    def took(self, row: GenerationRequest) -> str:
        end = row.completed_at or (datetime.now(UTC) if row.status == Status.IN_PROGRESS else None)
        return duration(between(row.started_at, end))

    @display(description="attempts")
    def tries(self, row: GenerationRequest) -> str:
        return f"{row.attempts} of {row.max_attempts}"

    @display(description="cost")
    def cost(self, row: Any) -> str:
        return dollars(row.spent)

    @display(description="provider")
    def provider(self, row: Any) -> str:
        return row.asked or NONE

    # --- The page ---

    def row_of(self, object_id: str) -> GenerationRequest | None:
        return selectors.any_request(key_in(object_id, REQUEST_ID))

    def page(self, request: HttpRequest, row: GenerationRequest) -> dict[str, Any]:
        return request_detail.context(request, row)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        # The base class also accepts the change permission, which no role has.
        return bool(request.user.has_perm("generation.view_generationrequest"))

    # --- Actions and export ---

    def get_urls(self) -> list[URLPattern]:
        views = [
            path("act/", self.admin_site.admin_view(self.act), name="generation_generationrequest_act"),
            path("export/", self.admin_site.admin_view(self.export), name="generation_generationrequest_export"),
        ]
        return [*views, *super().get_urls()]

    def act(self, request: HttpRequest) -> HttpResponse:
        return actions.act(self, request)

    def export(self, request: HttpRequest) -> HttpResponseBase:
        if not self.has_view_permission(request):
            raise PermissionDenied
        address = reverse("admin:generation_generationrequest_changelist")
        try:
            refuse_unknown(request.GET, filters.CONDITIONS)
        except OddAddressError as error:
            return refuse(request, error, address)
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET"])
        try:
            return export.answer(request)
        except export.BusyError as busy:
            messages.warning(request, str(busy))
            return redirect(f"{address}?{request.GET.urlencode()}")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        permission = roles.PERMISSIONS.get(request.POST.get("action", "").removeprefix("act_"))
        if permission and not request.user.has_perm(permission):
            # Django silently ignores an action that is not offered to this user.
            audit.refused(request.user, request.POST["action"], address=client_address(request))  # type: ignore[arg-type]
            raise PermissionDenied
        answer: HttpResponse = super().changelist_view(request, extra_context)
        return answer

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return {
            f"act_{name}": (actions.from_list(name), f"act_{name}", BulkActionName(name).label)
            for name, permission in roles.PERMISSIONS.items()
            if request.user.has_perm(permission)
        }
