"""Django's debug pages without credentials. Loaded while logging is set up, so it imports no models."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.safestring import SafeString, mark_safe
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

from generation.telemetry.redaction import SECRET_NAME, SHORTEST_ON_PAGES, Redactor


class RedactingFilter(SafeExceptionReporterFilter):
    """Filter settings and headers by their values as well as by their names, as Django does."""

    hidden_settings = SECRET_NAME

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        cleansed = super().cleanse_setting(key, value)
        return _redact(cleansed) if isinstance(cleansed, str) else cleansed

    def get_safe_request_meta(self, request: HttpRequest) -> dict[str, Any]:
        """Leave out the environment of the process, which the server copies into every request."""
        meta: dict[str, Any] = super().get_safe_request_meta(request)
        return {name: value for name, value in meta.items() if name not in os.environ}


class RedactingReporter(ExceptionReporter):
    """Django's debug page without credentials, also those in local variables and error messages."""

    def get_traceback_html(self) -> SafeString:
        return mark_safe(_redact(super().get_traceback_html()))  # noqa: S308  Django has escaped it

    def get_traceback_text(self) -> SafeString:
        return mark_safe(_redact(super().get_traceback_text()))  # noqa: S308  it is sent as plain text


def _redact(text: str) -> str:
    return Redactor(settings.SECRET_VALUES, shortest=SHORTEST_ON_PAGES)(text)
