"""The pages that people look at."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """GET /: what this is and how to make the first picture."""
    return render(request, "home.html", {"base_url": settings.PUBLIC_BASE_URL})
