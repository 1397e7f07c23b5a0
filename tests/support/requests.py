"""Requests in the state that a test needs, brought there by the lifecycle itself."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User

from generation.db.functions import Now
from generation.models import GenerationRequest
from generation.requests import lifecycle
from generation.requests.claims import AttemptFailure, Claim
from generation.requests.new_request import NewRequest
from generation.states import Status
from generation.storage import images

PROMPT = "A friendly dragon playing in a garden"
FAILURE = AttemptFailure(message="The provider is away", code="unavailable", retryable=True, provider="clipart")
RESULT = {
    "image_key": "results/aa/bb/aabb.png",
    "thumbnail_key": "thumbnails/cc/dd/ccdd.webp",
    "content_type": "image/png",
    "width": 8,
    "height": 8,
    "bytes": 100,
    "sha256": "aabb",
    "provider": "clipart",
    "model": "openmoji-17",
    "seed": 1,
    "revised_prompt": "",
    "cached": False,
    "attribution": "",
}


def queued(owner: User, **more: Any) -> GenerationRequest:
    """A request that waits."""
    values: dict[str, Any] = {
        "type": "coloring-page",
        "prompt": PROMPT,
        "priority": "normal",
        "metadata": {},
        "max_attempts": 3,
    }
    batch = more.pop("batch", None)
    return lifecycle.submit([NewRequest(**values | more)], owner=owner, batch=batch)[0]


def claimed(owner: User, *, worker: str = "worker-1", **more: Any) -> Claim:
    """A request that a worker holds."""
    claim = lifecycle.claim(queued(owner, **more).pk, worker=worker)
    assert claim is not None
    return claim


def completed(owner: User, **more: Any) -> GenerationRequest:
    """A request that has its image, of bytes that no other request has, in the storage."""
    claim = claimed(owner, **more)
    keys = {}
    for folder, kind, name in (("results", "image/png", "image_key"), ("thumbnails", "image/webp", "thumbnail_key")):
        data = f"{folder} of {claim.request.pk}".encode()
        keys[name] = images.save(folder, hashlib.sha256(data).hexdigest(), kind, data)
    assert lifecycle.complete(claim, result=RESULT | keys, model="openmoji-17")
    claim.request.refresh_from_db()
    return claim.request


def in_status(owner: User, status: Status) -> GenerationRequest:
    """A request of that status."""
    if status == Status.QUEUED:
        return queued(owner)
    claim = claimed(owner)
    match status:
        case Status.COMPLETED:
            assert lifecycle.complete(claim, result=RESULT, model="openmoji-17")
        case Status.FAILED:
            assert lifecycle.fail(claim, FAILURE)
        case Status.CANCELLED:
            assert lifecycle.cancel([claim.request.pk], actor=owner)
    claim.request.refresh_from_db()
    return claim.request


def expire(*claims: Claim) -> None:
    """Let the leases of these run out."""
    ids = [claim.request.pk for claim in claims]
    GenerationRequest.objects.filter(pk__in=ids).update(lease_expires_at=Now() - timedelta(seconds=1))


def back_in_queue(claim: Claim, *, delay: timedelta = timedelta(0)) -> None:
    """The attempt failed, another may follow."""
    assert lifecycle.retry_later(claim, FAILURE, delay=delay)
