"""The endpoints of a request. Writes are in ``services``, reads in ``selectors``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from django.http import HttpResponseNotModified
from django.http.response import HttpResponseBase
from django.urls import reverse
from rest_framework import status, viewsets
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from generation.access.client_address import client_address
from generation.api import dry_runs
from generation.api.errors import NotFound
from generation.api.idempotency import current_user, flag, idempotent_response, limit_submits, matches_etag
from generation.api.images import missing_file_is_gone
from generation.api.pagination import NewestFirstPagination
from generation.api.serializers import (
    ApprovalSerializer,
    ListSerializer,
    PrioritySerializer,
    SubmitSerializer,
    filters,
    new_request,
    query_parameters,
    validate,
)
from generation.api.waiting import after_wait, cancel_after, preferred_wait, retry_after
from generation.models import GenerationRequest
from generation.requests import (
    explanations,
    input_images,
    permissions,
    positions,
    provenance,
    representations,
    selectors,
    services,
)
from generation.requests.approval import NotCompletedError
from generation.requests.positions import QueuePosition
from generation.requests.references import ReferenceFailedError
from generation.requests.representations import absolute
from generation.states import ACTIVE, Scope


class RequestNotCancellable(NotFound):
    """The request does not exist or is not in a status in which it can be cancelled."""

    default_detail = "Request not found or cannot be cancelled"


class RequestNotRetryable(APIException):
    """The request is neither failed nor cancelled."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "Only a failed or cancelled request can be retried"
    default_code = "not_retryable"


class ReferenceFailed(APIException):
    """An image that the request refers to was not made."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "An image that this request refers to failed, was cancelled or was deleted; retry that one first"
    default_code = "reference_failed"


class NotQueued(APIException):
    """The request has started or has ended."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "Only the priority of a queued request can be changed"
    default_code = "not_queued"


