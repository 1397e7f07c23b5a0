"""The page that shows, sets and ends pauses."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from generation.access import audit, roles
from generation.access.client_address import client_address
from generation.admin.base import ReadOnly
from generation.admin.changelists import StrictAdmin
from generation.models import Pause
from generation.queue import pauses
from generation.requests import services
from generation.states import GenerationType, PauseScope, Priority

_LONGEST_REASON = 200
_LABELS: dict[str, str] = {**dict(Priority.choices), **dict(GenerationType.choices)}


@admin.register(Pause)
class PauseAdmin(ReadOnly, StrictAdmin):
    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(self.has_view_permission(request))

    def get_urls(self) -> list[URLPattern]:
        views = [
            path("pause/", self.admin_site.admin_view(self.pause), name="generation_pause_pause"),
            path("resume/", self.admin_site.admin_view(self.resume), name="generation_pause_resume"),
        ]
        return [*views, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        paused = {(pause.scope, pause.value): pause for pause in pauses.active()}
        groups = [
            (
                scope.label,
                [
                    {
                        "scope": scope.value,
                        "value": value,
                        "label": _LABELS.get(value, value) or "Everything",
                        "pause": paused.get((scope.value, value)),
                    }
                    for value in pauses.choices(scope)
                ],
            )
            for scope in PauseScope
        ]
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Pauses",
            "groups": groups,
            "may_pause": request.user.has_perm(roles.PAUSE),
            "may_resume": request.user.has_perm(roles.RESUME),
            "log": audit.of_kind(Pause) if request.user.has_perm("admin.view_logentry") else [],
        }
        return TemplateResponse(request, "admin/generation/pause/page.html", context)

    def change_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return redirect("admin:generation_pause_changelist")

    def pause(self, request: HttpRequest) -> HttpResponse:
        """POST: pause a scope."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        scope, value = request.POST.get("scope", ""), request.POST.get("value", "")
        reason = request.POST.get("reason", "").replace("\0", "").strip()[:_LONGEST_REASON]
        try:
            made = services.pause(
                user=request.user,  # type: ignore[arg-type]  # the site requires a signed-in user
                scope=scope,
                value=value,
                reason=reason,
                address=client_address(request),
            )
        except ValueError:
            messages.error(request, "This cannot be paused.")
        else:
            if made:
                messages.success(request, f"Paused {made}. Running requests continue.")
            else:
                messages.warning(request, "Already paused.")
        return redirect("admin:generation_pause_changelist")

    def resume(self, request: HttpRequest) -> HttpResponse:
        """POST: resume a scope."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        scope, value = request.POST.get("scope", ""), request.POST.get("value", "")
        found = None if "\0" in scope + value else Pause.objects.filter(scope=scope, value=value).first()
        where = client_address(request)
        # Checked even if nothing is paused, so that the answer does not reveal pauses to users without the permission.
        wanted = found or Pause(scope=scope, value=value)
        user: Any = request.user
        if services.resume(user=user, paused=wanted, address=where):
            messages.success(request, f"Resumed {wanted}.")
        else:
            messages.warning(request, "Already resumed.")
        return redirect("admin:generation_pause_changelist")
