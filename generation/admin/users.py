"""Users with their usage, and limits for staff who may edit users."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangosGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangosUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Count, Model, OuterRef, Q, QuerySet, Subquery, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from generation import identifiers
from generation.admin import deactivation
from generation.admin.changelists import StrictAdmin
from generation.models import GenerationRequest, Spending
from generation.providers import budgets
from generation.states import ACTIVE
from generation.templatetags.formats import NONE, dollars

#: Fields that only a superuser may set, since they can grant every permission.
_BEYOND = ("is_superuser", "user_permissions")
_MONTH = timedelta(days=30)

for model in (User, Group):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


@admin.register(User)
class UserAdmin(DjangosUserAdmin, StrictAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_staff", "role", "waiting", "today", "month", "requests", "last_login")
    list_filter = ("is_staff", "is_active", "groups")
    show_full_result_count = False
    list_per_page = 50
    actions = ("deactivate_selected",)
    actions_detail = ("keys", "deactivate")
    delete_confirmation_template = "admin/auth/user/delete_confirmation.html"
    delete_selected_confirmation_template = "admin/auth/user/delete_selected_confirmation.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        spent = Spending.objects.filter(owner=OuterRef("pk")).order_by().values("owner").annotate(sum=Sum("cost"))
        active = GenerationRequest.objects.filter(owner=OuterRef("pk"), status__in=ACTIVE).order_by().values("owner")
        today = budgets.today()
        rows: QuerySet[User] = super().get_queryset(request)
        return rows.prefetch_related("groups").annotate(
            spent_today=Subquery(spent.filter(day=today).values("sum")),
            spent_month=Subquery(spent.filter(day__gt=today - _MONTH).values("sum")),
            active=Subquery(active.annotate(count=Count("pk")).values("count")),
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return super().get_search_results(request, queryset, identifiers.user_name(search_term))

    @display(description="role")
    def role(self, row: User) -> str:
        if row.is_superuser:
            return "superuser"
        return ", ".join(group.name for group in row.groups.all()) or NONE

    @display(description="active requests")
    def waiting(self, row: Any) -> int:
        return row.active or 0

    @display(description="spent today")
    def today(self, row: Any) -> str:
        return dollars(row.spent_today or 0)

    @display(description="spent, 30 days")
    def month(self, row: Any) -> str:
        return dollars(row.spent_month or 0)

    @display(description="requests")
    def requests(self, row: User) -> SafeString:
        address = reverse("admin:generation_generationrequest_changelist")
        query = urlencode({"owner": row.get_username()})
        return format_html('<a class="vg-link" href="{}?{}">Requests</a>', address, query)

    # --- Permissions to edit and to grant ---

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        fields = tuple(super().get_readonly_fields(request, obj))
        return fields if request.user.is_superuser else (*fields, *_BEYOND)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        # Changing a user's password gives access to all of the user's permissions.
        return not _has_more(obj, request) and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return not _has_more(obj, request) and bool(super().has_delete_permission(request, obj))

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field: Any = super().formfield_for_manytomany(db_field, request, **kwargs)
        if field is not None and db_field.name == "groups" and not request.user.is_superuser:
            beyond = [group.pk for group in field.queryset if _is_beyond(request, _held_in(group))]
            field.queryset = field.queryset.exclude(pk__in=beyond)
        return field

    # --- API keys ---

    def has_view_keys_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """For the action below. A permission named there would be looked up while the first migration still runs."""
        return bool(request.user.has_perm("generation.view_apikey"))

    @action(description="API keys", url_path="keys", permissions=["view_keys"])
    def keys(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Redirect to the list of the user's API keys."""
        user = get_object_or_404(User, pk=object_id)
        query = urlencode({"owner": user.get_username()})
        return redirect(f"{reverse('admin:generation_apikey_changelist')}?{query}")

    # --- Deactivating ---

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.deactivate_many)
        return [path("deactivate/", view, name="auth_user_deactivate_many"), *super().get_urls()]

    def deactivate_many(self, request: HttpRequest) -> HttpResponse:
        """The page that deactivates users and cancels their requests."""
        return deactivation.deactivate(self, request)

    @action(description="Deactivate, cancel requests", url_path="deactivate", permissions=["change"])
    def deactivate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Redirect to that page for one user."""
        return redirect(f"{reverse('admin:auth_user_deactivate_many')}?{urlencode({'ids': object_id})}")

    @admin.action(permissions=["change"], description="Deactivate, cancel requests")
    def deactivate_selected(self, request: HttpRequest, rows: QuerySet[User]) -> HttpResponse:
        """Redirect to that page for the selected users."""
        ids = list(rows.order_by("pk").values_list("pk", flat=True)[: deactivation.MOST + 1])
        return redirect(f"{reverse('admin:auth_user_deactivate_many')}?{urlencode({'ids': ids}, doseq=True)}")

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: Any) -> None:
        super().save_model(request, obj, form, change)
        if change and not obj.is_active and "is_active" in form.changed_data:
            deactivation.warn_of_queue(request, obj)


@admin.register(Group)
class GroupAdmin(DjangosGroupAdmin, StrictAdmin):
    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return not _has_more(obj, request) and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return not _has_more(obj, request) and bool(super().has_delete_permission(request, obj))

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **kwargs: Any) -> Any:
        field: Any = super().formfield_for_manytomany(db_field, request, **kwargs)
        if field is not None and db_field.name == "permissions" and not request.user.is_superuser:
            own = request.user.get_all_permissions()
            beyond = [one.pk for one in field.queryset if _name(one) not in own]
            field.queryset = field.queryset.exclude(pk__in=beyond)
        return field


def _has_more(obj: Model | None, request: HttpRequest) -> bool:
    """Return whether a user or group has permissions that the current user lacks."""
    if isinstance(obj, User):
        return _is_beyond(request, _held_by(obj), is_superuser=obj.is_superuser)
    return isinstance(obj, Group) and _is_beyond(request, _held_in(obj))


def _is_beyond(request: HttpRequest, held: set[str], *, is_superuser: bool = False) -> bool:
    """Return whether the current user lacks one of these permissions."""
    user = request.user
    return not user.is_superuser and (is_superuser or not held <= user.get_all_permissions())


def _held_by(user: User) -> set[str]:
    """Return the permissions of a user, active or not."""
    rows = Permission.objects.filter(Q(group__user=user) | Q(user=user)).select_related("content_type")
    return {_name(one) for one in rows}


def _held_in(group: Group) -> set[str]:
    return {_name(one) for one in group.permissions.select_related("content_type")}


def _name(permission: Permission) -> str:
    return f"{permission.content_type.app_label}.{permission.codename}"