class NotCompleted(APIException):
    """The request has no image."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "The request is not completed"
    default_code = "not_completed"


#: The URL name of a request's status, and the key of its id in an answer.
_STATUS: Final = ("generation:status", "requestId")


def _accepted(request: GenerationRequest, *, most_at_once: int | None = None) -> dict[str, Any]:
    position = positions.of_request(request, most_at_once=most_at_once)
    return {
        "success": True,
        "requestId": request.pk,
        "status": request.status,
        "estimatedWaitTime": position.estimated_wait if position else 0,
    }


def _waiting(position: QueuePosition, *, explained: bool) -> dict[str, Any]:
    """Return the fields of a status that only a queued request has."""
    shown: dict[str, Any] = {
        "queuePosition": position.position,
        "estimatedWaitTime": position.estimated_wait,
        "estimate": position.estimate and position.estimate.as_json(),
        "waitingFor": position.reasons[0].as_json() if position.reasons else None,
        "possible": position.possible,
    }
    if explained:
        shown["explanation"] = explanations.explain(
            position.reasons, position.estimate, possible=position.possible, now=datetime.now(UTC)
        )
        shown["reasons"] = [why.as_json() for why in position.reasons]
    return shown


class GenerationViewSet(viewsets.ViewSet):
    """Submit, read, list, cancel, retry and approve requests, and change their priority."""

    scopes: ClassVar = dict.fromkeys(["retrieve", "list", "provenance"], Scope.REQUESTS_READ) | dict.fromkeys(
        ["submit", "cancel", "retry", "partial_update"], Scope.REQUESTS_WRITE
    )

    def submit(self, request: Request) -> Response:
        valid = validate(SubmitSerializer, request.data)
        draft, count = new_request(valid, cancel_after=cancel_after(request)), valid.get("variations", 1)
        permissions.check_projects(current_user(request), [draft])
        if dry_runs.is_dry_run(request):
            return dry_runs.respond(request, lambda: dry_runs.of_submit(current_user(request), draft, count))

        def act() -> dict[str, Any]:
            limit_submits(request, cost=count)
            user, more = current_user(request), {}
            if count == 1:
                created = [services.submit(owner=user, draft=draft)]
            else:
                batch, created = services.submit_variations(owner=user, draft=draft, count=count)
                more = {"requestIds": [one.pk for one in created], "batchId": batch.pk}
            limit = positions.limit_of(user)
            positions.keep_estimates(created, most_at_once=limit)
            return _accepted(created[0], most_at_once=limit) | more

        return self._or_after_wait(request, idempotent_response(request, act, location=_STATUS))

    def _or_after_wait(self, request: Request, response: Response) -> Response:
        """Have the server wait for the end of the requests in the response, if the client prefers it."""
        request_id, batch_id = response.data["requestId"], response.data.get("batchId")

        def answer(has_ended: bool) -> Response:
            if not has_ended:
                headers = {"Location": absolute(reverse(_STATUS[0], args=[request_id]))}
                headers["Retry-After"] = retry_after(response.data["estimatedWaitTime"])
                return Response(response.data, status=status.HTTP_202_ACCEPTED, headers=headers)
            ended = representations.status(self._find(request, request_id))
            body = response.data | {"status": ended["status"], "estimatedWaitTime": 0, "request": ended}
            if batch := batch_id and selectors.find_batch(batch_id, user=current_user(request)):
                body["batch"] = representations.batch(batch, selectors.batch_requests(batch))
            return Response(body)

        return after_wait(request, response, response.data.get("requestIds", [request_id]), answer)

    @missing_file_is_gone()
    def retrieve(self, request: Request, request_id: str) -> HttpResponseBase:
        if "If-None-Match" in request.headers:
            *_, headers = self._find_version(request, request_id, only_version=True)
            if matches_etag(request, headers["ETag"]) and not preferred_wait(request):
                return HttpResponseNotModified(headers=headers)
        response = self._status(request, request_id)
        active = [request_id] if response.data["status"] in ACTIVE else []
        return after_wait(request, response, active, lambda _: self._status(request, request_id))

    def _status(self, request: Request, request_id: str) -> Response:
        found, waiting, headers = self._find_version(request, request_id)
        body = representations.status(found, image_data=flag(request, "imageData", default=True))
        return Response(body | waiting, headers=headers)

    @staticmethod
    def _find_version(
        request: Request, request_id: str, *, only_version: bool = False
    ) -> tuple[GenerationRequest, dict[str, Any], dict[str, str]]:
        """Return the request, what its status has only while it is queued, and the headers that name its version."""
        pair = selectors.find_with_position(request_id, user=current_user(request), only_version=only_version)
        if pair is None:
            raise NotFound  # before the parameters, as with every other endpoint
        found, position = pair
        with_image, explained = flag(request, "imageData", default=True), flag(request, "explain", default=False)
        waiting = _waiting(position, explained=explained) if position else {}
        etag = representations.etag(found, with_image, waiting)
        return found, waiting, {"ETag": etag, "Cache-Control": "private, no-cache", "Vary": "Prefer"}

    def list(self, request: Request) -> Response:
        query = validate(ListSerializer, query_parameters(request))
        matching = selectors.matching(selectors.visible_to(current_user(request)), filters(query))
        pagination = NewestFirstPagination(page_size=query["limit"])
        page = pagination.paginate_queryset(matching, request)
        input_images.attach(page)
        return pagination.get_paginated_response([representations.status(row) for row in page])

    def cancel(self, request: Request, request_id: str) -> Response:
        if not services.cancel(
            user=current_user(request), request_id=request_id, address=client_address(request._request)
        ):
            raise RequestNotCancellable
        return Response({"success": True, "message": "Request cancelled successfully"})

    def retry(self, request: Request, request_id: str) -> Response:
        found = self._find(request, request_id)
        limit_submits(request)  # a retry may cost as many attempts as a submit
        try:
            retried = services.retry(
                user=current_user(request), request=found, address=client_address(request._request)
            )
        except services.NotRetryableError:
            raise RequestNotRetryable from None
        except ReferenceFailedError:
            raise ReferenceFailed from None
        return self._or_after_wait(request, Response(_accepted(retried)))

    def partial_update(self, request: Request, request_id: str) -> Response:
        found = self._find(request, request_id)
        if isinstance(request.data, dict) and "priority" in request.data:
            self._change_priority(request, found)
        else:
            self._decide(request, found)
        return Response(representations.status(self._find(request, request_id)))

    @staticmethod
    def _change_priority(request: Request, found: GenerationRequest) -> None:
        priority = validate(PrioritySerializer, request.data)["priority"]
        try:
            services.change_priority(
                user=current_user(request), request=found, priority=priority, address=client_address(request._request)
            )
        except services.NotQueuedError:
            raise NotQueued from None

    @staticmethod
    def _decide(request: Request, found: GenerationRequest) -> None:
        valid = validate(ApprovalSerializer, request.data)
        try:
            services.approve(
                user=current_user(request),
                request=found,
                approval=valid["approval"] or "",
                note=valid.get("note", ""),
                address=client_address(request._request),
            )
        except NotCompletedError:
            raise NotCompleted from None

    def provenance(self, request: Request, request_id: str) -> Response:
        found = self._find(request, request_id)
        if found.result is None:
            raise NotCompleted
        return Response(provenance.of_request(found), headers={"Cache-Control": "private, no-cache"})

    @staticmethod
    def _find(request: Request, request_id: str) -> GenerationRequest:
        found = selectors.find_request(request_id, user=current_user(request))
        if found is None:
            raise NotFound
        return found
