"""Every call of the API, described from outside, so that the views stay what they do."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema_serializer

from generation.access.rate_limits import RateExceeded
from generation.api import health
from generation.api.batches import BatchNotFound, BatchViewSet
from generation.api.errors import NotFound
from generation.api.idempotency import KeyReused
from generation.api.images import ImageViewSet, PictureGone, RangeNotSatisfiable, ThumbnailViewSet
from generation.api.openapi import examples, schemas
from generation.api.openapi.helpers import (
    BAD_BODY,
    ETAG,
    FOR_OTHERS,
    IDEMPOTENCY_KEY,
    INVALID,
    OF_BATCH,
    OF_REQUEST,
    OVER_BUDGET,
    TEXT,
    UNCHANGED,
    answer,
    call,
    describe,
    error,
    header,
    path_id,
    query,
    refusal,
    request_header,
)
from generation.api.queue import QueueViewSet
from generation.api.requests import GenerationViewSet, RequestNotCancellable, RequestNotRetryable
from generation.api.serializers import BatchSerializer, ListSerializer, SubmitSerializer
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

_NOBODY: Final[list[dict[str, list[str]]]] = []

# --- Tokens -----------------------------------------------------------------------------------------------------------

_TOKEN_REFUSED: Final = {401: error("The token does not hold.", "Invalid token", "token_not_valid")}

extend_schema_serializer(component_name="Credentials")(ObtainSerializer)
extend_schema_serializer(component_name="RefreshToken", exclude_fields=["access"])(RefreshSerializer)
extend_schema_serializer(component_name="AnyToken")(VerifySerializer)
describe(
    ObtainView,
    post=call(
        "obtainToken",
        "Sign in",
        "Name and password against an access and a refresh token. At most 10 times in a minute for one name and for one"
        " address.",
        tag="Tokens",
        security=_NOBODY,
        request=ObtainSerializer,
        example=examples.CREDENTIALS,
        answers=BAD_BODY
        | refusal(RateExceeded)
        | {
            200: answer(schemas.Token, "Signed in.", tokens=examples.TOKEN),
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
    post=call(
        "refreshToken",
        "Get a new pair of tokens",
        "A refresh token is used up by this: keep the new one. A changed password ends every token.",
        tag="Tokens",
        security=_NOBODY,
        request=RefreshSerializer,
        example=examples.REFRESH,
        answers=BAD_BODY | _TOKEN_REFUSED | {200: answer(schemas.Token, "A new pair.", tokens=examples.TOKEN)},
    ),
)
describe(
    VerifyView,
    post=call(
        "verifyToken",
        "Ask whether a token holds",
        "Takes access and refresh tokens.",
        tag="Tokens",
        security=_NOBODY,
        request=VerifySerializer,
        example=examples.VERIFY,
        answers=BAD_BODY
        | _TOKEN_REFUSED
        | {200: answer({"type": "object", "maxProperties": 0}, "It holds.", holds={})},
    ),
)

# --- Requests ---------------------------------------------------------------------------------------------------------

describe(
    GenerationViewSet,
    submit=call(
        "submitRequest",
        "Submit a request",
        "Stores the request and queues it by its priority. What is answered here is not lost any more. What the"
        " owner's budget for the day does not cover is answered with 402 and `over_budget`.",
        tag="Requests",
        request=SubmitSerializer,
        example=examples.SUBMIT,
        parameters=[
            *IDEMPOTENCY_KEY,
            header("Location", {"type": "string", "format": "uri"}, "The address of its status.", 200),
        ],
        answers=BAD_BODY
        | refusal(KeyReused)
        | OVER_BUDGET
        | refusal(RateExceeded)
        | {200: answer(schemas.Accepted, "It is queued.", queued=examples.ACCEPTED)},
    ),
    retrieve=call(
        "getRequest",
        "Ask how a request stands",
        "With the picture in `result.imageData` once it is completed.",
        tag="Requests",
        parameters=[
            OF_REQUEST,
            query("imageData", {"type": "boolean", "default": True}, "`false` leaves `result.imageData` out."),
            *ETAG,
        ],
        answers=INVALID
        | UNCHANGED
        | refusal(NotFound)
        | refusal(PictureGone)
        | {
            200: answer(
                schemas.RequestSerializer,
                "How it stands.",
                completed=examples.COMPLETED,
                queued=examples.QUEUED,
                in_progress=examples.IN_PROGRESS,
                failed=examples.FAILED,
            ),
        },
    ),
    list=call(
        "listRequests",
        "List requests",
        "The newest first, one's own, and for staff everybody's. `next` and `previous` are the addresses of the pages"
        " beside this one, and the last page costs what the first does.",
        tag="Requests",
        parameters=[ListSerializer],  # type: ignore[list-item]  # each of its fields is one
        answers=INVALID | {200: answer(schemas.RequestPage, "One page.", page=examples.PAGE)},
    ),
    cancel=call(
        "cancelRequest",
        "Cancel a request",
        "What is queued or in progress is over at once; a picture that arrives later is dropped.",
        tag="Requests",
        parameters=[OF_REQUEST],
        answers=refusal(RequestNotCancellable)
        | FOR_OTHERS
        | {200: answer(schemas.Cancelled, "It is cancelled.", cancelled=examples.CANCELLED)},
    ),
    retry=call(
        "retryRequest",
        "Retry a request",
        "A failed or cancelled request goes back to queued, with a fresh set of attempts. The owner's"
        " budget for the day has to cover it.",
        tag="Requests",
        parameters=[OF_REQUEST],
        answers=refusal(NotFound)
        | FOR_OTHERS
        | refusal(RequestNotRetryable)
        | OVER_BUDGET
        | refusal(RateExceeded)
        | {200: answer(schemas.Accepted, "It is queued.", queued=examples.ACCEPTED)},
    ),
)

# --- Pictures ---------------------------------------------------------------------------------------------------------

_MEDIA: Final = tuple(CONTENT_TYPES.values())
_SIGNED_OR_SIGNED_IN: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"session": []}, {"signature": []}]


def _picture(kind: str, title: str, extensions: tuple[str, ...], media_types: tuple[str, ...]) -> Any:
    suffix = rf"(\.({'|'.join(extensions)}))?"
    also = ", or of the one that was asked for" if kind == "image" else ""
    return call(
        f"get{kind.title()}",
        title,
        "The bytes, for whoever is signed in and may see the request, or has the signed address out of its `result`.",
        tag="Pictures",
        security=_SIGNED_OR_SIGNED_IN,
        parameters=[
            path_id(
                "request_id",
                REQUEST_ID.pattern + suffix,
                examples.REQUEST_ID,
                f"`requestId`, to which the extension of the {kind}'s format may be added{also}.",
            ),
            query("expires", TEXT, "In a signed address: when it stops working, in seconds since 1970."),
            request_header("Range", TEXT, "One part of the bytes, such as `bytes=0-1023`."),
            request_header("If-Range", TEXT, "The `ETag` to which `Range` refers."),
            *ETAG,
            header("Accept-Ranges", {"const": "bytes"}, "Parts can be asked for.", 200, 206),
            header("Content-Disposition", TEXT, "A name for the file.", 200, 206),
            header("Content-Range", TEXT, "Which part it is, and of how many bytes.", 206, 416),
        ],
        answers=UNCHANGED
        | refusal(NotFound)
        | refusal(PictureGone)
        | refusal(RangeNotSatisfiable)
        | {
            (200, *media_types): OpenApiResponse(OpenApiTypes.BINARY, description="The picture."),
            (206, *media_types): OpenApiResponse(OpenApiTypes.BINARY, description="The part that was asked for."),
        },
    )


describe(
    ImageViewSet,
    retrieve=_picture("image", "Get the picture", tuple(CONTENT_TYPES), _MEDIA),
)
describe(
    ThumbnailViewSet,
    retrieve=_picture("thumbnail", "Get its small version", ("webp",), ("image/webp",)),
)

# --- Batches ----------------------------------------------------------------------------------------------------------

extend_schema_serializer(component_name="BatchSubmit")(BatchSerializer)
describe(
    BatchViewSet,
    create=call(
        "submitBatch",
        "Submit a batch",
        "All requests are accepted or none: every faulty value of every request is named. `batchOptions.priority` is"
        " for requests without one of their own.",
        tag="Batches",
        request=BatchSerializer,
        example=examples.BATCH_SUBMIT,
        parameters=[
            *IDEMPOTENCY_KEY,
            header("Location", {"type": "string", "format": "uri"}, "The address of the batch.", 200),
        ],
        answers=BAD_BODY
        | refusal(KeyReused)
        | OVER_BUDGET
        | refusal(RateExceeded)
        | {200: answer(schemas.BatchAccepted, "All are queued.", queued=examples.BATCH_ACCEPTED)},
    ),
    retrieve=call(
        "getBatch",
        "Ask how a batch stands",
        "With all of its requests, in the order in which they were submitted.",
        tag="Batches",
        parameters=[OF_BATCH],
        answers=refusal(BatchNotFound) | {200: answer(schemas.Batch, "How it stands.", in_progress=examples.BATCH)},
    ),
    destroy=call(
        "cancelBatch",
        "Cancel a batch",
        "Cancels what is queued or in progress of it.",
        tag="Batches",
        parameters=[OF_BATCH],
        answers=refusal(BatchNotFound)
        | FOR_OTHERS
        | {200: answer(schemas.BatchCancelled, "What was left is cancelled.", cancelled=examples.BATCH_CANCELLED)},
    ),
)

# --- The whole --------------------------------------------------------------------------------------------------------

describe(
    QueueViewSet,
    status=call(
        "getQueueStatus",
        "Ask how the queue stands",
        "The same for everybody.",
        tag="Queue",
        answers={200: answer(schemas.QueueStatus, "The queue.", queue=examples.QUEUE_STATUS)},
    ),
    metrics=call(
        "getMetrics",
        "Get the numbers of the last days",
        "The same for everybody.",
        tag="Queue",
        answers={200: answer(schemas.Metrics, "The numbers.", metrics=examples.METRICS)},
    ),
)

call(
    "getHealth",
    "Ask whether the process is up",
    "Looks at nothing else.",
    tag="Health",
    security=_NOBODY,
    answers={200: answer(schemas.Health, "It is.", up={"status": "ok"})},
)(health.healthz)
call(
    "getReadiness",
    "Ask whether everything is up",
    "The database, the broker and at least one worker.",
    tag="Health",
    security=_NOBODY,
    answers={
        200: answer(schemas.Readiness, "Everything is.", ready=examples.READY),
        503: answer(schemas.Readiness, "Something is missing.", broker_away=examples.NOT_READY),
    },
)(health.readyz)
