"""What descriptions of calls are put together from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from drf_spectacular.drainage import isolate_view_method
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    PolymorphicProxySerializer,
    extend_schema,
)
from rest_framework.exceptions import APIException, UnsupportedMediaType
from rest_framework.views import APIView

from generation.api.errors import BodyTooLarge
from generation.api.openapi import examples
from generation.api.openapi.schemas import Error, ValidationError
from generation.identifiers import BATCH_ID, REQUEST_ID

#: What a call answers, by status, or by status and media types.
Answers = dict[Any, Any]

COUNT: Final = {"type": "integer", "minimum": 0}
TEXT: Final = {"type": "string"}

# --- Answers ----------------------------------------------------------------------------------------------------------


def answer(shape: Any, description: str, **shown: Any) -> OpenApiResponse:
    """An answer with a body, and examples of it by name."""
    named = [OpenApiExample(name.replace("_", " "), value=value) for name, value in shown.items()]
    return OpenApiResponse(shape, description=description, examples=named)


def error(description: str, message: str, code: str) -> OpenApiResponse:
    """An error of this wording and code."""
    return answer(Error, description, **{code: {"error": message, "code": code}})


def refusal(kind: type[APIException]) -> Answers:
    """The answer that this exception of ours becomes."""
    description = (kind.__doc__ or "").partition("\n")[0]
    return {kind.status_code: error(description, str(kind.default_detail), kind.default_code)}


INVALID: Final = {400: answer(ValidationError, "A value cannot be accepted.", invalid=examples.INVALID)}
BAD_BODY: Final = {
    400: answer(
        PolymorphicProxySerializer("BadRequest", [ValidationError, Error], resource_type_field_name=None),
        "A value cannot be accepted, or the body is no JSON.",
        invalid=examples.INVALID,
        not_JSON=examples.NOT_JSON,
    ),
    **refusal(BodyTooLarge),
    UnsupportedMediaType.status_code: error(
        "The body is not declared as `application/json`.",
        'Unsupported media type "text/plain" in request.',
        UnsupportedMediaType.default_code,
    ),
}
_NOT_SIGNED_IN: Final = {401: error("No token, or one that does not hold.", "Access denied", "not_authenticated")}
_OUTAGE: Final = {
    503: error("The database is not reachable.", "The database is not reachable at the moment", "database_unavailable")
}
OVER_BUDGET: Final = {
    402: error(
        "It may cost more than is left of the owner's budget for this day (UTC).",
        "The budget is USD 5.00 a day: 4.92 is spent and 0.06 set aside for what waits; 0.02 is left, and this may cost"
        " 0.05. A new day begins at 00:00 UTC.",
        "over_budget",
    )
}
FOR_OTHERS: Final = {
    403: error("It is somebody else's, and your role does not allow that.", "You may not do this", "permission_denied")
}
UNCHANGED: Final = {304: OpenApiResponse(None, description="It is still what `If-None-Match` names.")}

# --- Parameters and headers -------------------------------------------------------------------------------------------


def header(name: str, schema: dict[str, Any], description: str, *codes: int, required: bool = True) -> OpenApiParameter:
    """A header of the answers with these statuses."""
    return OpenApiParameter(
        name, schema, OpenApiParameter.HEADER, required=required, description=description, response=list(codes)
    )


def path_id(name: str, pattern: str, example: str, description: str) -> OpenApiParameter:
    """An id in an address."""
    return OpenApiParameter(
        name,
        {"type": "string", "pattern": f"^{pattern}$"},
        OpenApiParameter.PATH,
        description=description,
        examples=[OpenApiExample("dragon", value=example)],
    )


def query(name: str, schema: dict[str, Any], description: str) -> OpenApiParameter:
    """A query parameter."""
    return OpenApiParameter(name, schema, description=description)


def request_header(name: str, schema: dict[str, Any], description: str) -> OpenApiParameter:
    """A header that clients may send."""
    return OpenApiParameter(name, schema, OpenApiParameter.HEADER, description=description)


OF_REQUEST: Final = path_id("request_id", REQUEST_ID.pattern, examples.REQUEST_ID, "`requestId` of a submit's answer.")
OF_BATCH: Final = path_id("batch_id", BATCH_ID.pattern, examples.BATCH_ID, "`batchId` of a batch's answer.")
IDEMPOTENCY_KEY: Final = (
    request_header(
        "Idempotency-Key",
        {"type": "string", "pattern": r"^[!-~]([ -~]{0,253}[!-~])?$"},
        "Made up by the client. The same key and body within 24 h get the first answer again and create nothing.",
    ),
    header("Idempotent-Replayed", {"const": "true"}, "This is the first answer again.", 200, required=False),
)
ETAG: Final = (
    request_header("If-None-Match", TEXT, "The `ETag` of an answer that is known."),
    header("ETag", {"type": "string", "pattern": '^"[0-9a-f]+"$'}, "Changes with the answer.", 200, 304),
    header("Cache-Control", TEXT, "Who may keep the answer, and for how long.", 200, 304),
)
_CHALLENGE: Final = header("WWW-Authenticate", {"const": 'Bearer realm="api"'}, "How to sign in.", 401)
_RETRY_AFTER: Final = header("Retry-After", COUNT, "Seconds to wait.", 429, 503)
_RATE: Final = (
    header("RateLimit-Limit", COUNT, "How many are allowed in the time.", 429),
    header("RateLimit-Remaining", COUNT, "How many of them are left.", 429),
    header("RateLimit-Reset", COUNT, "Seconds until all of them are there again.", 429),
)

# --- A call -----------------------------------------------------------------------------------------------------------


def call(
    operation_id: str,
    summary: str,
    description: str,
    *,
    tag: str,
    answers: Answers,
    request: Any = None,
    example: Any = None,
    parameters: Sequence[OpenApiParameter] = (),
    security: list[dict[str, list[str]]] | None = None,
) -> Any:
    """The description of one call. It wants a token unless ``security`` says otherwise; an empty list is nothing."""
    common: Answers = {} if security == [] else _NOT_SIGNED_IN
    if tag != "Health":  # which has its own word for it
        common = common | _OUTAGE
    answers = common | answers
    headers = [
        *([_CHALLENGE] if 401 in answers else []),
        *([_RETRY_AFTER] if 503 in common else []),
        *(_RATE if 429 in answers else []),
    ]
    auth: Any = security
    return extend_schema(
        operation_id=operation_id,
        summary=summary,
        description=description,
        tags=[tag],
        request=request,
        responses=dict(sorted(answers.items(), key=lambda pair: pair[0][0] if isinstance(pair[0], tuple) else pair[0])),
        parameters=[*parameters, *headers],
        examples=[OpenApiExample("dragon", value=example, request_only=True)] if example else None,
        auth=auth,
    )


def describe(view: type[APIView], **calls: Any) -> None:
    """Attach the descriptions of calls to the methods of the view that answer them."""
    for method, description in calls.items():
        description(isolate_view_method(view, method))
