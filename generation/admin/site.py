"""The site: its policy for scripts, its sign-in, what every page shows, and its first page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.decorators import csp
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django_ratelimit.core import is_ratelimited
from unfold.sites import UnfoldAdminSite

from generation import pauses
from generation.addresses import client_address
from generation.admin import today

#: unfold's pages are driven by Alpine, which makes functions of the expressions in them, and colours are set in a
#: ``<style>``. No script stands in a page, so what somebody smuggles into one does not run.
POLICY: Final[dict[str, Any]] = {
    "default-src": [SELF],
    "script-src": [SELF, UNSAFE_EVAL],
    "style-src": [SELF, UNSAFE_INLINE],
    "img-src": [SELF, "data:", *([settings.CDN_BASE_URL] if getattr(settings, "CDN_BASE_URL", "") else [])],
    "object-src": [NONE],
    "base-uri": [NONE],
    "form-action": [SELF],
    "frame-ancestors": [NONE],
}
_View = Callable[..., HttpResponse]


class StaffSite(UnfoldAdminSite):
    """The admin."""

    index_title = "Today"
    index_template = "admin/today.html"
    enable_nav_sidebar = True

    def admin_view(self, view: _View, cacheable: bool = False) -> _View:
        return csp(POLICY)(super().admin_view(view, cacheable))  # type: ignore[no-any-return, arg-type, type-var]

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method == "POST" and _too_often(request):
            answer = HttpResponse("Too many attempts to sign in. Try again in a minute.", status=429)
            answer["Retry-After"] = "60"
            return answer
        return csp(POLICY)(super().login)(request, extra_context)  # type: ignore[no-any-return, arg-type, type-var]

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        paused = pauses.active() if self.has_permission(request) else []
        return {**super().each_context(request), "paused": paused}

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        found = today.context(request.user)  # type: ignore[arg-type]  # the site lets nobody else in
        answer: HttpResponse = super().index(request, {**found, **(extra_context or {})})
        return answer


def _too_often(request: HttpRequest) -> bool:
    """Whether the name or the address has tried to sign in more often than ``TOKEN_RATE`` allows."""
    keys = {"address": client_address(request), "username": request.POST.get("username", "").lower()[:150]}
    found = [
        is_ratelimited(
            request,
            group=f"admin-login:{name}",
            key=lambda *_, value=value: value,
            rate=settings.TOKEN_RATE,
            increment=True,
        )
        for name, value in keys.items()
    ]
    return any(found)
