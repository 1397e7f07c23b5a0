"""API keys of all users, which staff see and revoke. Only their owners make and change them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter, TextFilter
from unfold.decorators import display

from generation import identifiers
from generation.access import api_keys, audit, roles
from generation.access.client_address import client_address
from generation.admin.base import ReadOnlyPage, badge, history
from generation.db.functions import Now
from generation.models import ApiKey
from generation.templatetags.formats import dollars

#: The most keys to revoke at once.
_MOST: Final = 200
_LIST: Final = "admin:generation_apikey_changelist"
_REVOKE: Final = "admin:generation_apikey_revoke"
#: States with the rows that are in them, and the look of their badges.
_STATES: Final[dict[str, tuple[Callable[[], Q], str]]] = {
    "active": (lambda: Q(revoked_at=None, owner__is_active=True) & ~Q(expires_at__lte=Now()), "completed"),
    "expired": (lambda: Q(revoked_at=None, expires_at__lte=Now()), "warning"),
    "revoked": (lambda: Q(revoked_at__isnull=False), "failed"),
    "owner deactivated": (lambda: Q(revoked_at=None, owner__is_active=False) & ~Q(expires_at__lte=Now()), "warning"),
}


class StateFilter(DropdownFilter):
    """Filter by whether the key works, and if not, why."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name.capitalize()) for name in _STATES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        condition, _ = _STATES.get(self.value() or "", (Q, ""))
        return queryset.filter(condition())


class OwnerFilter(TextFilter):
    """Filter by the name of the owner."""

    title = "owner"
    parameter_name = "owner"

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        name = identifiers.user_name(self.value() or "")
        return queryset.filter(owner__username=name) if name else queryset


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyPage):
    page_template = "admin/generation/apikey/page.html"
    list_display = ("name", "prefix", "owner_name", "state", "scopes_shown", "expires", "last_used", "created")
    list_filter = (StateFilter, OwnerFilter)
    list_filter_submit = True
    list_fullwidth = True
    list_per_page = 50
    list_select_related = ("owner",)
    sortable_by = ()
    show_full_result_count = False
    search_fields = ("name",)
    search_help_text = "Owner, prefix, or part of the name"
    actions = ("revoke_selected",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        return ApiKey.objects.defer("digest", "previous_digest")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        text = search_term.strip()
        if not text or "\0" in text:
            return super().get_search_results(request, queryset, search_term)
        key_id = text.removeprefix(api_keys.PREFIX).partition("_")[0]
        owner = identifiers.user_name(text)
        return queryset.filter(Q(name__icontains=text) | Q(pk=key_id) | Q(owner__username=owner)), False

    @display(description="prefix")
    def prefix(self, row: ApiKey) -> str:
        return row.prefix

    @display(description="owner")
    def owner_name(self, row: ApiKey) -> str:
        return str(row.owner.get_username())

    @display(description="state")
    def state(self, row: ApiKey) -> SafeString:
        name = _state(row)
        return badge(_STATES[name][1], name)

    @display(description="scopes")
    def scopes_shown(self, row: ApiKey) -> str:
        return ", ".join(row.scopes)

    @display(description="expires")
    def expires(self, row: ApiKey) -> str:
        return _expires(row)

    @display(description="created")
    def created(self, row: ApiKey) -> str:
        return _clock(row.created_at)

    @display(description="last used")
    def last_used(self, row: ApiKey) -> str:
        return _last_used(row)

    def row_of(self, object_id: str) -> ApiKey | None:
        rows = ApiKey.objects.select_related("owner").defer("digest", "previous_digest")
        return None if "\0" in object_id else rows.filter(pk=object_id).first()

    def page(self, request: HttpRequest, row: ApiKey) -> dict[str, Any]:
        return {
            "title": "API key",
            "subtitle": row.name,
            "key": row,
            "state": self.state(row),
            "facts": _facts(row),
            "limits": _limits(row),
            "may_revoke": row.revoked_at is None and self.has_revoke_permission(request),
            "log": history(row, request.user),
        }

    # --- Revoking ---

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may revoke keys, which is also the permission of the list's action."""
        return bool(request.user.has_perm(roles.REVOKE))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.revoke)
        return [path("revoke/", view, name="generation_apikey_revoke"), *super().get_urls()]

    @admin.action(permissions=["revoke"], description="Revoke")
    def revoke_selected(self, request: HttpRequest, rows: QuerySet[ApiKey]) -> HttpResponse:
        """Redirect to the page that asks for confirmation."""
        ids = list(rows.values_list("pk", flat=True)[: _MOST + 1])
        return redirect(f"{reverse(_REVOKE)}?{urlencode({'ids': ids}, doseq=True)}")

    def revoke(self, request: HttpRequest) -> HttpResponse:
        """GET: ask for confirmation. POST: revoke the keys."""
        if request.method not in {"GET", "POST"}:
            return HttpResponseNotAllowed(["GET", "POST"])
        given = request.POST if request.method == "POST" else request.GET
        ids = {one for one in given.getlist("ids")[: _MOST + 1] if "\0" not in one}
        user: Any = request.user
        address = client_address(request)
        if not (self.has_view_permission(request) and self.has_revoke_permission(request)):
            audit.refused(user, f"revoke the API keys {', '.join(sorted(ids)[:3])}".rstrip(), address=address)
            raise PermissionDenied
        keys = list(self.get_queryset(request).select_related("owner").filter(pk__in=ids)) if len(ids) <= _MOST else []
        if not keys:
            messages.error(request, f"Select between 1 and {_MOST} keys.")
            return redirect(_LIST)
        if request.method == "GET":
            return self._ask(request, keys)
        revoked = [key for key in keys if api_keys.revoke(key, by=user, address=address)]
        if revoked:
            messages.success(request, f"Revoked {_counted(len(revoked))}.")
        if already := len(keys) - len(revoked):
            messages.warning(request, f"Skipped {_counted(already)}, already revoked.")
        return redirect("admin:generation_apikey_change", keys[0].pk) if len(keys) == 1 else redirect(_LIST)

    def _ask(self, request: HttpRequest, keys: list[ApiKey]) -> HttpResponse:
        one = len(keys) == 1
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Revoke {keys[0]}" if one else f"Revoke {_counted(len(keys))}",
            "label": f"Revoke {_counted(len(keys))}",
            "rows": [(key, self.state(key), _last_used(key)) for key in keys],
            "back": reverse("admin:generation_apikey_change", args=[keys[0].pk]) if one else reverse(_LIST),
        }
        return TemplateResponse(request, "admin/generation/apikey/revoke.html", context)


