"""What can be read, always within what the reader may see."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from django.contrib.auth.models import User
from django.db.models import QuerySet

from generation import identifiers
from generation.db import queries
from generation.db.execution import fetch_all, fetch_one
from generation.identifiers import BATCH_ID, REQUEST_ID, oldest_request_id
from generation.models import GenerationBatch, GenerationRequest
from generation.requests.rows import read_request

#: An id has the time of the web process and ``created_at`` the database's; their clocks agree to these seconds.
_CLOCKS_DIFFER_BY: Final = 600.0


def visible_to(user: User) -> QuerySet[GenerationRequest]:
    """The requests that the user may see: one's own, and for staff all."""
    requests = GenerationRequest.objects.all()
    return requests if user.is_staff else requests.filter(owner=user)


def matching(requests: QuerySet[GenerationRequest], conditions: Mapping[str, Any]) -> QuerySet[GenerationRequest]:
    """Those of the requests that fulfil the conditions."""
    after = conditions.get("created_at__gt")
    if after is not None:
        # Ids begin with their time. So who asks again and again for what is new needs no index on ``created_at``.
        earliest = after.timestamp() - _CLOCKS_DIFFER_BY
        requests = requests.filter(pk__gte=oldest_request_id(int(earliest * 1_000_000)))
    return requests.filter(**conditions)


def find_request(request_id: str, *, user: User) -> GenerationRequest | None:
    """The request of this id, if the user may see it."""
    return _find(request_id, owner_id=None if user.is_staff else user.pk)


def any_request(request_id: str) -> GenerationRequest | None:
    """The request of this id, for whom something else allows to see it."""
    return _find(request_id, owner_id=None)


def _find(request_id: str, *, owner_id: int | None) -> GenerationRequest | None:
    request_id = identifiers.identifier(request_id)
    if REQUEST_ID.fullmatch(request_id) is None:
        return None
    row = fetch_one(queries.FIND, {"request": request_id, "owner": owner_id})
    return None if row is None else read_request(row)


def requests_by_id(request_ids: Collection[str]) -> dict[str, GenerationRequest]:
    """Return the requests of these ids that there are, for a caller that has checked who may see them."""
    rows = fetch_all(queries.FIND_ALL, {"requests": list(request_ids)})
    return {request.pk: request for request in map(read_request, rows)}


def batches_of(user: User) -> QuerySet[GenerationBatch]:
    """The batches that the user may see: one's own, and for staff all."""
    batches = GenerationBatch.objects.all()
    return batches if user.is_staff else batches.filter(owner=user)


def find_batch(batch_id: str, *, user: User) -> GenerationBatch | None:
    """The batch of this id, if the user may see it."""
    batch_id = identifiers.identifier(batch_id)
    return batches_of(user).filter(pk=batch_id).first() if BATCH_ID.fullmatch(batch_id) else None


def batch_requests(batch: GenerationBatch) -> list[GenerationRequest]:
    """The requests of the batch, in the order in which they were submitted."""
    return list(batch.requests.order_by("pk"))
