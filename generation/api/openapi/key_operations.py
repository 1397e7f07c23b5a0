"""Descriptions of the operations on API keys."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiResponse, extend_schema_serializer

from generation.api.key_serializers import ChangeKeySerializer, NewKeySerializer, RotateSerializer
from generation.api.keys import KeyNotFound, KeyViewSet, TooManyKeys
from generation.api.openapi import examples, schemas
from generation.api.openapi.helpers import (
    BAD_BODY,
    NO_KEYS,
    OF_KEY,
    describe,
    exception_response,
    operation,
    response,
)

extend_schema_serializer(component_name="NewApiKey")(NewKeySerializer)
extend_schema_serializer(component_name="ApiKeyChange")(ChangeKeySerializer)
extend_schema_serializer(component_name="ApiKeyRotation")(RotateSerializer)
describe(
    KeyViewSet,
    create=operation(
        "makeKey",
        "Make an API key",
        "The response has the secret, which no later call shows. A key is accepted wherever an access token is, but not"
        " here: no key may see or change keys. It has no rights of staff. `Idempotency-Key` is ignored.",
        tag="API keys",
        request=NewKeySerializer,
        example=examples.NEW_KEY,
        responses=BAD_BODY
        | NO_KEYS
        | exception_response(TooManyKeys)
        | {201: response(schemas.KeyWithSecret, "The key with its secret.", key=examples.KEY_WITH_SECRET)},
    ),
    list=operation(
        "listKeys",
        "List API keys",
        "The user's own keys that are not revoked, the newest first.",
        tag="API keys",
        responses=NO_KEYS | {200: response(schemas.Keys, "All keys.", keys=examples.KEYS)},
    ),
    retrieve=operation(
        "getKey",
        "Get an API key",
        "Without its secret.",
        tag="API keys",
        parameters=[OF_KEY],
        responses=NO_KEYS
        | exception_response(KeyNotFound)
        | {200: response(schemas.Key, "The key.", key=examples.KEY)},
    ),
    partial_update=operation(
        "changeKey",
        "Change an API key",
        "`null` removes a limit, and what is absent stays. Takes effect within 2 s, budgets within 5 s.",
        tag="API keys",
        parameters=[OF_KEY],
        request=ChangeKeySerializer,
        example={"name": "the press", "maxActive": None},
        responses=BAD_BODY
        | NO_KEYS
        | exception_response(KeyNotFound)
        | {200: response(schemas.Key, "The changed key.", key=examples.KEY)},
    ),
    destroy=operation(
        "revokeKey",
        "Revoke an API key",
        "Ends the key within 2 s. Requests that it has submitted go on.",
        tag="API keys",
        parameters=[OF_KEY],
        responses=NO_KEYS
        | exception_response(KeyNotFound)
        | {204: OpenApiResponse(None, description="The key is revoked.")},
    ),
    rotate=operation(
        "rotateKey",
        "Give an API key a new secret",
        "The previous secret stays valid for `overlapHours`, so that programs can be changed one after the other.",
        tag="API keys",
        parameters=[OF_KEY],
        request=RotateSerializer,
        example={"overlapHours": 24},
        responses=BAD_BODY
        | NO_KEYS
        | exception_response(KeyNotFound)
        | {200: response(schemas.KeyWithSecret, "The key with its new secret.", key=examples.KEY_WITH_SECRET)},
    ),
)
