"""Users, with what they use; and what those who may edit users may not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangosGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangosUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Count, Model, OuterRef, QuerySet, Subquery, Sum
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from generation import budgets, names
from generation.figures import NONE, dollars
from generation.models import GenerationRequest, Spending
from generation.states import ACTIVE

#: What only a superuser gives, since whoever has it has everything.
_BEYOND = ("is_superuser", "user_permissions")
_MONTH = timedelta(days=30)

for model in (User, Group):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


@admin.register(User)
class UserAdmin(DjangosUserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_staff", "role", "waiting", "today", "month", "requests", "last_login")
    list_filter = ("is_staff", "is_active", "groups")
    show_full_result_count = False
    list_per_page = 50

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
        return super().get_search_results(request, queryset, names.user_name(search_term))

    @display(description="role")
    def role(self, row: User) -> str:
        if row.is_superuser:
            return "superuser"
        return ", ".join(group.name for group in row.groups.all()) or NONE

    @display(description="queued or running")
    def waiting(self, row: Any) -> int:
        return row.active or 0

    @display(description="spent today")
    def today(self, row: Any) -> str:
        return dollars(row.spent_today or 0)

    @display(description="spent in 30 days")
    def month(self, row: Any) -> str:
        return dollars(row.spent_month or 0)

    @display(description="requests")
    def requests(self, row: User) -> SafeString:
        address = reverse("admin:generation_generationrequest_changelist")
        query = urlencode({"owner": row.get_username()})
        return format_html('<a class="vg-link" href="{}?{}">Requests</a>', address, query)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        fields = tuple(super().get_readonly_fields(request, obj))
        return fields if request.user.is_superuser else (*fields, *_BEYOND)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        # Whoever could set a superuser's password would be one.
        beyond = isinstance(obj, User) and obj.is_superuser and not request.user.is_superuser
        return not beyond and bool(super().has_change_permission(request, obj))


@admin.register(Group)
class GroupAdmin(DjangosGroupAdmin, ModelAdmin):
    pass
