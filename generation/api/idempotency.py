"""Helpers of several endpoints: current user, query flags, ETags, submit rate limit and idempotency keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.urls import reverse
from django.utils.http import parse_etags
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from generation import identifiers
from generation.access.client_address import client_address
from generation.access.grants import grant_of
from generation.access.rate_limits import Limit, consume
from generation.api.errors import InvalidValue
from generation.requests import idempotency, representations

_KEY_HEADER = "Idempotency-Key"
_LONGEST_KEY = 255


class KeyReused(APIException):
    """The key was already used with another body or URL."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "This Idempotency-Key was used with another request"
    default_code = "idempotency_key_reused"


def current_user(request: Request) -> User:
    """Return the authenticated user of the call."""
    assert isinstance(request.user, User)  # noqa: S101  narrows the type; the permission class rejects anonymous users
    return request.user


def flag(request: Request, name: str, *, default: bool) -> bool:
    """Return a query parameter that is ``true`` or ``false``. Raises :class:`InvalidValue`."""
    value = request.query_params.get(name)
    if value is None:
        return default
    if value not in {"true", "false"}:
        raise InvalidValue(name, "Must be true or false.", "invalid")
    return value == "true"


def matches_etag(request: Request, etag: str) -> bool:
    """Return whether ``If-None-Match`` contains this ETag, so that 304 can be sent."""
    known = parse_etags(request.headers.get("If-None-Match", ""))
    return not {"*", etag, f"W/{etag}"}.isdisjoint(known)


def limit_submits(request: Request, *, cost: int = 1) -> dict[str, int]:
    """Count ``cost`` submitted requests against the limits of the user, the IP address and the API key, and return the
    usage of the limit with the least left. Raises ``RateExceeded``."""
    limits = [
        Limit("user", str(request.user.pk), settings.SUBMIT_RATE),
        Limit("address", client_address(request._request), settings.SUBMIT_RATE),
    ]
    grant = grant_of(current_user(request))
    if grant and grant.rate:
        limits.append(Limit("key", grant.key_id, grant.rate))
    return consume(request._request, "submit", *limits, cost=cost)


def idempotent_response(request: Request, act: Callable[[], dict[str, Any]], *, location: tuple[str, str]) -> Response:
    """Call ``act`` and return its result as the response; with an ``Idempotency-Key``, call it once for each key.

    ``location`` is the URL name of the created object and the key of its id in the result. If ``act`` raises, the key
    stays unused. Raises :class:`KeyReused`, :class:`InvalidValue`.
    """
    key = client_key(request)
    if key is None:
        answer, replayed = act(), False
    else:
        try:
            answer, replayed = idempotency.run_idempotently(
                owner=current_user(request), key=key, fingerprint=fingerprint(request), act=act
            )
        except idempotency.KeyReusedError:
            raise KeyReused from None
    name, id_key = location
    headers = {"Location": representations.absolute(reverse(name, args=[answer[id_key]]))}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(answer, headers=headers)


def client_key(request: Request) -> str | None:
    """Return the ``Idempotency-Key`` of the call, if it has one. Raises :class:`InvalidValue`."""
    key = request.headers.get(_KEY_HEADER)
    if key is None:
        return None
    key = identifiers.identifier(key)
    if not (0 < len(key) <= _LONGEST_KEY and key.isascii() and key.isprintable()):
        raise InvalidValue(_KEY_HEADER, f"1 to {_LONGEST_KEY} printable ASCII characters.", "invalid")
    return key


def fingerprint(request: Request) -> str:
    """Return a hash of path, body and deadline. White space of the JSON and the order of its keys do not matter."""
    body = json.dumps(request.data, sort_keys=True, separators=(",", ":"))
    if deadline := request.headers.get("Cancel-After"):
        body += f"\n{deadline}"
    return hashlib.sha256(f"{request.path.rstrip('/')}\n{body}".encode()).hexdigest()
