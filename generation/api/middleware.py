"""Middleware for every HTTP call: correlation id, duration metric and trace span."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from django.conf import settings
from django.contrib.messages import middleware as messages
from django.http import HttpRequest, HttpResponse

from generation.telemetry import correlation, metrics, tracing

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class MessageMiddleware(messages.MessageMiddleware):
    """Messages for the next page, prepared for pages only: programs never see any."""

    def process_request(self, request: HttpRequest) -> None:
        if not request.path_info.startswith("/api/"):
            super().process_request(request)


def observe(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Bind the correlation id, measure the duration and open a span; the outermost middleware."""

    def middleware(request: HttpRequest) -> HttpResponse:
        call_id = correlation.accepted(request.headers.get(correlation.HEADER, ""))
        method = request.method if request.method in _METHODS else "OTHER"
        started = time.perf_counter()
        parent = request.headers.get("traceparent", "")
        with (
            correlation.bound_to(call_id),
            tracing.span(f"{method}", "server", parent=parent, http__request__method=str(method)) as span,
        ):
            response = get_response(request)
            route = _route(request)
            if span is not None:
                span.update_name(f"{method} {route}")
                span.set_attribute("http.route", route)
                span.set_attribute("http.response.status_code", response.status_code)
        response[correlation.HEADER] = call_id
        if settings.ENABLE_METRICS:
            # Label by the route's name: the path contains ids, so its cardinality is unbounded.
            seconds = time.perf_counter() - started
            metrics.HTTP.labels(method, route, response.status_code).observe(seconds)
        return response

    return middleware


def _route(request: HttpRequest) -> str:
    match = request.resolver_match
    return (match.view_name if match else "") or "none"
