"""Middleware that replaces Django's HTML error pages with JSON at the URLs for programs."""

from __future__ import annotations

import logging
import re
from typing import Final

from django.core.exceptions import BadRequest, DisallowedHost, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from generation.api import errors

logger = logging.getLogger(__name__)

#: Paths that programs call. /api/docs is an HTML page, but its errors are JSON too.
_FOR_PROGRAMS: Final = re.compile(r"/(api|v1|healthz|readyz|metrics)(/|$)")
#: Exceptions that Django answers with a status other than 500.
_ANSWERED: Final = (Http404, PermissionDenied, SuspiciousOperation, BadRequest, MultiPartParserError)


class JsonErrors(MiddlewareMixin):
    """Replace HTML error pages at the paths that programs call, and Django's debug page about a disallowed ``Host``."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> JsonResponse | None:
        """Log an unexpected exception of a view, since Django's debug page with its traceback is not sent."""
        if isinstance(exception, _ANSWERED) or not _FOR_PROGRAMS.match(request.path_info):
            return None
        logger.error("unexpected error at %s", request.path_info, exc_info=exception)
        return errors.server_error(request)

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if response.status_code < 400 or not response.headers.get("Content-Type", "").startswith("text/html"):
            return response
        if not (_FOR_PROGRAMS.match(request.path_info) or (response.status_code == 400 and _is_wrong_host(request))):
            return response
        message, code = errors.PLAIN.get(response.status_code, errors.PLAIN[500])
        replaced = JsonResponse({"error": message, "code": code}, status=response.status_code)
        for name in ("Allow", "Retry-After", "WWW-Authenticate"):
            if name in response.headers:
                replaced.headers[name] = response.headers[name]
        return replaced


def _is_wrong_host(request: HttpRequest) -> bool:
    try:
        request.get_host()
    except DisallowedHost:
        return True
    return False
