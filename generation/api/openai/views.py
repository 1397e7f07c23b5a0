"""The common part of the views below ``/v1``, and the answer to every other address there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from django.http.response import HttpResponseBase
from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.views import APIView

from generation.access.authentication import BearerAuthentication
from generation.api.openai.errors import TIMING, Fault, exception_handler, milliseconds_since


class OpenAIMixin(APIView):
    """Errors in OpenAI's format, and the header with the time that a call took."""

    authentication_classes: Sequence[type[BearerAuthentication]] = (BearerAuthentication,)
    #: When the call began, by the monotonic clock.
    started = 0.0

    def initialize_request(self, request: Any, *arguments: Any, **more: Any) -> Request:
        self.started = time.monotonic()
        return super().initialize_request(request, *arguments, **more)

    def get_exception_handler(self) -> Callable[..., Any]:
        return exception_handler

    def finalize_response(self, *arguments: Any, **more: Any) -> Any:
        response = super().finalize_response(*arguments, **more)
        response.headers[TIMING] = milliseconds_since(self.started)
        return response


class OpenAIViewSet(OpenAIMixin, viewsets.ViewSet):
    """A view set below ``/v1``."""


class UnknownView(OpenAIMixin):
    """Any address below ``/v1`` without an endpoint, by any method and without authentication."""

    authentication_classes = ()
    permission_classes = ()

    def dispatch(self, request: Any, *arguments: Any, **more: Any) -> HttpResponseBase:
        self.initialize_request(request)
        message = f"Unknown request URL: {str(request.method)[:20]} {request.path[:200]}"
        response = Fault(status=404, message=message, code="unknown_url").response()
        response.headers[TIMING] = milliseconds_since(self.started)
        return response
