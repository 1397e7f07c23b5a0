"""The bytes of pictures: by token, by the session of the pages, or by a signed address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.http import HttpResponse, HttpResponseNotModified
from django.http.response import HttpResponseBase
from django.utils.http import parse_etags
from rest_framework import exceptions, permissions, status, viewsets
from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request

from generation import selectors, storage
from generation.api.calls import caller
from generation.api.errors import NotFound
from generation.authentication import BearerAuthentication
from generation.models import GenerationRequest
from generation.states import Status

_ONE_RANGE: Final = re.compile(r"bytes=(?:([0-9]{1,12})-([0-9]{0,12})|-([0-9]{1,12}))")


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
    def retrieve(self, request: Request, request_id: str, extension: str) -> HttpResponseBase:
        among = GenerationRequest.objects.all() if self.signed else selectors.visible_to(caller(request))
        found = selectors.find_request(request_id, among=among)
        if found is None or found.status != Status.COMPLETED:
            raise NotFound
        key = found.result[f"{self.kind}_key"]
        sha256, _, stored_extension = key.rpartition("/")[2].partition(".")
        if extension not in {"", f".{stored_extension}"}:
            raise NotFound
        headers = {
            "Cache-Control": "private, max-age=31536000, immutable",
            "ETag": f'"{sha256}"',
            "Accept-Ranges": "bytes",
            "Content-Disposition": f'inline; filename="{found.pk}.{stored_extension}"',
            # A picture needs nothing, so a disguised document gets nothing.
            "Content-Security-Policy": "default-src 'none'; sandbox",
        }
        known = parse_etags(request.headers.get("If-None-Match", ""))
        if "*" in known or headers["ETag"] in known:
            return HttpResponseNotModified(headers=headers)
        return _part(request, storage.read(key), storage.CONTENT_TYPES[stored_extension], headers)


def _part(request: Request, data: bytes, content_type: str, headers: dict[str, str]) -> HttpResponse:
    """The whole, or the one range that was asked for; several ranges and malformed ones get the whole (RFC 9110)."""
    wanted = _ONE_RANGE.fullmatch(request.headers.get("Range", "").strip())
    unchanged = request.headers.get("If-Range", headers["ETag"]) == headers["ETag"]
    if wanted is None or not unchanged or request.method != "GET":
        return HttpResponse(data, content_type=content_type, headers=headers)
    first, last, suffix = wanted.groups()
    start = int(first) if first else max(0, len(data) - int(suffix))
    end = min(int(last), len(data) - 1) if last else len(data) - 1
    if start >= len(data) or (last and int(last) < start) or suffix == "0":
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
    return HttpResponse(data[start : end + 1], status=206, content_type=content_type, headers=headers)
