"""The pages that people look at. They show what is there; what changes anything is the API's."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, LogoutView
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from generation.caching import ttl_cache
from generation.dashboard import charts, options
from generation.dashboard.forms import SignInForm
from generation.providers import circuit_breaker
from generation.queue import estimates
from generation.reports import doctor, statistics, timeline, trends
from generation.requests import representations, selectors
from generation.states import ADVICE, TERMINAL, ErrorCode, Status


class SignIn(LoginView):
    """GET and POST /sign-in."""

    template_name = "sign_in.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def form_invalid(self, form: Any) -> HttpResponse:
        response = super().form_invalid(form)
        if form.exceeded:
            response.status_code = HTTPStatus.TOO_MANY_REQUESTS
            for name, value in form.exceeded.headers.items():
                response[name] = value
        return response


class SignOut(LogoutView):
    """POST /sign-out."""


@require_safe
@never_cache
@login_required
def studio(request: HttpRequest) -> HttpResponse:
    """GET /: submit requests, and see what becomes of them."""
    return render(request, "studio.html", _common() | {"options": options.offered(), "advice": ADVICE})


@require_safe
@never_cache
@login_required
def request_page(request: HttpRequest, request_id: str) -> HttpResponse:
    """GET /requests/ID: one request, its picture and its history."""
    found = selectors.find_request(request_id, user=_user(request))
    if found is None:
        return render(request, "missing.html", _common(), status=404)
    return render(
        request,
        "request.html",
        _common()
        | {
            "found": found,
            "is_over": found.status in TERMINAL,
            "shape": representations.status(found),
            "generation_time": representations.generation_time(found),
            "place": estimates.queue_position(found) if found.status == Status.QUEUED else None,
            "problem": timeline.problem_of(found),
            "steps": timeline.steps(found),
            "owner": found.owner if found.owner_id != _user(request).pk else None,
        },
    )


@require_safe
@never_cache
@login_required
def queue(request: HttpRequest) -> HttpResponse:
    """GET /queue: how the whole is doing, for the staff."""
    if not _user(request).is_staff:
        return render(request, "forbidden.html", _common(), status=403)
    hours = trends.by_hour()
    bars, bar_lines = charts.bars(hours)
    points, wait_lines = charts.line(hours)
    failures = trends.failures()
    most = max((count for _, count in failures), default=1)
    return render(
        request,
        "queue.html",
        _common()
        | {
            "status": statistics.queue_status(),
            "metrics": statistics.metrics(),
            "running": trends.running(),
            "processes": trends.live_processes(),
            "providers": _providers(),
            "findings": _findings(),
            "hours": hours,
            "bars": bars,
            "bar_lines": bar_lines,
            "points": points,
            "wait_lines": wait_lines,
            "names": charts.names(hours),
            "failures": [
                {"problem": timeline.problem(code or ErrorCode.INTERNAL, ""), "count": count, "most": most}
                for code, count in failures
            ],
        },
    )


@ttl_cache(seconds=10)
def _findings() -> list[doctor.Finding]:
    """What needs a person, as of at most 10 s ago: it asks every part, and many may look at the page."""
    return doctor.findings()


def _providers() -> list[dict[str, Any]]:
    """Each configured one, and whether it is left alone and why."""
    suspended = {one.provider: one for one in circuit_breaker.open_breakers()}
    return [
        {"name": name, "suspension": found, "problem": timeline.problem(found.reason, "") if found else None}
        for name in settings.PROVIDERS
        for found in [suspended.get(name)]
    ]


def _user(request: HttpRequest) -> User:
    if not isinstance(request.user, User):  # login_required has refused everybody else
        raise PermissionDenied
    return request.user


def _common() -> dict[str, Any]:
    """What the frame of every page has: where its WebSocket is, if not beside it."""
    return {
        "realtime_base": settings.REALTIME_BASE_URL,
        "realtime_port": settings.REALTIME_PORT if settings.REALTIME_HAS_ITS_PORT else "",
    }
