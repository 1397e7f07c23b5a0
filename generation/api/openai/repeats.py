"""Calls that a client sends again, which join the first one instead of paying for further images.

The official SDKs send no ``Idempotency-Key``, but count their retries in a header. So the requests of each call are
stored under a hash of the call, as an ``IdempotencyKey`` row whose key clients cannot send: it is not ASCII. A first
call replaces the row; a repeated one joins the newest. The row also counts the calls that wait, so that a client that
disconnects after its second call has begun does not cancel what that one waits for.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import transaction
from rest_framework.request import Request

from generation.access.grants import key_id_of
from generation.api.idempotency import KeyReused, client_key, current_user
from generation.db.functions import Now
from generation.models import GenerationRequest, IdempotencyKey, StatusChange
from generation.requests import idempotency, services
from generation.states import Reason, Status

_RETRY_COUNT: Final = "x-stainless-retry-count"
#: How long a repeated call joins the first one.
JOIN_WITHIN: Final = timedelta(minutes=15)
#: Replaces a row however young it is: a concurrent call may have written it after this one began.
_REPLACE: Final = timedelta(minutes=-15)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A call that waits for requests: its ``token`` in the row of this ``key``. ``joined`` if an earlier call has
    submitted them."""

    user: User
    key: str
    token: str
    request_ids: list[str]
    joined: bool


def submit_or_join(request: Request, submit: Callable[[], list[str]], *, content: str) -> Place:
    """Call ``submit``, which returns the ids of new requests, or join an earlier call that was the same by the hash of
    its ``content``.

    What was cancelled when the client of the earlier call left is queued again. Raises what ``submit`` does, and
    :class:`generation.api.idempotency.KeyReused`.
    """
    user, token = current_user(request), secrets.token_hex(8)
    hash_ = hashlib.sha256(f"{key_id_of(user)}\n{content}".encode()).hexdigest()
    if key := client_key(request):
        lifetime = idempotency.IDEMPOTENCY_LIFETIME
    else:
        key, lifetime = f"§{hash_}", JOIN_WITHIN if _is_repeated(request) else _REPLACE

    def act() -> dict[str, Any]:
        return {"requestIds": submit(), "waiting": [token]}

    with transaction.atomic():
        try:
            answer, joined = idempotency.run_idempotently(
                owner=user, key=key, fingerprint=hash_, act=act, lifetime=lifetime
            )
        except idempotency.KeyReusedError:
            raise KeyReused from None
        if joined:
            answer = _stored(user, key)
            answer["waiting"].append(token)
            _rows(user, key).update(answer=json.dumps(answer))
            _queue_again(user, answer["requestIds"])
    return Place(user=user, key=key, token=token, request_ids=answer["requestIds"], joined=joined)


def leave(place: Place) -> None:
    """Cancel those of the requests that were not sent to a vendor, unless another call waits for them."""
    with transaction.atomic():
        if not stop_waiting(place):
            services.cancel_unsent(user=place.user, request_ids=place.request_ids)


def stop_waiting(place: Place) -> bool:
    """Remove the call from those that wait. Return whether others wait for its requests."""
    with transaction.atomic():
        answer = _stored(place.user, place.key)
        if answer.get("requestIds") != place.request_ids:
            return False
        answer["waiting"] = [token for token in answer["waiting"] if token != place.token]
        _rows(place.user, place.key).update(answer=json.dumps(answer))
        return bool(answer["waiting"])


def _is_repeated(request: Request) -> bool:
    count = request.headers.get(_RETRY_COUNT, "")
    return count.isascii() and count.isdigit() and bool(count.strip("0"))


def _rows(user: User, key: str) -> Any:
    return IdempotencyKey.objects.filter(owner=user, key=key)


def _stored(user: User, key: str) -> dict[str, Any]:
    """Lock the row and return its answer, empty if it was deleted. The lock orders a leave and a join."""
    row = _rows(user, key).select_for_update().first()
    return json.loads(row.answer) if row else {}


def _queue_again(user: User, request_ids: list[str]) -> None:
    """Retry the requests that were cancelled since their client left, and not those that were cancelled on purpose."""
    cancelled = GenerationRequest.objects.filter(pk__in=request_ids, status=Status.CANCELLED)
    for request in cancelled.exclude(cancel_at__lte=Now()).order_by("pk"):
        newest = StatusChange.objects.filter(request=request).order_by("sequence").last()
        if newest and newest.reason == Reason.CLIENT_LEFT:
            with suppress(services.NotRetryableError):  # it was retried meanwhile
                services.queue_again(user=user, request=request)
