"""Batches whose requests are in the statuses that a test needs."""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib.auth.models import User

from generation.models import GenerationBatch, GenerationRequest
from generation.requests import lifecycle, services
from generation.requests.claims import Claim
from generation.requests.new_request import NewRequest
from generation.states import Status
from tests.support.requests import FAILURE, PROMPT, RESULT


def batch_of(
    owner: User, count: int, *, limit: int | None = None, priorities: Sequence[str] = ()
) -> tuple[GenerationBatch, list[str]]:
    """A batch and the ids of its requests. ``limit`` is its ``maxConcurrent``."""
    drafts = [
        NewRequest(type="cover", prompt=PROMPT, priority=priority)
        for priority in [*priorities, *["normal"] * count][:count]
    ]
    batch, requests = services.submit_batch(owner=owner, drafts=drafts, priority="normal", max_concurrent=limit)
    return batch, [request.pk for request in requests]


def start(request_id: str, *, worker: str = "worker-1") -> Claim:
    """Claim what can be claimed."""
    claim = lifecycle.claim(request_id, worker=worker)
    assert claim is not None
    return claim


def bring_to(request_id: str, status: str, *, actor: User) -> None:
    """Take a queued request to the status. A cancelled one is cancelled before it starts."""
    if status == Status.CANCELLED:
        assert lifecycle.cancel([request_id], actor=actor)
    elif status != Status.QUEUED:
        claim = start(request_id)
        if status == Status.COMPLETED:
            assert lifecycle.complete(claim, result=RESULT, model="openmoji-17")
        elif status == Status.FAILED:
            assert lifecycle.fail(claim, FAILURE)


def batch_in(owner: User, statuses: Sequence[str]) -> tuple[GenerationBatch, list[str]]:
    """A batch of one request in each of the statuses, in this order."""
    batch, ids = batch_of(owner, len(statuses))
    for request_id, status in zip(ids, statuses, strict=True):
        bring_to(request_id, status, actor=owner)
    return batch, ids


def running(batch: GenerationBatch) -> int:
    """How many of the batch are in progress."""
    return GenerationRequest.objects.filter(batch=batch, status=Status.IN_PROGRESS).count()
