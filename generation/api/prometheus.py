"""GET /metrics, for Prometheus."""

from __future__ import annotations

from typing import Final

from django.http import HttpResponse, JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request

from generation.reports import prometheus

_CODES: Final = {401: "not_authenticated", 403: "permission_denied", 404: "not_found"}


@extend_schema(exclude=True)  # it is Prometheus's format, not the API's
@api_view(["GET", "HEAD"])
@authentication_classes([])
@permission_classes([])
def metrics(request: Request) -> HttpResponse:
    """GET /metrics: what the processes of this server counted, and what holds for the whole."""
    found = prometheus.answer(request.headers.get("Authorization", ""), tables=True)
    if found.status != 200:
        error = {"error": found.body.decode().strip(), "code": _CODES[found.status]}
        answer = JsonResponse(error, status=found.status)
        if challenge := found.headers.get("WWW-Authenticate"):
            answer["WWW-Authenticate"] = challenge
        return answer
    return HttpResponse(found.body, headers=found.headers)
