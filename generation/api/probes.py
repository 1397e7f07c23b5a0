"""Host check that lets the probes of load balancers and Prometheus pass, which call processes by IP address."""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest, HttpResponsePermanentRedirect
from django.middleware import common

_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_METHODS: Final = frozenset({"GET", "HEAD"})


class CommonMiddleware(common.CommonMiddleware):
    """Django's CommonMiddleware without the ``Host`` check for probes.

    This is safe, since the responses to probes contain no URL built from the header.
    """

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        if request.path_info in _PATHS and request.method in _METHODS:
            return None
        return super().process_request(request)
