"""The endpoints of queue status and statistics."""

from __future__ import annotations

from typing import ClassVar

from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from generation.reports import statistics
from generation.states import Scope


class QueueViewSet(viewsets.ViewSet):
    """The current queue and the statistics of the last days, the same for all users: no single request is named."""

    scopes: ClassVar = {"status": Scope.REQUESTS_READ, "metrics": Scope.METRICS}

    def status(self, request: Request) -> Response:
        return Response(statistics.queue_status())

    def metrics(self, request: Request) -> Response:
        return Response(statistics.metrics())
