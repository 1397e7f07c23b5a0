"""The endpoints of API keys. A key may neither see nor change keys."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from rest_framework import status, viewsets
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from generation import identifiers
from generation.access import api_keys
from generation.access.client_address import client_address
from generation.api.errors import NotFound
from generation.api.idempotency import current_user
from generation.api.key_serializers import ChangeKeySerializer, NewKeySerializer, RotateSerializer, columns
from generation.api.serializers import validate
from generation.models import ApiKey
from generation.requests.representations import timestamp


class KeyNotFound(NotFound):
    """The key does not exist, is revoked, or belongs to another user."""

    default_detail = "API key not found"


class TooManyKeys(APIException):
    """The user has as many keys as one may have."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = f"You have {api_keys.MOST_KEYS} API keys; revoke one first"
    default_code = "too_many_keys"


def representation(key: ApiKey) -> dict[str, Any]:
    """Return the key as its owner sees it."""
    return {
        "keyId": key.pk,
        "prefix": key.prefix,
        "name": key.name,
        "scopes": key.scopes,
        "expiresAt": timestamp(key.expires_at),
        "rate": key.rate or None,
        "dailyBudgetUsd": None if key.daily_budget is None else float(key.daily_budget),
        "maxActive": key.max_active,
        "maxPriority": key.max_priority or None,
        "projectIds": key.allowed_projects,
        "models": key.allowed_models,
        "createdAt": timestamp(key.created_at),
        "lastUsedAt": timestamp(key.last_used_at and key.last_used_at.replace(second=0, microsecond=0)),
        "lastUsedFrom": key.last_used_from or None,
        "previousUntil": timestamp(key.previous_until),
    }


class KeyViewSet(viewsets.ViewSet):
    """Make, see, change, rotate and revoke one's own API keys."""

    def create(self, request: Request) -> Response:
        values = columns(validate(NewKeySerializer, request.data))
        try:
            key, secret = api_keys.create(current_user(request), values, address=_address(request))
        except api_keys.TooManyKeysError:
            raise TooManyKeys from None
        return Response(representation(key) | {"key": secret}, status=status.HTTP_201_CREATED, headers=_NOT_STORED)

    def list(self, request: Request) -> Response:
        # At most MOST_KEYS, so they are one page.
        results = [representation(key) for key in api_keys.of_owner(current_user(request))]
        return Response({"results": results, "next": None, "previous": None})

    def retrieve(self, request: Request, key_id: str) -> Response:
        return Response(representation(_find(request, key_id)))

    def partial_update(self, request: Request, key_id: str) -> Response:
        key = _find(request, key_id)
        values = columns(validate(ChangeKeySerializer, request.data), request.data)
        if values:
            api_keys.change(key, values, by=current_user(request), address=_address(request))
        return Response(representation(key))

    def destroy(self, request: Request, key_id: str) -> Response:
        if not api_keys.revoke(_find(request, key_id), by=current_user(request), address=_address(request)):
            raise KeyNotFound
        return Response(status=status.HTTP_204_NO_CONTENT)

    def rotate(self, request: Request, key_id: str) -> Response:
        key = _find(request, key_id)
        overlap = timedelta(hours=validate(RotateSerializer, request.data)["overlapHours"])
        secret = api_keys.rotate(key, overlap=overlap, by=current_user(request), address=_address(request))
        return Response(representation(key) | {"key": secret}, headers=_NOT_STORED)


#: An answer with a secret must be kept by no cache.
_NOT_STORED = {"Cache-Control": "no-store"}


def _find(request: Request, key_id: str) -> ApiKey:
    key = api_keys.of_owner(current_user(request)).filter(pk=identifiers.identifier(key_id)).first()
    if key is None:
        raise KeyNotFound
    return key


def _address(request: Request) -> str:
    return client_address(request._request)
