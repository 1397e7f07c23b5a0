"""The endpoints of uploaded images. Only the owner sees an upload."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from rest_framework import status, viewsets
from rest_framework.exceptions import APIException
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from generation.api.errors import NotFound
from generation.api.idempotency import current_user, limit_submits
from generation.api.images import ImageFileViewSet, file_response, missing_file_is_gone
from generation.api.pagination import NewestFirstPagination
from generation.api.serializers import PageSerializer, query_parameters, validate
from generation.api.upload_forms import UploadSerializer, bound_files, form_fields
from generation.identifiers import UPLOAD_ID
from generation.models import Upload
from generation.requests import uploads
from generation.requests.representations import absolute, timestamp
from generation.states import Scope
from generation.storage import images, signed_urls
from generation.storage.uploads_image import BusyError, RejectedImageError, cleaned

logger = logging.getLogger(__name__)


class UploadNotFound(NotFound):
    """The upload does not exist or belongs to another user."""

    default_detail = "Upload not found"


class InvalidImage(APIException):
    """The image does not decode, or has too few or too many pixels."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_detail = "The image does not decode"
    default_code = "invalid_image"


class UnsupportedMedia(APIException):
    """The file is neither PNG, JPEG nor WebP, or an animation."""

    status_code = status.HTTP_415_UNSUPPORTED_MEDIA_TYPE
    default_detail = "The file is neither PNG, JPEG nor WebP"
    default_code = "unsupported_media"


class UploadQuota(APIException):
    """The user's uploads take as much as they may."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "Your uploads take as much as they may; delete some first"
    default_code = "upload_quota"


class UploadInUse(APIException):
    """A request that has not ended refers to the upload."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "A request that has not ended refers to this upload"
    default_code = "in_use"


class UploadsUnavailable(APIException):
    """Too many images are being read at the moment, or the storage cannot be written."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "Images cannot be stored at the moment"
    default_code = "unavailable"
    headers: ClassVar = {"Retry-After": "10"}


_REJECTIONS: dict[str, type[APIException]] = {kind.default_code: kind for kind in (InvalidImage, UnsupportedMedia)}


def representation(upload: Upload) -> dict[str, Any]:
    """Return the upload as its owner sees it."""
    extension = images.EXTENSIONS[upload.content_type]
    lifetime = uploads.lifetime(upload)
    return {
        "uploadId": upload.pk,
        "name": upload.name,
        "contentType": upload.content_type,
        "width": upload.width,
        "height": upload.height,
        "bytes": upload.bytes,
        "sha256": upload.sha256,
        "imageUrl": signed_urls.private_address("upload-image", upload.pk, upload.key, extension),
        "createdAt": timestamp(upload.created_at),
        "expiresAt": timestamp(upload.last_used_at + lifetime) if lifetime else None,
    }


class UploadViewSet(viewsets.ViewSet):
    """Upload, list, see and delete one's own images."""

    parser_classes = (MultiPartParser,)
    scopes: ClassVar = dict.fromkeys(["create", "list", "retrieve", "destroy"], Scope.UPLOADS)

    def initialize_request(self, request: HttpRequest, *arguments: Any, **named: Any) -> Request:
        """Bound the form before the first look at it, which for a session is Django's search for a CSRF token."""
        bound_files(request)
        return super().initialize_request(request, *arguments, **named)

    def create(self, request: Request) -> Response:
        form = validate(UploadSerializer, form_fields(request))
        limit_submits(request)
        try:
            with cleaned(form["file"].file) as image:
                upload, is_new = uploads.store(
                    owner=current_user(request), name=form.get("name") or form["file"].name, image=image
                )
        except RejectedImageError as error:
            raise _REJECTIONS[error.code](str(error)) from None
        except uploads.QuotaExceededError:
            raise UploadQuota from None
        except BusyError:
            raise UploadsUnavailable from None
        except OSError as error:
            logger.error("an upload was not stored: %s", error)
            raise UploadsUnavailable from None
        headers = {"Location": absolute(reverse("generation:upload", args=[upload.pk]))}
        code = status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
        return Response(representation(upload), status=code, headers=headers)

    def list(self, request: Request) -> Response:
        query = validate(PageSerializer, query_parameters(request))
        pagination = NewestFirstPagination(page_size=query["limit"], ids=UPLOAD_ID, rows=uploads.by_id)
        page = pagination.paginate_queryset(uploads.of_owner(current_user(request)), request)
        return pagination.get_paginated_response([representation(row) for row in page])

    def retrieve(self, request: Request, upload_id: str) -> Response:
        return Response(representation(_find(request, upload_id)))

    def destroy(self, request: Request, upload_id: str) -> Response:
        try:
            if not uploads.delete(_find(request, upload_id)):
                raise UploadNotFound
        except uploads.InUseError:
            raise UploadInUse from None
        return Response(status=status.HTTP_204_NO_CONTENT)


def _find(request: Request, upload_id: str) -> Upload:
    upload = uploads.find(upload_id, owner=current_user(request))
    if upload is None:
        raise UploadNotFound
    return upload


class UploadImageViewSet(ImageFileViewSet):
    """The bytes of an upload."""

    kind = "upload-image"
    id_name = "upload_id"
    scopes: ClassVar = {"retrieve": Scope.UPLOADS}

    @missing_file_is_gone()
    def retrieve(self, request: Request, upload_id: str, extension: str) -> HttpResponseBase:
        found = uploads.find(upload_id, owner=None if self.signed else current_user(request))
        if found is None or extension not in {"", f".{images.EXTENSIONS[found.content_type]}"}:
            raise UploadNotFound
        return file_response(request, found.pk, found.key, sha256=found.sha256)
