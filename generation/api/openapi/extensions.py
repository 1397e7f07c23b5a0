"""What drf-spectacular cannot see by itself: the rules of our fields, our ways to sign in, and how calls follow on."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerExtension,
    OpenApiSerializerFieldExtension,
)
from drf_spectacular.openapi import AutoSchema

from generation.api.parsers import NUMBER_LIMIT
from generation.api.serializers import MAX_BATCH
from generation.requests.representations import RESERVED_METADATA

_Schema = dict[str, Any]

# What Python trims, of which regular expressions call some white space and some not.
_SPACE: Final = r"[\s\x1c-\x1f\x85]"
_VISIBLE: Final = r"[^\s\x1c-\x1f\x85]"
_JSON_VALUE: Final = {"$ref": "#/components/schemas/JsonValue"}
_COMPONENTS: Final = {
    "JsonValue": {
        "description": "Any JSON, with numbers of at most 64 bits.",
        "exclusiveMinimum": -NUMBER_LIMIT,
        "exclusiveMaximum": NUMBER_LIMIT,
        "items": _JSON_VALUE,
        "additionalProperties": _JSON_VALUE,
    }
}


class StringFieldExtension(OpenApiSerializerFieldExtension):
    """A string counts without the white space around it, which only a pattern can say."""

    target_class = "generation.api.fields.StringField"
    match_subclasses = True

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> _Schema:
        field = self.target
        if field.allow_blank:
            return {"type": "string"}
        if not field.trim_whitespace:
            return {"type": "string", "minLength": 1}
        shortest = field.min_length or 1
        from_first_to_last = _VISIBLE if shortest == 1 else rf"{_VISIBLE}[\s\S]{{{shortest - 2},}}{_VISIBLE}"
        return {"type": "string", "pattern": from_first_to_last}


class TextFieldExtension(StringFieldExtension):
    """Invisible characters do not count either, which the format stands for: a pattern would have to list them."""

    target_class = "generation.api.fields.TextField"
    match_subclasses = False
    priority = 1

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> _Schema:
        return super().map_serializer_field(auto_schema, direction) | {"format": "visible-text"}


class AspectRatioFieldExtension(OpenApiSerializerFieldExtension):
    """Its format has the bounds 1:4 and 4:1 besides, which a pattern cannot say."""

    target_class = "generation.api.serializers.AspectRatioField"
    priority = 1

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> _Schema:
        pattern = rf"^{_SPACE}*(square|portrait|landscape|[1-9][0-9]{{0,2}}:[1-9][0-9]{{0,2}}){_SPACE}*$"
        return {"type": "string", "pattern": pattern, "format": "aspect-ratio"}


class ModelFieldExtension(OpenApiSerializerFieldExtension):
    """Which names there are is data."""

    target_class = "generation.api.serializers.ModelField"
    priority = 1

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> _Schema:
        return {"type": "string", "maxLength": 255, "format": "model-name"}


class CursorFieldExtension(OpenApiSerializerFieldExtension):
    """Only we make cursors."""

    target_class = "generation.api.serializers.CursorField"
    priority = 1

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> _Schema:
        return {"type": "string", "format": "cursor"}


class MetadataExtension(OpenApiSerializerExtension):
    """The client's own keys stand beside ours."""

    target_class = "generation.api.serializers.MetadataSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: AutoSchema, direction: Any) -> _Schema:
        schema: _Schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        schema |= {"additionalProperties": _JSON_VALUE}
        if set(RESERVED_METADATA) <= set(schema["properties"]):  # of an answer
            return schema
        return schema | {"propertyNames": {"not": {"enum": list(RESERVED_METADATA)}}}


class BatchExtension(OpenApiSerializerExtension):
    """How many requests make a batch, which drf-spectacular overlooks."""

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
            "description": "`access` of the answer of `POST /api/token`.",
        }


class SessionScheme(OpenApiAuthenticationExtension):
    """The session of the pages."""

    target_class = "generation.access.authentication.PageAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> _Schema:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "Of a browser that is signed in to the pages. What changes something needs `X-CSRFToken`.",
        }


#: Ways in that no authentication class of the views stands for.
_OTHER_SCHEMES: Final = {
    "signature": {
        "type": "apiKey",
        "in": "query",
        "name": "signature",
        "description": "In `imageUrl` and `thumbnailUrl`, beside `expires`.",
    },
}

_METHODS: Final = ("POST", "GET", "DELETE")
_BODIES: Final = ("Submit", "BatchSubmit", "BatchOptions", "Credentials", "RefreshToken", "AnyToken")

_NULL_IS_LEFT_OUT: Final = ("Submit", "Metadata", "BatchSubmit", "BatchOptions")


def tidy_addresses(endpoints: list[tuple[str, str, str, Any]], **_: Any) -> list[tuple[str, str, str, Any]]:
    """Each address once: without the slash that it may end with, and a picture's without its extension. In the order of
    the addresses, and of one address always in the same."""
    tidied = [(path.partition("{var}")[0].rstrip("/"), *more) for path, *more in endpoints]
    places = {path: place for place, (path, *_more) in reversed(list(enumerate(tidied)))}
    return sorted(tidied, key=lambda endpoint: (places[endpoint[0]], _METHODS.index(endpoint[2])))


def add_components(result: _Schema, **_: Any) -> _Schema:
    """Add what no serializer stands for, and what holds for whatever else a body has in it: it is overlooked, but it is
    checked."""
    result["components"]["securitySchemes"] |= _OTHER_SCHEMES
    schemas = result["components"]["schemas"]
    schemas |= _COMPONENTS
    for name in _BODIES:
        schemas[name]["additionalProperties"] = _JSON_VALUE
    for name in _NULL_IS_LEFT_OUT:
        properties = schemas[name]["properties"]
        for field in properties.keys() - set(schemas[name].get("required", ())):
            properties[field] = _or_null(properties[field])
    return result


def _or_null(schema: _Schema) -> _Schema:
    """Allow null beside an enumeration, which drf-spectacular makes a component of that does not have it."""
    found = dict(schema)
    reference = found.pop("$ref", None)
    alternatives = [{"$ref": reference}] if reference else found.pop("allOf", None)
    return {"oneOf": [*alternatives, {"type": "null"}]} | found if alternatives else schema


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
}
_OF_BATCH: Final = {"batch": "getBatch", "cancelBatch": "cancelBatch"}
_LINKS: Final = {
    "submitRequest": _links(_OF_REQUEST, requestId="requestId"),
    "submitBatch": _links(_OF_BATCH, batchId="batchId") | _links(_OF_REQUEST, requestId="requests/0/requestId"),
    "getBatch": _links(_OF_BATCH, batchId="batchId") | _links(_OF_REQUEST, requestId="requests/0/requestId"),
    "obtainToken": {
        "refresh": _with_body("refreshToken", "refresh", "refresh"),
        "verify": _with_body("verifyToken", "token", "access"),
    },
}


def add_links(result: _Schema, **_: Any) -> _Schema:
    """Say which answer names what another call is about."""
    for path in result["paths"].values():
        for operation in path.values():
            if links := _LINKS.get(operation["operationId"]):
                operation["responses"]["200"]["links"] = links
    return result
