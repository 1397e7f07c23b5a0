"""JSON instead of Django's HTML error pages where programs call."""

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

#: Addresses that programs call. /api/docs is a page, but its errors are for programs too.
_FOR_PROGRAMS: Final = re.compile(r"/(api|healthz|readyz|metrics)(/|$)")
#: Exceptions for which Django has an answer other than 500.
_ANSWERED: Final = (Http404, PermissionDenied, SuspiciousOperation, BadRequest, MultiPartParserError)


class JsonErrors(MiddlewareMixin):
    """Replace HTML error pages of addresses that programs call, and Django's debug page about a foreign ``Host``."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> JsonResponse | None:
        """Log what a view raised, since the debug page with its traceback is not sent."""
        if isinstance(exception, _ANSWERED) or not _FOR_PROGRAMS.match(request.path_info):
            return None
        logger.error("unexpected error at %s", request.path_info, exc_info=exception)
        return errors.server_error(request)

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if response.status_code < 400 or not response.headers.get("Content-Type", "").startswith("text/html"):
            return response
        if not (_FOR_PROGRAMS.match(request.path_info) or (response.status_code == 400 and _is_foreign(request))):
            return response
        message, code = errors.PLAIN.get(response.status_code, errors.PLAIN[500])
        replaced = JsonResponse({"error": message, "code": code}, status=response.status_code)
        for name in ("Allow", "Retry-After", "WWW-Authenticate"):
            if name in response.headers:
                replaced.headers[name] = response.headers[name]
        return replaced


def _is_foreign(request: HttpRequest) -> bool:
    try:
        request.get_host()
    except DisallowedHost:
        return True
    return False