def _state(row: ApiKey) -> str:
    """Return the name of the row's state in :data:`_STATES`."""
    if row.revoked_at is not None:
        return "revoked"
    if row.expires_at is not None and row.expires_at <= datetime.now(UTC):
        return "expired"
    return "active" if row.owner.is_active else "owner deactivated"


def _facts(row: ApiKey) -> list[tuple[str, str]]:
    previous = row.previous_until if row.revoked_at is None else None
    if previous and previous <= datetime.now(UTC):
        previous = None
    return [
        ("Prefix", row.prefix),
        ("Scopes", ", ".join(row.scopes)),
        ("Created", _clock(row.created_at)),
        ("Expires", _expires(row)),
        ("Last used", _last_used(row)),
        *([("Previous secret", f"works until {_clock(previous)}")] if previous else []),
        *([("Revoked", _clock(row.revoked_at))] if row.revoked_at else []),
    ]


def _limits(row: ApiKey) -> list[tuple[str, str]]:
    everything = "no limit"
    return [
        ("Daily budget", everything if row.daily_budget is None else dollars(row.daily_budget)),
        ("Rate of submits", row.rate or everything),
        ("Max. in progress", str(row.max_active or everything)),
        ("Highest priority", row.get_max_priority_display() or everything),
        ("Models", "all" if row.allowed_models is None else ", ".join(row.allowed_models)),
        ("Projects", "all" if row.allowed_projects is None else ", ".join(row.allowed_projects)),
    ]


def _last_used(row: ApiKey) -> str:
    """Return when the key was last used, to the minute, and from which address."""
    if row.last_used_at is None:
        return "never"
    return f"{row.last_used_at:%Y-%m-%d %H:%M} UTC" + (f" from {row.last_used_from}" if row.last_used_from else "")


def _expires(row: ApiKey) -> str:
    return _clock(row.expires_at) if row.expires_at else "never"


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _counted(count: int) -> str:
    return "1 key" if count == 1 else f"{count} keys"
