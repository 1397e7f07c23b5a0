"""Building blocks of the descriptions of operations."""

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
from generation.api.openapi.schemas import Error, Forbidden, ValidationError
from generation.identifiers import BATCH_ID, REQUEST_ID

#: The responses of an operation, by status, or by status and media types.
Responses = dict[Any, Any]

COUNT: Final = {"type": "integer", "minimum": 0}
TEXT: Final = {"type": "string"}

# --- Responses --------------------------------------------------------------------------------------------------------


def response(schema: Any, description: str, **named_examples: Any) -> OpenApiResponse:
    """Return a response with a body and named examples of it."""
    shown = [OpenApiExample(name.replace("_", " "), value=value) for name, value in named_examples.items()]
    return OpenApiResponse(schema, description=description, examples=shown)


def error(description: str, message: str, code: str) -> OpenApiResponse:
    """Return an error response with this message and code."""
    return response(Error, description, **{code: {"error": message, "code": code}})


def exception_response(*kinds: type[APIException]) -> Responses:
    """Return the response of exceptions of the API with one status, described by the first lines of their
    docstrings."""
    descriptions = " ".join((kind.__doc__ or "").partition("\n")[0] for kind in kinds)
    bodies = {kind.default_code: {"error": str(kind.default_detail), "code": kind.default_code} for kind in kinds}
    return {kinds[0].status_code: response(Error, descriptions, **bodies)}


def either(name: str, *kinds: Any) -> PolymorphicProxySerializer:
    """Return the schema of a body of one of these kinds."""
    return PolymorphicProxySerializer(name, list(kinds), resource_type_field_name=None)


INVALID: Final = {400: response(ValidationError, "A value is invalid.", invalid=examples.INVALID)}
BAD_REQUEST: Final = either("BadRequest", ValidationError, Error)
BAD_BODY: Final = {
    400: response(
        BAD_REQUEST,
        "A value is invalid, or the body is not JSON.",
        invalid=examples.INVALID,
        not_JSON=examples.NOT_JSON,
    ),
    **exception_response(BodyTooLarge),
    UnsupportedMediaType.status_code: error(
        "The Content-Type is not `application/json`.",
        'Unsupported media type "text/plain" in request.',
        UnsupportedMediaType.default_code,
    ),
}
_NOT_SIGNED_IN: Final = {401: error("The token is missing or not valid.", "Access denied", "not_authenticated")}
_OUTAGE: Final = {
    503: error("The database is not reachable.", "The database is not reachable at the moment", "database_unavailable")
}
OVER_BUDGET: Final = {
    402: error(
        "The possible cost exceeds the rest of the owner's budget for this day (UTC).",
        "The budget is USD 5.00 a day: 4.92 is spent, 0.06 is reserved for active requests, 0.02 is left, and this may"
        " cost 0.05. A new day begins at 00:00 UTC.",
        "over_budget",
    )
}
_NOT_ALLOWED: Final = (
    "The API key lacks the scope for this, or does not allow this model, project or priority; or it belongs to another"
    " user, and your role does not permit this."
)
FORBIDDEN: Final = {
    403: response(
        Forbidden,
        _NOT_ALLOWED,
        scope_missing={
            "error": "The API key lacks the scope requests:write",
            "code": "scope_missing",
            "required": "requests:write",
        },
        not_allowed={
            "error": "The highest priority of this API key is normal.",
            "code": "not_allowed",
            "errors": [
                {"path": "priority", "msg": "The highest priority of this API key is normal.", "code": "not_allowed"}
            ],
        },
        permission_denied={"error": "You may not do this", "code": "permission_denied"},
    )
}
NO_KEYS: Final = {
    403: error("Called with an API key.", "You may not do this", "permission_denied"),
}
UNCHANGED: Final = {304: OpenApiResponse(None, description="Unchanged since the `ETag` in `If-None-Match`.")}

# --- Parameters and headers -------------------------------------------------------------------------------------------


def header(name: str, schema: dict[str, Any], description: str, *codes: int, required: bool = True) -> OpenApiParameter:
    """Return a header of the responses with these statuses."""
    return OpenApiParameter(
        name, schema, OpenApiParameter.HEADER, required=required, description=description, response=list(codes)
    )


def path_id(name: str, pattern: str, example: str, description: str) -> OpenApiParameter:
    """Return a path parameter with an id."""
    return OpenApiParameter(
        name,
        {"type": "string", "pattern": f"^{pattern}$"},
        OpenApiParameter.PATH,
        description=description,
        examples=[OpenApiExample("dragon", value=example)],
    )


def query(name: str, schema: dict[str, Any], description: str) -> OpenApiParameter:
    """Return a query parameter."""
    return OpenApiParameter(name, schema, description=description)


def request_header(name: str, schema: dict[str, Any], description: str) -> OpenApiParameter:
    """Return an optional request header."""
    return OpenApiParameter(name, schema, OpenApiParameter.HEADER, description=description)


