"""Extensions of drf-spectacular: rules of custom fields, authentication schemes, and links between operations."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerExtension,
    OpenApiSerializerFieldExtension,
)
from drf_spectacular.openapi import AutoSchema

from generation.access.rate_limits import RATE
from generation.api.key_serializers import ModelsField
from generation.api.parsers import NUMBER_LIMIT
from generation.api.serializers import MAX_BATCH
from generation.models.requests import MAX_WEBHOOK_URL
from generation.requests.representations import RESERVED_METADATA

_Schema = dict[str, Any]

# The characters that Python's str.strip() removes; `\s` of regular expressions does not match all of them.
_SPACE: Final = r"[\s\x1c-\x1f\x85]"
_VISIBLE: Final = r"[^\s\x1c-\x1f\x85]"
_JSON_VALUE: Final = {"$ref": "#/components/schemas/JsonValue"}
_COMPONENTS: Final = {
    "JsonValue": {
        "description": "Any JSON value, with numbers of at most 64 bits.",
        "exclusiveMinimum": -NUMBER_LIMIT,
        "exclusiveMaximum": NUMBER_LIMIT,
        "items": _JSON_VALUE,
        "additionalProperties": _JSON_VALUE,
    }
}


class StringFieldExtension(OpenApiSerializerFieldExtension):
    """Describe the minimum length without surrounding white space, which only a pattern can express."""

    target_class = "generation.api.fields.StringField"
    match_subclasses = True

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> _Schema:
        field = self.target
        if field.allow_blank:
            return {"type": "string"}
        if not field.trim_whitespace:
            return {"type": "string", "minLength": 1}
        shortest = field.min_length or 1
        pattern = _VISIBLE if shortest == 1 else rf"{_VISIBLE}[\s\S]{{{shortest - 2},}}{_VISIBLE}"
        return {"type": "string", "pattern": pattern}


class TextFieldExtension(StringFieldExtension):
    """Add a format for the rule that invisible characters do not count: a pattern would have to list them."""

    target_class = "generation.api.fields.TextField"
    match_subclasses = False
    priority = 1

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> _Schema:
        return super().map_serializer_field(auto_schema, direction) | {"format": "visible-text"}


class AspectRatioFieldExtension(OpenApiSerializerFieldExtension):
    """Add a format for the bounds 1:4 and 4:1, which a pattern cannot express."""

    target_class = "generation.api.serializers.AspectRatioField"
    priority = 1

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> _Schema:
        pattern = rf"^{_SPACE}*(square|portrait|landscape|[1-9][0-9]{{0,2}}:[1-9][0-9]{{0,2}}){_SPACE}*$"
        return {"type": "string", "pattern": pattern, "format": "aspect-ratio"}


class ModelFieldExtension(OpenApiSerializerFieldExtension):
    """Describe model names by a format, since the valid names are rows of the database."""

    target_class = "generation.api.serializers.ModelField"
    priority = 1

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> _Schema:
        return {"type": "string", "maxLength": 255, "format": "model-name"}


class RateFieldExtension(OpenApiSerializerFieldExtension):
    """Describe rates by their pattern."""

    target_class = "generation.api.key_serializers.RateField"
    priority = 1

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> _Schema:
        return {"type": "string", "pattern": f"^{RATE.pattern}$"}


class FutureFieldExtension(OpenApiSerializerFieldExtension):
    """Add a format for times in the future, which a pattern cannot express."""

    target_class = "generation.api.key_serializers.FutureField"
    priority = 1

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> _Schema:
        return {"type": "string", "format": "future-date-time"}


class LaterFieldExtension(OpenApiSerializerFieldExtension):
    """Add a format for times up to some days ahead, which a pattern cannot express."""

    target_class = "generation.api.fields.LaterField"
    priority = 1

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> _Schema:
        return {"type": "string", "format": "later-date-time"}


class WebhookURLFieldExtension(OpenApiSerializerFieldExtension):
    """Add a format for the rules of webhook addresses, which a pattern cannot express."""

    target_class = "generation.api.webhook_serializers.WebhookURLField"
    priority = 1

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> _Schema:
        return {"type": "string", "maxLength": MAX_WEBHOOK_URL, "format": "webhook-url"}


class RecentFieldExtension(OpenApiSerializerFieldExtension):
    """Add a format for times of the last days, which a pattern cannot express."""

    target_class = "generation.api.webhook_serializers.RecentField"
    priority = 1

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> _Schema:
        return {"type": "string", "format": "recent-date-time"}


class AmountFieldExtension(OpenApiSerializerFieldExtension):
    """Add the cents."""

    target_class = "generation.api.key_serializers.AmountField"
    priority = 1

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> _Schema:
        return {"type": "number", "minimum": 0, "maximum": self.target.max_value, "multipleOf": 0.01}


class NamesFieldExtension(OpenApiSerializerFieldExtension):
    """Add the bounds of a list of names, which drf-spectacular ignores."""

    target_class = "generation.api.key_serializers.NamesField"
    match_subclasses = True
    priority = 1

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> _Schema:
        items: _Schema = {"type": "string", "format": "model-name"}
        if not isinstance(self.target, ModelsField):
            items = auto_schema._map_serializer_field(self.target.child, direction)
        return {"type": "array", "items": items, "minItems": 1, "maxItems": self.target.max_length}


class FileFieldExtension(OpenApiSerializerFieldExtension):
    """Describe files by their bytes; in a response they would be addresses."""

    target_class = "rest_framework.serializers.FileField"
    priority = 1

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> _Schema:
        return {"type": "string", "format": "binary"}


class CursorFieldExtension(OpenApiSerializerFieldExtension):
    """Describe cursors by a format, since only the server makes them."""

    target_class = "generation.api.serializers.CursorField"
    priority = 1

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> _Schema:
        return {"type": "string", "format": self.target.format}


class MetadataExtension(OpenApiSerializerExtension):
    """Allow the client's own keys in metadata, except the reserved ones."""

    target_class = "generation.api.serializers.MetadataSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: AutoSchema, direction: Any) -> _Schema:
        schema: _Schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        schema |= {"additionalProperties": _JSON_VALUE}
        if set(RESERVED_METADATA) <= set(schema["properties"]):  # the metadata of a response
            return schema
        return schema | {"propertyNames": {"not": {"enum": list(RESERVED_METADATA)}}}


