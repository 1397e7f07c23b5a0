"""What can be read, always within what the reader may see."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db.models import QuerySet

from generation.identifiers import BATCH_ID, REQUEST_ID
from generation.models import GenerationBatch, GenerationRequest


def visible_to(user: User) -> QuerySet[GenerationRequest]:
    """The requests that the user may see: one's own, and for staff all."""
    requests = GenerationRequest.objects.all()
    return requests if user.is_staff else requests.filter(owner=user)


def find_request(request_id: str, *, among: QuerySet[GenerationRequest]) -> GenerationRequest | None:
    """The request of this id, if it is among these. What cannot be an id is not looked up."""
    return among.filter(pk=request_id).first() if REQUEST_ID.fullmatch(request_id) else None


def find_batch(batch_id: str, *, user: User) -> GenerationBatch | None:
    """The batch of this id, if the user may see it."""
    batches = GenerationBatch.objects.all() if user.is_staff else GenerationBatch.objects.filter(owner=user)
    return batches.filter(pk=batch_id).first() if BATCH_ID.fullmatch(batch_id) else None


def batch_requests(batch: GenerationBatch) -> list[GenerationRequest]:
    """The requests of the batch, in the order in which they were submitted."""
    return list(batch.requests.order_by("pk"))
