"""Descriptions of all operations of the API, kept apart from the views."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema_serializer
from rest_framework.exceptions import APIException

from generation.access.rate_limits import RateExceeded
from generation.api import health
from generation.api.batches import BatchNotFound, BatchViewSet
from generation.api.errors import NotFound
from generation.api.idempotency import KeyReused
from generation.api.images import ImageGone, ImageViewSet, PreviewViewSet, RangeNotSatisfiable, ThumbnailViewSet
from generation.api.openapi import examples, schemas
from generation.api.openapi.helpers import (
    BAD_BODY,
    CANCEL_AFTER,
    DRY_RUN,
    ETAG,
    FORBIDDEN,
    IDEMPOTENCY_KEY,
    INVALID,
    OF_BATCH,
    OF_REQUEST,
    OVER_BUDGET,
    PREFER,
    TEXT,
    UNCHANGED,
    describe,
    either,
    error,
    exception_response,
    header,
    operation,
    path_id,
    query,
    request_header,
    response,
)
from generation.api.queue import QueueViewSet
from generation.api.requests import (
    GenerationViewSet,
    ReferenceFailed,
    RequestNotCancellable,
    RequestNotRetryable,
)
from generation.api.serializers import (
    BatchItemSerializer,
    BatchSerializer,
    ListSerializer,
    ReferenceSerializer,
    SubmitSerializer,
)
from generation.api.tokens import (
    ObtainSerializer,
    ObtainView,
    RefreshSerializer,
    RefreshView,
    VerifySerializer,
    VerifyView,
)
from generation.identifiers import REQUEST_ID
from generation.storage.images import CONTENT_TYPES

extend_schema_serializer(component_name="NewReference")(ReferenceSerializer)
extend_schema_serializer(component_name="BatchItem")(BatchItemSerializer)
extend_schema_serializer(component_name="Submit")(SubmitSerializer)
_PUBLIC: Final[list[dict[str, list[str]]]] = []

# --- Tokens -----------------------------------------------------------------------------------------------------------

_TOKEN_REFUSED: Final = {401: error("The token is not valid.", "Invalid token", "token_not_valid")}

extend_schema_serializer(component_name="Credentials")(ObtainSerializer)
extend_schema_serializer(component_name="RefreshToken", exclude_fields=["access"])(RefreshSerializer)
extend_schema_serializer(component_name="AnyToken")(VerifySerializer)
describe(
    ObtainView,
    post=operation(
        "obtainToken",
        "Sign in",
        "Exchange name and password for an access and a refresh token. At most 10 times per minute for a name and for"
        " an IP address.",
        tag="Tokens",
        security=_PUBLIC,
        request=ObtainSerializer,
        example=examples.CREDENTIALS,
        responses=BAD_BODY
        | exception_response(RateExceeded)
        | {
            200: response(schemas.Token, "Signed in.", tokens=examples.TOKEN),
            401: error(
                "The name or the password is wrong.",
                "No active account found with the given credentials",
                "no_active_account",
            ),
        },
    ),
)
describe(
    RefreshView,
    post=operation(
        "refreshToken",
        "Get a new pair of tokens",
        "Each refresh token works once: store the new one. A password change invalidates all tokens.",
        tag="Tokens",
        security=_PUBLIC,
        request=RefreshSerializer,
        example=examples.REFRESH,
        responses=BAD_BODY | _TOKEN_REFUSED | {200: response(schemas.Token, "A new pair.", tokens=examples.TOKEN)},
    ),
)
describe(
    VerifyView,
    post=operation(
        "verifyToken",
        "Verify a token",
        "Accepts access and refresh tokens.",
        tag="Tokens",
        security=_PUBLIC,
        request=VerifySerializer,
        example=examples.VERIFY,
        responses=BAD_BODY
        | _TOKEN_REFUSED
        | {200: response({"type": "object", "maxProperties": 0}, "The token is valid.", valid={})},
    ),
)

# --- Requests ---------------------------------------------------------------------------------------------------------

_ACCEPTED: Final = {
    200: response(
        schemas.AcceptedOrWaited,
        "The request is queued; after `Prefer: wait`, it has ended.",
        queued=examples.ACCEPTED,
        ended=examples.ACCEPTED | {"status": "completed", "estimatedWaitTime": 0, "request": examples.ENDED},
    ),
    202: response(schemas.Accepted, "After `Prefer: wait`: it has not ended yet.", queued=examples.ACCEPTED),
}

describe(
    GenerationViewSet,
    submit=operation(
        "submitRequest",
        "Submit a request",
        "Store the request and queue it by priority. Once accepted, a request is not lost. If the owner's budget for"
        " the day does not cover it, the response is 402 with `over_budget`. With `variations`, either all of them are"
        " accepted or none.",
        tag="Requests",
        request=SubmitSerializer,
        example=examples.SUBMIT,
        parameters=[
            *IDEMPOTENCY_KEY,
            *PREFER,
            CANCEL_AFTER,
            DRY_RUN,
            header(
                "Location",
                {"type": "string", "format": "uri"},
                "The URL of the request's status; not after a dry run.",
                *(200, 202),
                required=False,
            ),
        ],
        responses=BAD_BODY
        | exception_response(KeyReused)
        | OVER_BUDGET
        | exception_response(RateExceeded)
        | {
            200: response(
                either("SubmitOrDryRun", schemas.SubmitWaited, schemas.DryRun),
                "The request is queued, or all of its variations; after `Prefer: wait`, they have ended.",
                queued=examples.ACCEPTED,
                ended=examples.ACCEPTED | {"status": "completed", "estimatedWaitTime": 0, "request": examples.ENDED},
                variations=examples.VARIATIONS_ACCEPTED,
                dry_run=examples.DRY_RUN,
            ),
            202: response(
                schemas.SubmitAccepted, "After `Prefer: wait`: it has not ended yet.", queued=examples.ACCEPTED
            ),
        },
    ),
    retrieve=operation(
        "getRequest",
        "Get the status of a request",
        "Includes the image in `result.imageData` once the request is completed. While it is queued, `waitingFor` says "
        "why it waits and `estimate` when it is expected to start. `queuePosition` may rise, since owners take turns.",
        tag="Requests",
        parameters=[
            OF_REQUEST,
            query("imageData", {"type": "boolean", "default": True}, "`false` omits `result.imageData`."),
            query(
                "explain",
                {"type": "boolean", "default": False},
                "`true` adds `explanation` and `reasons` to the status of a queued request.",
            ),
            *ETAG,
            *PREFER,
        ],
        responses=INVALID
        | UNCHANGED
        | exception_response(NotFound)
        | exception_response(ImageGone)
        | {
            200: response(
                schemas.RequestSerializer,
                "The request and its status.",
                completed=examples.COMPLETED,
                queued=examples.QUEUED,
                in_progress=examples.IN_PROGRESS,
                failed=examples.FAILED,
            ),
        },
    ),
    list=operation(
        "listRequests",
        "List requests",
        "The user's own requests, or those of all users for staff, newest first. `next` and `previous` are the URLs of"
        " the adjacent pages. All pages take equally long.",
        tag="Requests",
        parameters=[ListSerializer],  # type: ignore[list-item]  # each of its fields is one
        responses=INVALID | {200: response(schemas.RequestPage, "One page.", page=examples.PAGE)},
    ),
    cancel=operation(
        "cancelRequest",
        "Cancel a request",
        "Ends a queued or in-progress request at once. An image that arrives later is discarded.",
        tag="Requests",
        parameters=[OF_REQUEST],
        responses=exception_response(RequestNotCancellable)
        | FORBIDDEN
        | {200: response(schemas.Cancelled, "The request is cancelled.", cancelled=examples.CANCELLED)},
    ),
    retry=operation(
        "retryRequest",
        "Retry a request",
        "Queue a failed or cancelled request again, with a new set of attempts. The owner's budget for the day has to"
        " cover it.",
        tag="Requests",
        parameters=[OF_REQUEST, *PREFER],
        responses=exception_response(NotFound)
        | FORBIDDEN
        | exception_response(RequestNotRetryable, ReferenceFailed)
        | OVER_BUDGET
        | exception_response(RateExceeded)
        | _ACCEPTED,
    ),
)

# --- Images -----------------------------------------------------------------------------------------------------------

_MEDIA: Final = tuple(CONTENT_TYPES.values())
_SIGNED_URL_OR_USER: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"session": []}, {"signature": []}]


def image_operation(
    name: str,
    title: str,
    description: str,
    *,
    tag: str,
    of: OpenApiParameter,
    not_found: type[APIException],
    media_types: tuple[str, ...],
) -> Any:
    """Return the description of an operation whose response is the bytes of an image."""
    return operation(
        name,
        title,
        description,
        tag=tag,
        security=_SIGNED_URL_OR_USER,
        parameters=[
            of,
            query("expires", TEXT, "Part of a signed URL: its expiry time, in seconds since 1970 (UTC)."),
            request_header("Range", TEXT, "One range of bytes, such as `bytes=0-1023`."),
            request_header("If-Range", TEXT, "The `ETag` to which `Range` refers."),
            *ETAG,
            header("Accept-Ranges", {"const": "bytes"}, "Range requests are supported.", 200, 206),
            header("Content-Disposition", TEXT, "A file name.", 200, 206),
            header("Content-Range", TEXT, "The range sent, and the total number of bytes.", 206, 416),
        ],
        responses=UNCHANGED
        | exception_response(not_found)
        | exception_response(ImageGone)
        | exception_response(RangeNotSatisfiable)
        | {
            (200, *media_types): OpenApiResponse(OpenApiTypes.BINARY, description="The image."),
            (206, *media_types): OpenApiResponse(OpenApiTypes.BINARY, description="The requested range."),
        },
    )


def _of_request(kind: str, title: str, extensions: tuple[str, ...], media_types: tuple[str, ...]) -> Any:
    suffix = rf"(\.({'|'.join(extensions)}))?"
    also = " or the extension of the requested format" if kind == "image" else ""
    return image_operation(
        f"get{kind.title()}",
        title,
        f"The bytes of the {kind}, for users who may see the request, or by the signed URL in its "
        + ("status. Only while the request is in progress." if kind == "preview" else "`result`."),
        tag="Pictures",
        of=path_id(
            "request_id",
            REQUEST_ID.pattern + suffix,
            examples.REQUEST_ID,
            f"`requestId`, optionally followed by the extension of the {kind}'s format{also}.",
        ),
        not_found=NotFound,
        media_types=media_types,
    )


describe(
    ImageViewSet,
    retrieve=_of_request("image", "Get the image", tuple(CONTENT_TYPES), _MEDIA),
)
describe(
    ThumbnailViewSet,
    retrieve=_of_request("thumbnail", "Get the thumbnail", ("webp",), ("image/webp",)),
)
describe(
    PreviewViewSet,
    retrieve=_of_request("preview", "Get the newest preview", tuple(CONTENT_TYPES), _MEDIA),
)

# --- Batches ----------------------------------------------------------------------------------------------------------

extend_schema_serializer(component_name="BatchSubmit")(BatchSerializer)
describe(
    BatchViewSet,
    create=operation(
        "submitBatch",
        "Submit a batch",
        "Either all requests are accepted or none. The error response names every invalid value of every request."
        " `batchOptions.priority` is the default for requests without `priority`.",
        tag="Batches",
        request=BatchSerializer,
        example=examples.BATCH_SUBMIT,
        parameters=[
            *IDEMPOTENCY_KEY,
            *PREFER,
            CANCEL_AFTER,
            DRY_RUN,
            header(
                "Location",
                {"type": "string", "format": "uri"},
                "The URL of the batch; not after a dry run.",
                *(200, 202),
                required=False,
            ),
        ],
        responses=BAD_BODY
        | exception_response(KeyReused)
        | OVER_BUDGET
        | exception_response(RateExceeded)
        | {
            200: response(
                either("BatchOrDryRun", schemas.BatchOrWaited, schemas.BatchDryRun),
                "All requests are queued; after `Prefer: wait`, they have ended.",
                queued=examples.BATCH_ACCEPTED,
                dry_run=examples.BATCH_DRY_RUN,
            ),
            202: response(
                schemas.BatchAccepted, "After `Prefer: wait`: not all have ended yet.", queued=examples.BATCH_ACCEPTED
            ),
        },
    ),
    retrieve=operation(
        "getBatch",
        "Get the status of a batch",
        "Includes all of its requests, in the order of submission.",
        tag="Batches",
        parameters=[OF_BATCH, *PREFER],
        responses=exception_response(BatchNotFound)
        | {200: response(schemas.Batch, "The batch and its status.", in_progress=examples.BATCH)},
    ),
    destroy=operation(
        "cancelBatch",
        "Cancel a batch",
        "Cancels the batch's queued and in-progress requests.",
        tag="Batches",
        parameters=[OF_BATCH],
        responses=exception_response(BatchNotFound)
        | FORBIDDEN
        | {
            200: response(
                schemas.BatchCancelled, "The unfinished requests are cancelled.", cancelled=examples.BATCH_CANCELLED
            )
        },
    ),
)

# --- Queue and health -------------------------------------------------------------------------------------------------

describe(
    QueueViewSet,
    status=operation(
        "getQueueStatus",
        "Get the status of the queue",
        "The same for all users.",
        tag="Queue",
        responses={200: response(schemas.QueueStatus, "The queue.", queue=examples.QUEUE_STATUS)},
    ),
    metrics=operation(
        "getMetrics",
        "Get the statistics of the last days",
        "The same for all users.",
        tag="Queue",
        responses={200: response(schemas.Metrics, "The statistics.", metrics=examples.METRICS)},
    ),
)

operation(
    "getHealth",
    "Check whether the process is up",
    "Checks neither the database, the broker nor the workers.",
    tag="Health",
    security=_PUBLIC,
    responses={200: response(schemas.Health, "The process is up.", up={"status": "ok"})},
)(health.healthz)
operation(
    "getReadiness",
    "Check whether all parts are up",
    "Checks the database, the broker and at least one worker.",
    tag="Health",
    security=_PUBLIC,
    responses={
        200: response(schemas.Readiness, "All parts are up.", ready=examples.READY),
        503: response(schemas.Readiness, "A part is missing or unreachable.", broker_unreachable=examples.NOT_READY),
    },
)(health.readyz)
