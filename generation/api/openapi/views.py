"""Endpoints of the OpenAPI document: the document itself, and an HTML page that shows it."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular import renderers
from drf_spectacular.generators import SchemaGenerator
from rest_framework.request import Request
from rest_framework.views import APIView

# Importing extensions and operations registers them with drf-spectacular.
from generation.api.errors import method_not_allowed
from generation.api.negotiation import QueryFormatNegotiation
from generation.api.openapi import decision_operations as _decision_operations  # noqa: F401
from generation.api.openapi import extensions as _extensions  # noqa: F401
from generation.api.openapi import key_operations as _key_operations  # noqa: F401
from generation.api.openapi import openai as _openai  # noqa: F401
from generation.api.openapi import operations as _operations  # noqa: F401
from generation.api.openapi import upload_operations as _upload_operations  # noqa: F401
from generation.api.openapi import webhook_operations as _webhook_operations  # noqa: F401
from generation.api.openapi.helpers import INVALID, describe, operation, query, response

_RENDERERS: Final[tuple[type[Any], ...]] = (
    renderers.OpenApiJsonRenderer2,
    renderers.OpenApiJsonRenderer,
    renderers.OpenApiYamlRenderer2,
    renderers.OpenApiYamlRenderer,
)


@cache
def _description(renderer: Any) -> bytes:
    """Return the rendered document, which is the same for all users and constant in a process."""
    return bytes(renderer().render(SchemaGenerator().get_schema(request=None, public=True), renderer_context={}))


class SchemaView(APIView):
    """GET /api/schema."""

    authentication_classes = ()
    permission_classes = ()
    renderer_classes = _RENDERERS
    content_negotiation_class = QueryFormatNegotiation

    def get(self, request: Request) -> HttpResponse:
        chosen: Any = request
        renderer: Any = type(chosen.accepted_renderer)
        return HttpResponse(_description(renderer), content_type=f"{renderer.media_type}; charset=utf-8")


describe(
    SchemaView,
    get=operation(
        "getSchema",
        "Get this document",
        "In the format that `format` names, else in the format that `Accept` prefers, else in JSON.",
        tag="Description",
        security=[],
        parameters=[query("format", {"type": "string", "enum": ["json", "yaml"]}, "Takes precedence over `Accept`.")],
        responses=INVALID
        | {
            (200, *(renderer.media_type for renderer in _RENDERERS)): response(
                {"type": "object"}, "The OpenAPI 3.1 document of the API."
            )
        },
    ),
)


@csrf_exempt  # it changes nothing
def docs(request: HttpRequest) -> HttpResponse:
    """GET /api/docs: an HTML page to read the document and try the operations."""
    if request.method not in {"GET", "HEAD"}:
        return method_not_allowed(request, "GET, HEAD")
    return render(request, "docs.html")
