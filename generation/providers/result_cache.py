"""The opt-in cache of results, which shares one image among an owner's identical requests.

The first request generates the image. Later ones get its result, and those that are claimed meanwhile wait for it in
the queue. If it fails, the next one generates the image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.core.files.storage import default_storage
from django.db import transaction

from generation.models import GenerationRequest, SharedPicture
from generation.models.options import changing
from generation.providers.catalogue import ModelChoice
from generation.queue import dispatch
from generation.states import Status

#: A request that waits for another one's image checks again after this time, in case the wake-up was lost.
LOOK_AGAIN_AFTER: Final = timedelta(minutes=1)
#: Statuses of a valid holder. A queued request is none: it has not begun, and may have a lower priority.
_HOLDER_STATUSES: Final = frozenset({Status.COMPLETED, Status.IN_PROGRESS})


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedResult:
    """The result of a cache lookup: the ``result`` of an earlier request, or the id of the ``holder``, the request that
    is generating the image. Without either, the caller is the new holder and has to generate it."""

    result: dict[str, Any] | None = None
    holder: str = ""


def get_or_start(request: GenerationRequest, choice: ModelChoice, *, hashes: Sequence[str] = ()) -> CachedResult:
    """Look for an image of an identical request. If there is none and no other request is generating it, this request
    becomes the holder. ``hashes`` are those of the images that are sent with it. Raises ``OSError`` if the storage
    cannot tell whether the earlier image still exists."""
    key = _key(request, choice, hashes)
    lost: str | None = None
    while True:
        with transaction.atomic():
            # One statement: between two, pruning could delete a row without a holder.
            shared, _ = SharedPicture.objects.select_for_update().get_or_create(pk=key)
            holder = shared.holder_id and GenerationRequest.objects.filter(pk=shared.holder_id).first()
            if not holder or holder.pk in {request.pk, lost} or holder.status not in _HOLDER_STATUSES:
                SharedPicture.objects.filter(pk=key).update(holder=request)
                return CachedResult()
            if holder.status == Status.IN_PROGRESS:
                return CachedResult(holder=holder.pk)
        # The storage may be slow, so it is asked without a lock on the row.
        if default_storage.exists(holder.result["image_key"]):
            return CachedResult(result=holder.result)
        lost = holder.pk


def is_in_progress(request_id: str) -> bool:
    """Return whether the request is in progress, so that its end will wake the requests that wait for it."""
    return GenerationRequest.objects.filter(pk=request_id, status=Status.IN_PROGRESS).exists()


def wake(request_id: str) -> None:
    """Wake the requests that wait for this one's image if it is no longer in progress.

    It has to be after the commit: a request that begins to wait at that moment then either sees the end or is woken.
    """
    if not is_in_progress(request_id):
        dispatch.make_due(request_id)


def _key(request: GenerationRequest, choice: ModelChoice, hashes: Sequence[str]) -> str:
    parts: list[Any] = [
        request.owner_id,
        request.type,
        request.prompt,
        choice.provider,
        choice.model,
        choice.aspect_ratio,
    ]
    parts.append(changing(request.metadata))
    if request.inputs is not None:  # keys of requests without images stay as they were
        parts += [request.inputs, *hashes]
    if request.variation:  # the first one is as a request for one image
        parts.append({"variation": request.variation})
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
