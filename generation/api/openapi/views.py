"""The addresses of the description: for programs, and for people."""

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

# The two that are not used here tell drf-spectacular what they know when they are imported.
from generation.api.errors import method_not_allowed
from generation.api.negotiation import QueryFormatNegotiation
from generation.api.openapi import extensions as _extensions  # noqa: F401
from generation.api.openapi import operations as _operations  # noqa: F401
from generation.api.openapi.helpers import INVALID, answer, call, describe, query

_RENDERERS: Final[tuple[type[Any], ...]] = (
    renderers.OpenApiJsonRenderer2,
    renderers.OpenApiJsonRenderer,
    renderers.OpenApiYamlRenderer2,
    renderers.OpenApiYamlRenderer,
)


@cache
def _description(renderer: Any) -> bytes:
    """The same for everybody, and as long as the process lives."""
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
    get=call(
        "getSchema",
        "Get this description",
        "In the format that `format` names, else that `Accept` prefers, else in JSON.",
        tag="Description",
        security=[],
        parameters=[query("format", {"type": "string", "enum": ["json", "yaml"]}, "Goes before `Accept`.")],
        answers=INVALID
        | {
            (200, *(renderer.media_type for renderer in _RENDERERS)): answer(
                {"type": "object"}, "The description of the API, in OpenAPI 3.1."
            )
        },
    ),
)


@csrf_exempt  # it changes nothing
def docs(request: HttpRequest) -> HttpResponse:
    """GET /api/docs: the same, to read and to try."""
    if request.method not in {"GET", "HEAD"}:
        return method_not_allowed(request, "GET, HEAD")
    return render(request, "docs.html")
