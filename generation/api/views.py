"""The endpoints of a request: thin, since what they do is in ``services`` and what they read in ``selectors``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.urls import reverse
from rest_framework import exceptions, permissions, status, viewsets
from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request
from rest_framework.response import Response

from generation import representations, selectors, services, storage
from generation.api.errors import InvalidValue, NotFound
from generation.api.serializers import SubmitSerializer
from generation.authentication import BearerAuthentication
from generation.models import GenerationRequest
from generation.states import Status


class RequestNotCancellable(NotFound):
    """The guide's words for what cannot be cancelled, whether it is there or not."""

    default_detail = "Request not found or cannot be cancelled"


class PictureGone(exceptions.APIException):
    """The request is there, the bytes of its picture are not."""

    status_code = status.HTTP_410_GONE
    default_detail = "The picture is not stored any more"
    default_code = "picture_gone"


@contextmanager
def reading_pictures() -> Iterator[None]:
    """Where a file is gone, that is what the client is told. Raises :class:`PictureGone`."""
    try:
        yield
    except FileNotFoundError:
        raise PictureGone from None


def caller(request: Request) -> User:
    """The user, of whom the permission made sure."""
    assert isinstance(request.user, User)  # noqa: S101  narrows the type; the permission has refused all others
    return request.user


def flag(request: Request, name: str, *, default: bool) -> bool:
    """A query parameter that is ``true`` or ``false``. Raises :class:`InvalidValue`."""
    value = request.query_params.get(name)
    if value is None:
        return default
    if value not in {"true", "false"}:
        raise InvalidValue(name, "Must be true or false.", "invalid")
    return value == "true"


class GenerationViewSet(viewsets.ViewSet):
    """Submit a request, watch it, give it up."""

    def submit(self, request: Request) -> Response:
        serializer = SubmitSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        created = services.submit(owner=caller(request), **serializer.validated_data)
        place = selectors.queue_place(created.pk)
        answer = {
            "success": True,
            "requestId": created.pk,
            "status": created.status,
            "estimatedWaitTime": place.estimated_wait if place else 0,
        }
        address = reverse("generation:status", args=[created.pk])
        return Response(answer, headers={"Location": f"{settings.PUBLIC_BASE_URL}{address}"})

    @reading_pictures()
    def retrieve(self, request: Request, request_id: str) -> Response:
        found = self._find(request, request_id)
        shape: dict[str, Any] = representations.status(found, image_data=flag(request, "imageData", default=True))
        if found.status == Status.QUEUED and (place := selectors.queue_place(found.pk)):
            shape |= {"queuePosition": place.position, "estimatedWaitTime": place.estimated_wait}
        return Response(shape)

    def cancel(self, request: Request, request_id: str) -> Response:
        if not services.cancel(user=caller(request), request_id=request_id):
            raise RequestNotCancellable
        return Response({"success": True, "message": "Request cancelled successfully"})

    @staticmethod
    def _find(request: Request, request_id: str) -> GenerationRequest:
        found = selectors.find_request(request_id, among=selectors.visible_to(caller(request)))
        if found is None:
            raise NotFound
        return found


class SignedUrlOrAuthenticated(permissions.IsAuthenticated):
    """Lets in whoever has the signed address, and else whoever is signed in."""

    def has_permission(self, request: Request, view: Any) -> bool:
        view.signed = storage.signature_is_valid(
            view.kind,
            view.kwargs["request_id"],
            request.query_params.get("expires", ""),
            request.query_params.get("signature", ""),
        )
        return view.signed or super().has_permission(request, view)


class PictureViewSet(viewsets.ViewSet):
    """The bytes of a picture (``kind`` is ``image``) or of its small version (``thumbnail``)."""

    authentication_classes = (BearerAuthentication, SessionAuthentication)
    permission_classes = (SignedUrlOrAuthenticated,)
    kind = "image"
    signed = False

    @reading_pictures()
    def retrieve(self, request: Request, request_id: str, extension: str) -> HttpResponse:
        among = GenerationRequest.objects.all() if self.signed else selectors.visible_to(caller(request))
        found = selectors.find_request(request_id, among=among)
        if found is None or found.status != Status.COMPLETED:
            raise NotFound
        key = found.result[f"{self.kind}_key"]
        stored_extension = key.rpartition(".")[2]
        if extension not in {"", f".{stored_extension}"}:
            raise NotFound
        return HttpResponse(
            storage.read(key),
            content_type=storage.CONTENT_TYPES[stored_extension],
            headers={
                "Cache-Control": "private, max-age=31536000, immutable",
                "ETag": f'"{key.rpartition("/")[2].partition(".")[0]}"',
                "Content-Disposition": f'inline; filename="{found.pk}.{stored_extension}"',
                # A picture needs nothing, so a disguised document gets nothing.
                "Content-Security-Policy": "default-src 'none'; sandbox",
            },
        )
