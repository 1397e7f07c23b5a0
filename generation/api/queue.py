"""How the whole is doing."""

from __future__ import annotations

from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from generation.reports import statistics


class QueueViewSet(viewsets.ViewSet):
    """The queue now, and the last days. The same for everybody: it names nobody's requests."""

    def status(self, request: Request) -> Response:
        return Response(statistics.queue_status())

    def metrics(self, request: Request) -> Response:
        return Response(statistics.metrics())
