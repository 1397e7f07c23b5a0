"""The endpoints of a request: thin, since what they do is in ``services`` and what they read in ``selectors``."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponseNotModified
from django.http.response import HttpResponseBase
from rest_framework import status, viewsets
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from generation.access.client_address import client_address
from generation.api.errors import NotFound
from generation.api.idempotency import current_user, flag, idempotent_response, limit_submits, matches_etag
from generation.api.images import reading_pictures
from generation.api.pagination import NewestFirstPagination
from generation.api.serializers import ListSerializer, SubmitSerializer, filters, new_request, validate
from generation.models import GenerationRequest
from generation.queue import estimates
from generation.requests import representations, selectors, services
from generation.states import Status


class RequestNotCancellable(NotFound):
    """The guide's words for what cannot be cancelled, whether it is there or not."""

    default_detail = "Request not found or cannot be cancelled"


class RequestNotRetryable(APIException):
    """It is there, but it neither failed nor was it cancelled."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "Only a failed or cancelled request can be retried"
    default_code = "not_retryable"


class GenerationViewSet(viewsets.ViewSet):
    """Submit a request, watch it, give it up, try it again."""

    def submit(self, request: Request) -> Response:
        wish = new_request(validate(SubmitSerializer, request.data))

        def act() -> dict[str, Any]:
            limit_submits(request)
            created = services.submit(owner=current_user(request), draft=wish)
            place = estimates.queue_position(created)
            return {
                "success": True,
                "requestId": created.pk,
                "status": created.status,
                "estimatedWaitTime": place.estimated_wait if place else 0,
            }

        return idempotent_response(request, act, location=("generation:status", "requestId"))

    @reading_pictures()
    def retrieve(self, request: Request, request_id: str) -> HttpResponseBase:
        found = self._find(request, request_id)
        image_data = flag(request, "imageData", default=True)
        place = estimates.queue_position(found) if found.status == Status.QUEUED else None
        etag = representations.etag(found, image_data, place)
        headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
        if matches_etag(request, etag):
            return HttpResponseNotModified(headers=headers)
        shape = representations.status(found, image_data=image_data)
        if place:
            shape |= {"queuePosition": place.position, "estimatedWaitTime": place.estimated_wait}
        return Response(shape, headers=headers)

    def list(self, request: Request) -> Response:
        # What stands there twice is a list, which no filter takes.
        parameters = {name: found[0] if len(found) == 1 else found for name, found in request.query_params.lists()}
        query = validate(ListSerializer, parameters)
        found = selectors.matching(selectors.visible_to(current_user(request)), filters(query))
        pages = NewestFirstPagination(page_size=query["limit"])
        page = pages.paginate_queryset(found, request)
        return pages.get_paginated_response([representations.status(one) for one in page])

    def cancel(self, request: Request, request_id: str) -> Response:
        if not services.cancel(
            user=current_user(request), request_id=request_id, address=client_address(request._request)
        ):
            raise RequestNotCancellable
        return Response({"success": True, "message": "Request cancelled successfully"})

    def retry(self, request: Request, request_id: str) -> Response:
        found = self._find(request, request_id)
        limit_submits(request)  # it buys as many attempts as a submit does
        try:
            again = services.retry(user=current_user(request), request=found, address=client_address(request._request))
        except services.NotRetryableError:
            raise RequestNotRetryable from None
        place = estimates.queue_position(again)
        return Response(
            {
                "success": True,
                "requestId": again.pk,
                "status": again.status,
                "estimatedWaitTime": place.estimated_wait if place else 0,
            }
        )

    @staticmethod
    def _find(request: Request, request_id: str) -> GenerationRequest:
        found = selectors.find_request(request_id, user=current_user(request))
        if found is None:
            raise NotFound
        return found
