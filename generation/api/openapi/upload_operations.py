"""Descriptions of the operations on uploaded images."""

from __future__ import annotations

from typing import Final

from drf_spectacular.utils import OpenApiResponse, extend_schema_serializer

from generation.access.rate_limits import RateExceeded
from generation.api.openapi import examples, schemas
from generation.api.openapi.helpers import (
    BAD_REQUEST,
    INVALID,
    Responses,
    describe,
    exception_response,
    header,
    operation,
    path_id,
    response,
)
from generation.api.openapi.operations import image_operation
from generation.api.serializers import PageSerializer
from generation.api.upload_forms import FileTooLarge, UploadSerializer
from generation.api.uploads import (
    InvalidImage,
    UnsupportedMedia,
    UploadImageViewSet,
    UploadInUse,
    UploadNotFound,
    UploadQuota,
    UploadsUnavailable,
    UploadViewSet,
)
from generation.db import outages
from generation.identifiers import UPLOAD_ID
from generation.storage.images import EXTENSIONS

_OF_UPLOAD: Final = path_id("upload_id", UPLOAD_ID.pattern, examples.UPLOAD_ID, "`uploadId` of an upload.")
_BAD_FORM: Final[Responses] = {
    400: response(
        BAD_REQUEST,
        "A value is invalid, the body is no form, or the image does not decode.",
        invalid=examples.NO_FILE,
        invalid_image={"error": InvalidImage.default_detail, "code": InvalidImage.default_code},
    ),
    **exception_response(FileTooLarge),
    **exception_response(UnsupportedMedia),
    503: response(
        schemas.Error,
        "The database or the storage is not reachable, or too many images are being read.",
        database_unavailable={"error": outages.MESSAGE, "code": outages.CODE},
        unavailable={"error": UploadsUnavailable.default_detail, "code": UploadsUnavailable.default_code},
    ),
}
extend_schema_serializer(component_name="NewUpload")(UploadSerializer)
describe(
    UploadViewSet,
    create=operation(
        "uploadImage",
        "Upload an image",
        "PNG, JPEG or WebP without animation, at most 20 MiB and 25 megapixels, each side at least 64 pixels. The image"
        " is stored upright, in sRGB and without any metadata, as JPEG if it was one and as PNG otherwise; `bytes` and"
        " `sha256` are those of the stored file. The same image again is the first upload, with 200. Counts as a"
        " submit; `Idempotency-Key` is ignored.",
        tag="Uploads",
        request={"multipart/form-data": UploadSerializer},
        example={"file": "(the bytes of the image)", "name": "pip.png"},
        parameters=[header("Location", {"type": "string", "format": "uri"}, "The URL of the upload.", 200, 201)],
        responses=_BAD_FORM
        | exception_response(UploadQuota)
        | exception_response(RateExceeded)
        | {
            200: response(schemas.Upload, "The user has uploaded this image before.", upload=examples.UPLOAD),
            201: response(schemas.Upload, "The image is stored.", upload=examples.UPLOAD),
        },
    ),
    list=operation(
        "listUploads",
        "List uploads",
        "The user's own uploads, the newest first. `next` and `previous` are the URLs of the adjacent pages.",
        tag="Uploads",
        parameters=[PageSerializer],  # type: ignore[list-item]  # each of its fields is one
        responses=INVALID | {200: response(schemas.UploadPage, "One page.", page=examples.UPLOADS)},
    ),
    retrieve=operation(
        "getUpload",
        "Get an upload",
        "Does not count as a use, so `expiresAt` stays.",
        tag="Uploads",
        parameters=[_OF_UPLOAD],
        responses=exception_response(UploadNotFound)
        | {200: response(schemas.Upload, "The upload.", upload=examples.UPLOAD)},
    ),
    destroy=operation(
        "deleteUpload",
        "Delete an upload",
        "Deletes the image as well. While a request that has not ended refers to it, the response is 409.",
        tag="Uploads",
        parameters=[_OF_UPLOAD],
        responses=exception_response(UploadNotFound)
        | exception_response(UploadInUse)
        | {204: OpenApiResponse(None, description="The upload is deleted.")},
    ),
)
describe(
    UploadImageViewSet,
    retrieve=image_operation(
        "getUploadedImage",
        "Get an uploaded image",
        "The bytes of the upload, for its owner, or by the signed URL in `imageUrl`.",
        tag="Uploads",
        of=path_id(
            "upload_id",
            rf"{UPLOAD_ID.pattern}(\.({'|'.join(EXTENSIONS.values())}))?",
            examples.UPLOAD_ID,
            "`uploadId`, optionally followed by the extension of the image's format.",
        ),
        not_found=UploadNotFound,
        media_types=("image/png", "image/jpeg"),
    ),
)