class BatchExtension(OpenApiSerializerExtension):
    """Add the bounds of the number of requests in a batch, which drf-spectacular ignores."""

    target_class = "generation.api.serializers.BatchSerializer"

    def map_serializer(self, auto_schema: AutoSchema, direction: Any) -> _Schema:
        schema: _Schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        schema["properties"]["requests"] |= {"minItems": 1, "maxItems": MAX_BATCH}
        return schema


class BearerScheme(OpenApiAuthenticationExtension):
    """The access token."""

    target_class = "generation.access.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: AutoSchema) -> _Schema:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "The access token: `access` in the response of `POST /api/token`.",
        }


class SessionScheme(OpenApiAuthenticationExtension):
    """The session cookie of the HTML pages."""

    target_class = "generation.access.authentication.PageAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> _Schema:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "The session cookie of a signed-in browser. Calls that change data also need `X-CSRFToken`.",
        }


#: Authentication schemes without an authentication class in the views.
_OTHER_SCHEMES: Final = {
    "signature": {
        "type": "apiKey",
        "in": "query",
        "name": "signature",
        "description": "Part of `imageUrl`, `thumbnailUrl` and `previewUrl`, together with `expires`.",
    },
}

_METHODS: Final = ("POST", "GET", "PATCH", "DELETE")
_OF_KEYS: Final = ("NewApiKey", "ApiKeyChange", "ApiKeyRotation")
_OF_WEBHOOKS: Final = ("NewWebhook", "WebhookChange", "SecretRotation", "Redelivery")
_OF_OPENAI: Final = ("OpenAIImages", "OpenAIVga")
_BODIES: Final = (
    "Submit",
    "BatchSubmit",
    "BatchItem",
    "BatchOptions",
    "NewReference",
    "Decision",
    "PriorityChange",
    "Credentials",
    "RefreshToken",
    "AnyToken",
    *_OF_KEYS,
    *_OF_WEBHOOKS,
    *_OF_OPENAI,
)
#: Further enumerations that may be null, by component and field.
_NULLABLE: Final = (
    ("Decision", "approval"),
    ("Reference", "status"),
    ("WaitingFor", "status"),
    ("WaitingFor", "errorCode"),
    ("WaitingFor", "code"),
    ("Request", "estimate"),
    ("Request", "waitingFor"),
    ("BatchRequest", "estimate"),
    ("BatchRequest", "waitingFor"),
    ("DryRun", "estimate"),
    ("BatchDryRun", "estimate"),
)
#: Bodies in which null for an optional field means that the field is absent.
_NULL_MEANS_ABSENT: Final = (
    *(
        "Submit",
        "Metadata",
        "BatchSubmit",
        "BatchItem",
        "BatchOptions",
        "NewReference",
        "Decision",
        *_OF_KEYS,
        *_OF_WEBHOOKS,
        *_OF_OPENAI,
    ),
)


