"""The endpoints of a batch."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from generation.access.client_address import client_address
from generation.api.errors import NotFound
from generation.api.idempotency import current_user, idempotent_response, limit_submits
from generation.api.serializers import BatchSerializer, batch_arguments, validate
from generation.models import GenerationBatch
from generation.queue import estimates
from generation.requests import representations, selectors, services
from generation.states import WEIGHTS, Scope


class BatchNotFound(NotFound):
    """The batch does not exist or belongs to another user."""

    default_detail = "Batch not found"


class BatchViewSet(viewsets.ViewSet):
    """Submit, read and cancel batches."""

    scopes: ClassVar = {
        "create": Scope.REQUESTS_WRITE,
        "retrieve": Scope.REQUESTS_READ,
        "destroy": Scope.REQUESTS_WRITE,
    }

    def create(self, request: Request) -> Response:
        arguments = batch_arguments(validate(BatchSerializer, request.data))

        def act() -> dict[str, Any]:
            limit_submits(request, cost=len(arguments["drafts"]))
            batch, requests = services.submit_batch(owner=current_user(request), **arguments)
            position = estimates.queue_position(min(reversed(requests), key=lambda created: WEIGHTS[created.priority]))
            return {
                "success": True,
                "batchId": batch.pk,
                "requests": [
                    {"index": index, "requestId": created.pk, "status": created.status}
                    for index, created in enumerate(requests)
                ],
                "count": len(requests),
                "estimatedWaitTime": position.estimated_wait if position else 0,
            }

        return idempotent_response(request, act, location=("generation:batch", "batchId"))

    def retrieve(self, request: Request, batch_id: str) -> Response:
        batch = self._find(request, batch_id)
        return Response(representations.batch(batch, selectors.batch_requests(batch)))

    def destroy(self, request: Request, batch_id: str) -> Response:
        batch = self._find(request, batch_id)
        cancelled = services.cancel_batch(
            user=current_user(request), batch=batch, address=client_address(request._request)
        )
        return Response({"success": True, "message": "Batch cancelled successfully", "cancelled": cancelled})

    @staticmethod
    def _find(request: Request, batch_id: str) -> GenerationBatch:
        batch = selectors.find_batch(batch_id, user=current_user(request))
        if batch is None:
            raise BatchNotFound
        return batch
