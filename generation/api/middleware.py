"""Around every call: its id, how long it took, and its span."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from generation.telemetry import correlation, metrics, tracing

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def observe(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware, the outermost one."""

    def middleware(request: HttpRequest) -> HttpResponse:
        call = correlation.accepted(request.headers.get(correlation.HEADER, ""))
        method = request.method if request.method in _METHODS else "OTHER"
        begun = time.perf_counter()
        parent = request.headers.get("traceparent", "")
        with (
            correlation.bound_to(call),
            tracing.span(f"{method}", "server", parent=parent, http__request__method=str(method)) as span,
        ):
            response = get_response(request)
            route = _route(request)
            if span is not None:
                span.update_name(f"{method} {route}")
                span.set_attribute("http.route", route)
                span.set_attribute("http.response.status_code", response.status_code)
        response[correlation.HEADER] = call
        if settings.ENABLE_METRICS:
            # By the route's name and not its address, of which there is one for each request.
            seconds = time.perf_counter() - begun
            metrics.HTTP.labels(method, route, response.status_code).observe(seconds)
        return response

    return middleware


def _route(request: HttpRequest) -> str:
    match = request.resolver_match
    return (match.view_name if match else "") or "none"