OF_REQUEST: Final = path_id("request_id", REQUEST_ID.pattern, examples.REQUEST_ID, "`requestId` of a request.")
OF_KEY: Final = path_id("key_id", "[0-9A-Za-z]{8}", examples.KEY_ID, "`keyId` of an API key.")
OF_BATCH: Final = path_id("batch_id", BATCH_ID.pattern, examples.BATCH_ID, "`batchId` of a batch.")
IDEMPOTENCY_KEY: Final = (
    request_header(
        "Idempotency-Key",
        {"type": "string", "pattern": r"^[!-~]([ -~]{0,253}[!-~])?$"},
        "Chosen by the client. The same key and body within 24 h get the first response again and create nothing.",
    ),
    header(
        "Idempotent-Replayed", {"const": "true"}, "Present if this is the first response again.", 200, required=False
    ),
)
ETAG: Final = (
    request_header("If-None-Match", TEXT, "The `ETag` of a cached response."),
    header("ETag", {"type": "string", "pattern": '^"[0-9a-f]+"$'}, "Changes with the response body.", 200, 304),
    header("Cache-Control", TEXT, "Which caches may store the response, and for how long.", 200, 304),
)
PREFER: Final = (
    request_header(
        "Prefer",
        TEXT,
        "`wait=30` answers when the requests have ended, or after so many seconds; `wait` alone is 60, the most. Only"
        " the process of live updates waits, to which the proxy sends such calls; elsewhere it is ignored (RFC 7240).",
    ),
    header("Preference-Applied", TEXT, "`wait=30`: the server has waited.", 200, required=False),
    header("Vary", TEXT, "Contains `Prefer`.", 200),
)
DRY_RUN: Final = query(
    "dryRun",
    {"type": "boolean", "default": False},
    "`true` stores nothing and answers with the price and an estimate; or with the error that the call would get,"
    " except 429.",
)
#: From 5 s to 24 h.
_DEADLINE: Final = (
    "^(([5-9]|[1-9][0-9]{1,3}|[1-7][0-9]{4}|8[0-5][0-9]{3}|86[0-3][0-9]{2}|86400)s"
    "|([1-9]|[1-9][0-9]{1,2}|1[0-3][0-9]{2}|14[0-3][0-9]|1440)m|([1-9]|1[0-9]|2[0-4])h)$"
)
CANCEL_AFTER: Final = request_header(
    "Cancel-After",
    {"type": "string", "pattern": _DEADLINE},
    "`90s`, `5m` or `2h`, from 5 s to 24 h: what has not ended then is cancelled, with `cancelReason` `deadline`.",
)
_CHALLENGE: Final = header("WWW-Authenticate", {"const": 'Bearer realm="api"'}, "The authentication scheme.", 401)
_RETRY_AFTER: Final = header("Retry-After", COUNT, "Seconds to wait before a retry.", 429, 503)
_RATE: Final = (
    header("RateLimit-Limit", COUNT, "Calls allowed per period.", 429),
    header("RateLimit-Remaining", COUNT, "Calls left in this period.", 429),
    header("RateLimit-Reset", COUNT, "Seconds until all calls are available again.", 429),
)

# --- Operations -------------------------------------------------------------------------------------------------------


def operation(
    operation_id: str,
    summary: str,
    description: str,
    *,
    tag: str,
    responses: Responses,
    request: Any = None,
    example: Any = None,
    parameters: Sequence[OpenApiParameter] = (),
    security: list[dict[str, list[str]]] | None = None,
    rate: Sequence[OpenApiParameter] = _RATE,
) -> Any:
    """Return the description of an operation. It needs a token unless ``security`` is given; an empty list is none.
    ``rate`` has the headers of 429."""
    common: Responses = {} if security == [] else _NOT_SIGNED_IN | FORBIDDEN
    if tag != "Health":  # which describes its own 503
        common = common | _OUTAGE
    responses = common | responses
    headers = [
        *([_CHALLENGE] if 401 in responses else []),
        *([_RETRY_AFTER] if 503 in common else []),
        *(rate if 429 in responses else []),
    ]
    auth: Any = security
    media_type = next(iter(request)) if isinstance(request, dict) else "application/json"
    return extend_schema(
        operation_id=operation_id,
        summary=summary,
        description=description,
        tags=[tag],
        request=request,
        responses=dict(
            sorted(responses.items(), key=lambda item: item[0][0] if isinstance(item[0], tuple) else item[0])
        ),
        parameters=[*parameters, *headers],
        examples=[OpenApiExample("dragon", value=example, request_only=True, media_type=media_type)]
        if example
        else None,
        auth=auth,
    )


def describe(view: type[APIView], **operations: Any) -> None:
    """Attach descriptions to the view's methods, by the methods' names."""
    for method, attach_to in operations.items():
        attach_to(isolate_view_method(view, method))
