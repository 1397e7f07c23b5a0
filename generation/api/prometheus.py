"""GET /metrics, for Prometheus."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from generation import exposition


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """GET /metrics: what the processes of this server counted, and what holds for the whole."""
    found = exposition.answer(request.headers.get("Authorization", ""), tables=True)
    return HttpResponse(found.body, status=found.status, headers=found.headers)
