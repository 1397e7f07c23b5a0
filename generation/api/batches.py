"""The endpoints of a batch."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from django.urls import reverse
from rest_framework import status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from generation.access.client_address import client_address
from generation.api import dry_runs
from generation.api.errors import NotFound
from generation.api.idempotency import current_user, idempotent_response, limit_submits
from generation.api.serializers import BatchSerializer, batch_arguments, validate
from generation.api.waiting import after_wait, cancel_after, retry_after
from generation.models import GenerationBatch
from generation.requests import permissions, positions, representations, selectors, services
from generation.requests.representations import absolute
from generation.states import ACTIVE, WEIGHTS, Scope


class BatchNotFound(NotFound):
    """The batch does not exist or belongs to another user."""

    default_detail = "Batch not found"


#: The URL name of a batch, and the key of its id in an answer.
_BATCH: Final = ("generation:batch", "batchId")


class BatchViewSet(viewsets.ViewSet):
    """Submit, read and cancel batches."""

    scopes: ClassVar = {
        "create": Scope.REQUESTS_WRITE,
        "retrieve": Scope.REQUESTS_READ,
        "destroy": Scope.REQUESTS_WRITE,
    }

    def create(self, request: Request) -> Response:
        arguments = batch_arguments(validate(BatchSerializer, request.data), cancel_after=cancel_after(request))
        permissions.check_projects(current_user(request), arguments["drafts"], is_batch=True)

        if dry_runs.is_dry_run(request):
            return dry_runs.respond(request, lambda: dry_runs.of_batch(current_user(request), arguments))

        def act() -> dict[str, Any]:
            limit_submits(request, cost=len(arguments["drafts"]))
            user = current_user(request)
            batch, requests = services.submit_batch(owner=user, **arguments)
            limit = positions.limit_of(user, batch.max_concurrent)
            positions.keep_estimates(requests, most_at_once=limit)
            last = min(reversed(requests), key=lambda created: WEIGHTS[created.priority])
            position = positions.of_request(last, most_at_once=limit)
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

        response = idempotent_response(request, act, location=_BATCH)
        batch_id, ids = response.data["batchId"], [item["requestId"] for item in response.data["requests"]]

        def answer(has_ended: bool) -> Response:
            if not has_ended:
                headers = {"Location": absolute(reverse(_BATCH[0], args=[batch_id]))}
                headers["Retry-After"] = retry_after(response.data["estimatedWaitTime"])
                return Response(response.data, status=status.HTTP_202_ACCEPTED, headers=headers)
            return Response(response.data | {"estimatedWaitTime": 0, "batch": self._representation(request, batch_id)})

        return after_wait(request, response, ids, answer)

    def retrieve(self, request: Request, batch_id: str) -> Response:
        body = self._representation(request, batch_id)
        active = [item["requestId"] for item in body["requests"] if item["status"] in ACTIVE]
        return after_wait(request, Response(body), active, lambda _: Response(self._representation(request, batch_id)))

    def _representation(self, request: Request, batch_id: str) -> dict[str, Any]:
        batch = self._find(request, batch_id)
        return representations.batch(batch, selectors.batch_requests(batch))

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
