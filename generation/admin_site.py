"""The admin site: its Content Security Policy, its sign-in, and the context of every page.

It is not part of :mod:`generation.admin`, because that package registers its pages while the site is being built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.decorators import csp
from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.forms import AuthenticationForm
from unfold.sites import UnfoldAdminSite

from generation.access.authentication import BoundedPasswordForm
from generation.access.rate_limits import RateExceeded, limit_sign_in
from generation.queue import pauses

_CDN: Final[str] = getattr(settings, "CDN_BASE_URL", "")
#: Alpine, which unfold uses, compiles expressions (``unsafe-eval``), and unfold sets colors in a ``<style>``. Inline
#: scripts are not allowed, so an injected script does not run.
POLICY: Final[dict[str, Any]] = {
    "default-src": [SELF],
    "script-src": [SELF, UNSAFE_EVAL],
    "style-src": [SELF, UNSAFE_INLINE],
    "img-src": [SELF, "data:", *([_CDN] if _CDN else [])],
    "object-src": [NONE],
    "base-uri": [NONE],
    "form-action": [SELF],
    "frame-ancestors": [NONE],
}
_View = Callable[..., Any]
_with_policy: Final[Callable[[_View], _View]] = csp(POLICY)


class StaffSignInForm(BoundedPasswordForm, AuthenticationForm):
    """unfold's form with the bounds of the other sign-in forms."""


class StaffSite(UnfoldAdminSite):
    """The admin."""

    login_form = StaffSignInForm
    index_title = "Dashboard"
    index_template = "admin/dashboard.html"
    enable_nav_sidebar = True

    def get_urls(self) -> list[Any]:
        # No page uses view_on_site, and its redirect fails with a server error for malformed keys.
        return [url for url in super().get_urls() if getattr(url, "name", "") != "view_on_site"]

    def admin_view(self, view: _View, cacheable: bool = False) -> _View:
        return _with_policy(super().admin_view(view, cacheable))

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method == "POST":
            try:
                limit_sign_in(request, request.POST.get("username", "")[:150])
            except RateExceeded as refused:
                text = "Too many sign-in attempts. Try again in a minute."
                return HttpResponse(text, status=429, headers=refused.headers)
        if REDIRECT_FIELD_NAME not in request.GET:  # unfold's form does not send the next address
            given: Any = request.GET.copy()
            given[REDIRECT_FIELD_NAME] = reverse("admin:index")
            request.GET = given
        answer: HttpResponse = _with_policy(super().login)(request, extra_context)
        return answer

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        paused = pauses.active() if self.has_permission(request) else []
        return {**super().each_context(request), "paused": paused}
