"""The form of an upload: a file, which is written to a temporary file as it arrives, and a name."""

from __future__ import annotations

from typing import Any

from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.http import HttpRequest
from django.utils.datastructures import MultiValueDict
from rest_framework import exceptions, serializers, status
from rest_framework.request import Request

from generation.api.fields import BodySerializer, StringField
from generation.storage.uploads_image import MAX_BODY_BYTES, MAX_BYTES


class FileTooLarge(exceptions.APIException):
    """The file is larger than the limit."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = f"The file is larger than {MAX_BYTES // 1024 // 1024} MiB"
    default_code = "too_large"


class BoundedFileHandler(TemporaryFileUploadHandler):
    """Writes files to temporary files, whatever their size is, within the bounds: a file's, and ``most`` bytes in all.
    Raises :class:`FileTooLarge`."""

    def __init__(self, request: HttpRequest, *, most: int = MAX_BODY_BYTES) -> None:
        super().__init__(request)
        self._most = most

    def handle_raw_input(self, input_data: Any, META: Any, content_length: int, *more: Any, **named: Any) -> None:  # noqa: N803
        """Reject a body that is too large by its announced length, before any of it is read."""
        if content_length > self._most:
            raise FileTooLarge

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """Write a part of a file."""
        if start + len(raw_data) > MAX_BYTES:
            self.upload_interrupted()
            raise FileTooLarge
        super().receive_data_chunk(raw_data, start)


def bound_files(request: HttpRequest) -> None:
    """Have the request's form parsed within the bounds, by whichever part of Django does so first."""
    request.upload_handlers = [BoundedFileHandler(request)]


def form_fields(request: Request) -> dict[str, Any]:
    """Return the fields of the form. A repeated one becomes a list, which every field rejects."""
    if not isinstance(request.data, MultiValueDict):  # a call without a body
        return {}
    return {name: values[0] if len(values) == 1 else values for name, values in request.data.lists()}


class UploadSerializer(BodySerializer):
    """The form of an upload."""

    file = serializers.FileField(help_text="PNG, JPEG or WebP, at most 20 MiB.")
    name = StringField(
        max_length=255, required=False, allow_blank=True, help_text="For people; by default the name of the file."
    )
