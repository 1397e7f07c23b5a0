"""Django's debug pages: without credentials, and JSON instead where programs call."""

from __future__ import annotations

import logging
import os
import re
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import BadRequest, DisallowedHost, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin
from django.utils.safestring import SafeString, mark_safe
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

from generation.api import errors
from generation.telemetry.redaction import SECRET_NAME, SHORTEST_ON_PAGES, Redactor

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


class RedactingFilter(SafeExceptionReporterFilter):
    """Django's filter of settings and headers, which goes by their names; this one goes by their values as well."""

    hidden_settings = SECRET_NAME

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        cleansed = super().cleanse_setting(key, value)
        return _redact(cleansed) if isinstance(cleansed, str) else cleansed

    def get_safe_request_meta(self, request: HttpRequest) -> dict[str, Any]:
        """Without the environment of the process, which the server copies into every request."""
        meta: dict[str, Any] = super().get_safe_request_meta(request)
        return {name: value for name, value in meta.items() if name not in os.environ}


class RedactingReporter(ExceptionReporter):
    """Django's debug page without credentials, which also stand in local variables and messages of errors."""

    def get_traceback_html(self) -> SafeString:
        return mark_safe(_redact(super().get_traceback_html()))  # noqa: S308  Django has escaped it

    def get_traceback_text(self) -> SafeString:
        return mark_safe(_redact(super().get_traceback_text()))  # noqa: S308  it is sent as plain text


def _redact(text: str) -> str:
    return Redactor(settings.SECRET_VALUES, shortest=SHORTEST_ON_PAGES)(text)
