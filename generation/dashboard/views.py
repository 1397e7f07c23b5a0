"""The pages. They are read-only: every change goes through the API."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from generation.caching import ttl_cache
from generation.dashboard import charts, options
from generation.dashboard.context import common, user_of
from generation.dashboard.forms import SignInForm
from generation.providers import circuit_breaker
from generation.reports import doctor, statistics, timeline, trends, webhook_log
from generation.reports.findings import Finding
from generation.requests import explanations, input_images, positions, representations, selectors, services
from generation.requests.input_images import StoredImage
from generation.requests.positions import QueuePosition
from generation.states import ADVICE, TERMINAL, ErrorCode, ImageRole, Priority, Status, WaitReason

#: Requests that a page lists as using its image.
_MOST_REFERRING: Final = 12


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
    """GET /: the Studio, to submit requests and follow them."""
    return render(request, "studio.html", common() | {"options": options.offered(), "advice": ADVICE})


@require_safe
@never_cache
@login_required
def request_page(request: HttpRequest, request_id: str) -> HttpResponse:
    """GET /requests/ID: one request with its image and timeline."""
    item = selectors.find_request(request_id, user=user_of(request))
    if item is None:
        return render(request, "missing.html", common(), status=404)
    user = user_of(request)
    representation = representations.status(item)
    is_own = item.owner_id == user.pk
    referring = selectors.referring_to(item, most=_MOST_REFERRING + 1)
    variations = selectors.variations_of(item)
    place = positions.of_request(item) if item.status == Status.QUEUED else None
    return render(
        request,
        "request.html",
        common()
        | {
            "item": item,
            "is_over": item.status in TERMINAL,
            "representation": representation,
            # The page may have another origin than the public one.
            "preview": (representation["previewUrl"] or "").removeprefix(settings.PUBLIC_BASE_URL),
            "generation_time": representations.generation_time(item),
            "place": place,
            "starts": explanations.wait(place.estimate) if place and place.estimate else "",
            "why": _why(place) if place else "",
            "problem": timeline.problem_of(item),
            "steps": timeline.steps(item),
            "owner": None if is_own else item.owner,
            "inputs": [_input(image, is_own=is_own) for image in input_images.of_request(item)],
            "awaited": input_images.waits_for(item) if item.status == Status.QUEUED else None,
            "referring": referring[:_MOST_REFERRING],
            "more_referring": len(referring) > _MOST_REFERRING,
            "may_decide": services.may_decide(user, item),
            "priorities": Priority.choices if place and services.may_reorder(user, item) else (),
            "variations": variations,
            "page": webhook_log.of_request(item, is_own=is_own),
            "sequences": {one.pk: one.sequence for one in variations} | {item.pk: item.sequence},
        },
    )


@require_safe
@never_cache
@login_required
def queue(request: HttpRequest) -> HttpResponse:
    """GET /queue: the state of the queue, the workers and the providers, for staff."""
    if not user_of(request).is_staff:
        return render(request, "forbidden.html", common(), status=403)
    hours = trends.by_hour()
    bars, bar_lines = charts.bars(hours)
    points, wait_lines = charts.line(hours)
    failures = trends.failures()
    most = max((count for _, count in failures), default=1)
    return render(
        request,
        "queue.html",
        common()
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


@require_safe
@never_cache
@login_required
def keys(request: HttpRequest) -> HttpResponse:
    """GET /keys: the user's API keys, which the page's script lists, makes, edits, rotates and revokes by the API."""
    return render(request, "keys.html", common() | {"options": options.of_keys()})


@require_safe
@never_cache
@login_required
def uploads(request: HttpRequest) -> HttpResponse:
    """GET /uploads: the user's uploads, which the page's script lists, adds and deletes by the API."""
    return render(request, "uploads.html", common() | {"days": settings.UPLOAD_RETENTION_DAYS})


@ttl_cache(seconds=10)
def _findings() -> list[Finding]:
    """Return the doctor's findings, cached for 10 s: each run checks every component, and many users may be viewing."""
    return doctor.findings()


def _providers() -> list[dict[str, Any]]:
    """Return the configured providers with their open circuit breakers and the reason."""
    suspended = {one.provider: one for one in circuit_breaker.open_breakers()}
    return [
        {"name": name, "suspension": found, "problem": timeline.problem(found.reason, "") if found else None}
        for name in settings.PROVIDERS
        for found in [suspended.get(name)]
    ]


def _why(place: QueuePosition) -> str:
    """Return why a request waits if it is neither its turn nor an image, which the page tells in its own words."""
    told = {WaitReason.QUEUE, WaitReason.REFERENCE}
    return explanations.first([why for why in place.reasons if why.reason not in told], datetime.now(UTC))


def _input(image: StoredImage, *, is_own: bool) -> dict[str, Any]:
    """Return an image that is sent with a request, for its page. An upload is shown to its owner only."""
    thumbnail = ""
    if image.source_id and image.key:
        thumbnail = reverse("generation:thumbnail", args=[image.source_id, ""])
    elif image.upload_id and is_own:
        thumbnail = reverse("generation:upload-image", args=[image.upload_id, ""])
    return {
        "role": ImageRole(image.role).label,
        "name": image.name,
        "source_id": image.source_id,
        "upload_id": image.upload_id,
        "subject": image.subject,
        "status": image.status,
        "status_label": Status(image.status).label if image.status else "",
        "thumbnail": thumbnail,
    }
