"""The endpoint ``GET /metrics`` for Prometheus."""

from __future__ import annotations

from typing import Final

from django.http import HttpResponse, JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request

from generation.reports import prometheus

_CODES: Final = {401: "not_authenticated", 403: "permission_denied", 404: "not_found"}


@extend_schema(exclude=True)  # the format is Prometheus's, not the API's
@api_view(["GET", "HEAD"])
@authentication_classes([])
@permission_classes([])
def metrics(request: Request) -> HttpResponse:
    """GET /metrics: the counters of this server's processes, and the gauges of the whole installation."""
    answer = prometheus.answer(request.headers.get("Authorization", ""), tables=True)
    if answer.status != 200:
        error = {"error": answer.body.decode().strip(), "code": _CODES[answer.status]}
        response = JsonResponse(error, status=answer.status)
        if challenge := answer.headers.get("WWW-Authenticate"):
            response["WWW-Authenticate"] = challenge
        return response
    return HttpResponse(answer.body, headers=answer.headers)