def tidy_addresses(endpoints: list[tuple[str, str, str, Any]], **_: Any) -> list[tuple[str, str, str, Any]]:
    """Return each path once, without a trailing slash and an image's without its extension, in a stable order.

    Paths keep the order of the URL configuration; the methods of a path are in the order of ``_METHODS``.
    """
    tidied = [(path.partition("{var}")[0].rstrip("/"), *more) for path, *more in endpoints]
    positions = {path: position for position, (path, *_more) in reversed(list(enumerate(tidied)))}
    return sorted(tidied, key=lambda endpoint: (positions[endpoint[0]], _METHODS.index(endpoint[2])))


def add_components(result: _Schema, **_: Any) -> _Schema:
    """Add the schemas without a serializer, and ``additionalProperties`` of bodies.

    Unknown keys of a body are ignored, but their values must be valid JSON within the parser's bounds.
    """
    result["components"]["securitySchemes"] |= _OTHER_SCHEMES
    schemas = result["components"]["schemas"]
    schemas |= _COMPONENTS
    for name in _BODIES:
        schemas[name]["additionalProperties"] = _JSON_VALUE
    for name in _NULL_MEANS_ABSENT:
        properties = schemas[name]["properties"]
        for field in properties.keys() - set(schemas[name].get("required", ())):
            properties[field] = _or_null(properties[field])
    for name, field in _NULLABLE:
        schemas[name]["properties"][field] = _or_null(schemas[name]["properties"][field])
    return result


def _or_null(schema: _Schema) -> _Schema:
    """Allow null in addition to an enumeration, since drf-spectacular makes a component of it that lacks null."""
    rest = dict(schema)
    reference = rest.pop("$ref", None)
    alternatives = [{"$ref": reference}] if reference else rest.pop("allOf", None)
    return {"oneOf": [*alternatives, {"type": "null"}]} | rest if alternatives else schema


def _links(operations: dict[str, str], **parameters: str) -> _Schema:
    named = {name: f"$response.body#/{pointer}" for name, pointer in parameters.items()}
    return {name: {"operationId": operation, "parameters": named} for name, operation in operations.items()}


def _with_body(operation: str, name: str, pointer: str) -> _Schema:
    return {"operationId": operation, "requestBody": {name: f"$response.body#/{pointer}"}}


_OF_REQUEST: Final = {
    "status": "getRequest",
    "cancel": "cancelRequest",
    "retry": "retryRequest",
    "image": "getImage",
    "thumbnail": "getThumbnail",
    "preview": "getPreview",
    "decide": "decideRequest",
    "provenance": "getProvenance",
}
_OF_BATCH: Final = {"batch": "getBatch", "cancelBatch": "cancelBatch"}
_OF_KEY: Final = {"key": "getKey", "changeKey": "changeKey", "rotateKey": "rotateKey", "revokeKey": "revokeKey"}
_OF_UPLOAD: Final = {"upload": "getUpload", "uploadedImage": "getUploadedImage", "deleteUpload": "deleteUpload"}
_OF_WEBHOOK: Final = {
    "webhook": "getWebhook",
    "changeWebhook": "changeWebhook",
    "rotateWebhookSecret": "rotateWebhookSecret",
    "testWebhook": "testWebhook",
    "deliveries": "listWebhookDeliveries",
    "deleteWebhook": "deleteWebhook",
}
_LINKS: Final = {
    "uploadImage": _links(_OF_UPLOAD, uploadId="uploadId"),
    "makeWebhook": _links(_OF_WEBHOOK, webhookId="webhookId"),
    "makeKey": _links(_OF_KEY, keyId="keyId"),
    "submitRequest": _links(_OF_REQUEST, requestId="requestId"),
    "submitBatch": _links(_OF_BATCH, batchId="batchId") | _links(_OF_REQUEST, requestId="requests/0/requestId"),
    "getBatch": _links(_OF_BATCH, batchId="batchId") | _links(_OF_REQUEST, requestId="requests/0/requestId"),
    "obtainToken": {
        "refresh": _with_body("refreshToken", "refresh", "refresh"),
        "verify": _with_body("verifyToken", "token", "access"),
    },
}


def add_links(result: _Schema, **_: Any) -> _Schema:
    """Add OpenAPI links: which value of a response is a parameter of another operation."""
    for path in result["paths"].values():
        for operation in path.values():
            if links := _LINKS.get(operation["operationId"]):
                success = next(code for code in ("200", "201") if code in operation["responses"])
                operation["responses"][success]["links"] = links
    return result
