"""What can be read, always within what the reader may see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.contrib.auth.models import User
from django.db.models import Q, QuerySet

from generation import names, prepared
from generation.identifiers import BATCH_ID, REQUEST_ID, oldest_request_id
from generation.models import GenerationBatch, GenerationRequest
from generation.prepared import Condition, Param

#: An id has the time of the web process and ``created_at`` the database's; their clocks agree to these seconds.
_CLOCKS_DIFFER_BY: Final = 600.0

_OF_OWNER: Final = Condition(Q(pk=Param("pk"), owner=Param("owner")))


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
    request_id = names.identifier(request_id)
    if user.is_staff:
        return any_request(request_id)
    # What cannot be an id is not looked up.
    return prepared.find(GenerationRequest, _OF_OWNER, pk=request_id, owner=user.pk) if _is_id(request_id) else None


def any_request(request_id: str) -> GenerationRequest | None:
    """The request of this id, for whom something else allows to see it."""
    request_id = names.identifier(request_id)
    return prepared.get(GenerationRequest, request_id) if _is_id(request_id) else None


def _is_id(text: str) -> bool:
    return REQUEST_ID.fullmatch(text) is not None


def batches_of(user: User) -> QuerySet[GenerationBatch]:
    """The batches that the user may see: one's own, and for staff all."""
    batches = GenerationBatch.objects.all()
    return batches if user.is_staff else batches.filter(owner=user)


def find_batch(batch_id: str, *, user: User) -> GenerationBatch | None:
    """The batch of this id, if the user may see it."""
    batch_id = names.identifier(batch_id)
    return batches_of(user).filter(pk=batch_id).first() if BATCH_ID.fullmatch(batch_id) else None


def batch_requests(batch: GenerationBatch) -> list[GenerationRequest]:
    """The requests of the batch, in the order in which they were submitted."""
    return list(batch.requests.order_by("pk"))
