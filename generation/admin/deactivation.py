"""Deactivate users, and optionally cancel their active requests."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html

from generation.access import audit, roles
from generation.access.client_address import client_address
from generation.models import GenerationRequest
from generation.requests import bulk_actions, filters
from generation.states import ACTIVE, BulkActionName
from generation.templatetags.formats import requests

#: The most users to deactivate at once.
MOST: Final = 200
_LIST: Final = "admin:auth_user_changelist"


def waiting(users: list[User]) -> dict[int, int]:
    """Return the number of queued or running requests of each user."""
    rows = GenerationRequest.objects.filter(owner__in=users, status__in=ACTIVE).order_by()
    return dict(rows.values_list("owner").annotate(count=Count("pk")))


def warn_of_queue(request: HttpRequest, user: User) -> None:
    """Warn that a deactivated user's requests continue, with a link to cancel them."""
    if count := waiting([user]).get(user.pk):
        address = reverse("admin:auth_user_deactivate_many") + f"?ids={user.pk}"
        text = '{} by {} will continue. <a class="vg-link" href="{}">Cancel this user’s requests</a>'
        messages.warning(request, format_html(text, requests(count), user.get_username(), address))


def deactivate(admin: Any, request: HttpRequest) -> HttpResponse:
    """GET: show the users and their active requests. POST: deactivate them, and cancel the requests if chosen."""
    if request.method not in {"GET", "POST"}:
        return HttpResponseNotAllowed(["GET", "POST"])
    if not admin.has_change_permission(request):
        raise PermissionDenied
    given = request.POST if request.method == "POST" else request.GET
    ids = {int(one) for one in given.getlist("ids")[: MOST + 1] if one.isascii() and one.isdigit() and len(one) < 10}
    users = list(User.objects.filter(pk__in=ids).order_by("username"))
    if not users or len(ids) > MOST:
        messages.error(request, f"Select between 1 and {MOST} users.")
        return redirect(_LIST)
    for user in users:
        if user == request.user or not admin.has_change_permission(request, user):
            messages.error(request, f"You may not deactivate {user.get_username()}.")
            return redirect(_LIST)
    if request.method == "GET":
        return _ask(admin, request, users)
    return _do(admin, request, users)


def _ask(admin: Any, request: HttpRequest, users: list[User]) -> HttpResponse:
    counts = waiting(users)
    all_inactive = not any(user.is_active for user in users)
    named = users[0].get_username() if len(users) == 1 else f"{len(users)} users"
    context = {
        **admin.admin_site.each_context(request),
        "opts": admin.opts,
        "title": f"Cancel the requests of {named}" if all_inactive else f"Deactivate {named}",
        "rows": [(user, f"{requests(counts.get(user.pk, 0))} queued or in progress") for user in users],
        "waiting": sum(counts.values()),
        "may_cancel": request.user.has_perm(roles.PERMISSIONS[BulkActionName.CANCEL]),
        "all_inactive": all_inactive,
        "preselect": all_inactive,
        "back": reverse("admin:auth_user_change", args=[users[0].pk]) if len(users) == 1 else reverse(_LIST),
    }
    return TemplateResponse(request, "admin/auth/user/deactivate.html", context)


def _do(admin: Any, request: HttpRequest, users: list[User]) -> HttpResponse:
    by: Any = request.user
    address = client_address(request)
    deactivated = [user for user in users if user.is_active]
    User.objects.filter(pk__in=[user.pk for user in deactivated]).update(is_active=False)
    for user in deactivated:
        audit.record(by, user, "Deactivated", address=address)
    if deactivated:
        messages.success(request, f"Deactivated {', '.join(user.get_username() for user in deactivated)}.")
    if request.POST.get("cancel") != "1":
        for user in users:
            warn_of_queue(request, user)
        return redirect(_LIST)
    begun = [
        started
        for user in users
        if (
            started := bulk_actions.start(
                user=by,
                action=BulkActionName.CANCEL,
                conditions={"owner": user.get_username(), "status": filters.ACTIVE_STATUS},
                address=address,
            )
        )
    ]
    if not begun:
        messages.info(request, "There were no requests to cancel.")
        return redirect(_LIST)
    if len(begun) == 1:
        return redirect("admin:generation_bulkaction_change", begun[0].pk)
    messages.success(request, f"Cancelling the requests of {len(begun)} users.")
    return redirect("admin:generation_bulkaction_changelist")
