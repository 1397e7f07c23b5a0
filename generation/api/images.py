"""The bytes of pictures: by token, by the session of the pages, or by a signed address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.http import HttpResponse, HttpResponseNotModified
from django.http.response import HttpResponseBase
from rest_framework import exceptions, permissions, status, viewsets
from rest_framework.request import Request

from generation.api.errors import NotFound
from generation.api.idempotency import current_user, matches_etag
from generation.models import GenerationRequest
from generation.requests import selectors
from generation.states import Status
from generation.storage import images, signed_urls

_ONE_RANGE: Final = re.compile(r"bytes=(?:([0-9]{1,12})-([0-9]{0,12})|-([0-9]{1,12}))")


class PictureGone(exceptions.APIException):
    """The request is there, the bytes of its picture are not."""

    status_code = status.HTTP_410_GONE
    default_detail = "The picture is not stored any more"
    default_code = "picture_gone"


class RangeNotSatisfiable(exceptions.APIException):
    """The picture ends before the part that was asked for begins."""

    status_code = status.HTTP_416_REQUESTED_RANGE_NOT_SATISFIABLE
    default_detail = "The picture has no such part"
    default_code = "range_not_satisfiable"

    def __init__(self, length: int) -> None:
        super().__init__()
        self.headers = {"Content-Range": f"bytes */{length}"}


@contextmanager
def reading_pictures() -> Iterator[None]:
    """Where a file is gone, that is what the client is told. Raises :class:`PictureGone`."""
    try:
        yield
    except FileNotFoundError:
        raise PictureGone from None


class SignedUrlOrAuthenticated(permissions.IsAuthenticated):
    """Lets in whoever has the signed address, and else whoever is signed in."""

    def has_permission(self, request: Request, view: Any) -> bool:
        view.signed = signed_urls.signature_is_valid(
            view.kind,
            view.kwargs["request_id"],
            request.query_params.get("expires", ""),
            request.query_params.get("signature", ""),
        )
        return view.signed or super().has_permission(request, view)


class PictureViewSet(viewsets.ViewSet):
    """The bytes of one of the two files that a result has."""

    permission_classes = (SignedUrlOrAuthenticated,)
    kind: str
    signed = False

    @reading_pictures()
    def retrieve(self, request: Request, request_id: str, extension: str) -> HttpResponseBase:
        if self.signed:
            found = selectors.any_request(request_id)
        else:
            found = selectors.find_request(request_id, user=current_user(request))
        if found is None or found.status != Status.COMPLETED:
            raise NotFound
        key = found.result[f"{self.kind}_key"]
        sha256, _, stored_extension = key.rpartition("/")[2].partition(".")
        if extension not in {"", f".{stored_extension}", self.requested_extension(found)}:
            raise NotFound
        headers = {
            "Cache-Control": "private, max-age=31536000, immutable",
            "ETag": f'"{sha256}"',
            "Accept-Ranges": "bytes",
            "Content-Disposition": f'inline; filename="{found.pk}.{stored_extension}"',
            # A picture needs nothing, so a disguised document gets nothing.
            "Content-Security-Policy": "default-src 'none'; sandbox",
        }
        if matches_etag(request, headers["ETag"]):
            return HttpResponseNotModified(headers=headers)
        content_type = images.CONTENT_TYPES[stored_extension]
        # Parts are ours, since the proxy does not know the picture by our ETag.
        if "Range" not in request.headers and (path := images.path_for_proxy(key)):
            return HttpResponse(content_type=content_type, headers=headers | {"X-Accel-Redirect": path})
        return _part(request, images.read(key), content_type, headers)

    def requested_extension(self, found: GenerationRequest) -> str:
        """Return an extension that works beside that of the stored format."""
        return ""


class ImageViewSet(PictureViewSet):
    """The image itself."""

    kind = "image"

    def requested_extension(self, found: GenerationRequest) -> str:
        """Return that of the format that was asked for. A client that asked for PNG has built its address before the
        answer, and the content type says what came."""
        requested = images.EXTENSIONS.get(found.result.get("requested_type", ""))
        return f".{requested}" if requested else ""


class ThumbnailViewSet(PictureViewSet):
    """Its small version."""

    kind = "thumbnail"


def _part(request: Request, data: bytes, content_type: str, headers: dict[str, str]) -> HttpResponse:
    """The whole, or the part that was asked for."""
    wanted = _range(request, len(data), headers["ETag"])
    if wanted is None:
        return HttpResponse(data, content_type=content_type, headers=headers)
    headers["Content-Range"] = f"bytes {wanted[0]}-{wanted[-1]}/{len(data)}"
    return HttpResponse(data[wanted.start : wanted.stop], status=206, content_type=content_type, headers=headers)


def _range(request: Request, length: int, etag: str) -> range | None:
    """Which bytes were asked for. ``None`` is the whole, as for several ranges, malformed ones, and those of a picture
    that is not this one (RFC 9110). Raises :class:`RangeNotSatisfiable`."""
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
