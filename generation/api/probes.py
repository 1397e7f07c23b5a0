"""Probes of load balancers and Prometheus, which call each process by its address and not by our name."""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest, HttpResponsePermanentRedirect
from django.middleware import common

_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_METHODS: Final = frozenset({"GET", "HEAD"})


class CommonMiddleware(common.CommonMiddleware):
    """Django's, which checks the ``Host`` header, but not that of a probe. Its answers contain no address that could be
    made of the header."""

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        if request.path_info in _PATHS and request.method in _METHODS:
            return None
        return super().process_request(request)
