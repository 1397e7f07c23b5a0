"""Endpoints for the bytes of images: by access token, by browser session, or by signed URL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Final

from django.http import HttpResponse, HttpResponseNotModified
from django.http.response import HttpResponseBase
from rest_framework import exceptions, status, viewsets
from rest_framework.request import Request

from generation.api.errors import NotFound
from generation.api.idempotency import current_user, matches_etag
from generation.api.permissions import IsAuthenticated
from generation.models import GenerationRequest
from generation.requests import representations, selectors
from generation.states import Scope, Status
from generation.storage import images, signed_urls

_ONE_RANGE: Final = re.compile(r"bytes=(?:([0-9]{1,12})-([0-9]{0,12})|-([0-9]{1,12}))")


class ImageGone(exceptions.APIException):
    """The request exists, but its image file does not."""

    status_code = status.HTTP_410_GONE
    default_detail = "The image is no longer stored"
    default_code = "picture_gone"


class RangeNotSatisfiable(exceptions.APIException):
    """The requested range begins after the end of the image."""

    status_code = status.HTTP_416_REQUESTED_RANGE_NOT_SATISFIABLE
    default_detail = "The image has no such range"
    default_code = "range_not_satisfiable"

    def __init__(self, length: int) -> None:
        super().__init__()
        self.headers = {"Content-Range": f"bytes */{length}"}


@contextmanager
def missing_file_is_gone() -> Iterator[None]:
    """Raise :class:`ImageGone` instead of ``FileNotFoundError``."""
    try:
        yield
    except FileNotFoundError:
        raise ImageGone from None


class SignedUrlOrAuthenticated(IsAuthenticated):
    """Permit calls with a valid signed URL, and otherwise authenticated users."""

    def has_permission(self, request: Request, view: Any) -> bool:
        view.signed = signed_urls.signature_is_valid(
            view.kind,
            view.kwargs[view.id_name],
            request.query_params.get("expires", ""),
            request.query_params.get("signature", ""),
        )
        return view.signed or super().has_permission(request, view)


class ImageFileViewSet(viewsets.ViewSet):
    """The bytes of one of the two files of a result: the image or the thumbnail."""

    permission_classes = (SignedUrlOrAuthenticated,)
    scopes: ClassVar = {"retrieve": Scope.REQUESTS_READ}
    kind: str
    #: The path parameter with the id.
    id_name = "request_id"
    signed = False

    @missing_file_is_gone()
    def retrieve(self, request: Request, request_id: str, extension: str) -> HttpResponseBase:
        found = self.find(request, request_id)
        if found is None or found.status != Status.COMPLETED:
            raise NotFound
        key = found.result[f"{self.kind}_key"]
        sha256, _, stored_extension = key.rpartition("/")[2].partition(".")
        if extension not in {"", f".{stored_extension}", self.requested_extension(found)}:
            raise NotFound
        return file_response(request, found.pk, key, sha256=sha256)

    def find(self, request: Request, request_id: str) -> GenerationRequest | None:
        """Return the request, or None if there is none or the user may not see it."""
        if self.signed:
            return selectors.any_request(request_id)
        return selectors.find_request(request_id, user=current_user(request))

    def requested_extension(self, found: GenerationRequest) -> str:
        """Return an extension to accept in addition to that of the stored format."""
        return ""


class ImageViewSet(ImageFileViewSet):
    """The image itself."""

    kind = "image"

    def requested_extension(self, found: GenerationRequest) -> str:
        """Return the extension of the requested format.

        A client that requested PNG may build the URL before the result is known; Content-Type names the actual format.
        """
        requested = images.EXTENSIONS.get(found.result.get("requested_type", ""))
        return f".{requested}" if requested else ""


class ThumbnailViewSet(ImageFileViewSet):
    """The thumbnail of the image."""

    kind = "thumbnail"


class PreviewViewSet(ImageFileViewSet):
    """The newest preview of a request, only while it is in progress: also a signed URL ends with that."""

    kind = "preview"

    @missing_file_is_gone()
    def retrieve(self, request: Request, request_id: str, extension: str) -> HttpResponseBase:
        found = self.find(request, request_id)
        key = representations.preview_key(found) if found else ""
        if found is None or not key or extension not in {"", f".{key.rpartition('.')[2]}"}:
            raise NotFound
        response = file_response(request, f"{found.pk}-preview", key, sha256=key.rpartition("-")[2].partition(".")[0])
        response.headers["Cache-Control"] = "private, no-store"
        return response


def file_response(request: Request, name: str, key: str, *, sha256: str) -> HttpResponseBase:
    """Return the bytes under the key as a file of this name, or 304, or a range of them. Raises
    ``FileNotFoundError``."""
    extension = key.rpartition(".")[2]
    headers = {
        "Cache-Control": "private, max-age=31536000, immutable",
        "ETag": f'"{sha256}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'inline; filename="{name}.{extension}"',
        # An image loads nothing, so deny everything to a document disguised as an image.
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if matches_etag(request, headers["ETag"]):
        return HttpResponseNotModified(headers=headers)
    content_type = images.CONTENT_TYPES[extension]
    # Serve ranges here: the proxy does not know this ETag, so it cannot evaluate If-Range.
    if "Range" not in request.headers and (path := images.path_for_proxy(key)):
        return HttpResponse(content_type=content_type, headers=headers | {"X-Accel-Redirect": path})
    return _bytes_response(request, images.read(key), content_type, headers)


def _bytes_response(request: Request, data: bytes, content_type: str, headers: dict[str, str]) -> HttpResponse:
    """Return all bytes with 200, or the requested range with 206."""
    wanted = _range(request, len(data), headers["ETag"])
    if wanted is None:
        return HttpResponse(data, content_type=content_type, headers=headers)
    headers["Content-Range"] = f"bytes {wanted[0]}-{wanted[-1]}/{len(data)}"
    return HttpResponse(data[wanted.start : wanted.stop], status=206, content_type=content_type, headers=headers)


def _range(request: Request, length: int, etag: str) -> range | None:
    """Return the requested range of bytes, or None for all of them. Raises :class:`RangeNotSatisfiable`.

    None also for several ranges, malformed ones, and an ``If-Range`` with another ETag (RFC 9110).
    """
    match = _ONE_RANGE.fullmatch(request.headers.get("Range", "").strip())
    if match is None or request.method != "GET" or request.headers.get("If-Range", etag) != etag:
        return None
    first, last, suffix = match.groups()
    start = int(first) if first else max(0, length - int(suffix))
    end = int(last) if last else length - 1
    if last and end < start:
        return None
    wanted = range(start, min(end + 1, length))
    if not wanted:
        raise RangeNotSatisfiable(length)
    return wanted
