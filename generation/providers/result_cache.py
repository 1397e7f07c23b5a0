"""One picture for several who want the same: the opt-in cache of results.

Of an owner's identical wishes one request makes the picture. Those that come later are given it, and those that come
meanwhile wait for it in the ledger. Where it fails, the next one tries.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.core.files.storage import default_storage
from django.db import transaction

from generation.models import GenerationRequest, SharedPicture
from generation.providers.catalogue import ModelChoice
from generation.queue import dispatch
from generation.states import Status

#: How long somebody waits for another one's picture before looking again, in case nobody tells.
LOOK_AGAIN_AFTER: Final = timedelta(minutes=1)
#: A request that waits in the queue has not begun, and may have a lower priority.
_HOLDING: Final = frozenset({Status.COMPLETED, Status.IN_PROGRESS})


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedResult:
    """What there is to share. ``result`` is an earlier picture, ``holder`` the request that is making it; where there
    is neither, it is one's own to make."""

    result: dict[str, Any] | None = None
    holder: str = ""


def get_or_start(request: GenerationRequest, choice: ModelChoice) -> CachedResult:
    """Look for an earlier image of the same request. If there is none and no other request is making it, this one
    becomes the holder. Raises ``OSError`` where the storage cannot say whether the earlier image is still there."""
    key = _key(request, choice)
    lost: str | None = None
    while True:
        with transaction.atomic():
            # In one: between two statements, pruning could remove a row that nothing holds.
            shared, _ = SharedPicture.objects.select_for_update().get_or_create(pk=key)
            holder = shared.holder_id and GenerationRequest.objects.filter(pk=shared.holder_id).first()
            if not holder or holder.pk in {request.pk, lost} or holder.status not in _HOLDING:
                SharedPicture.objects.filter(pk=key).update(holder=request)
                return CachedResult()
            if holder.status == Status.IN_PROGRESS:
                return CachedResult(holder=holder.pk)
        # The storage may be slow, so it is asked without a lock on the row.
        if default_storage.exists(holder.result["image_key"]):
            return CachedResult(result=holder.result)
        lost = holder.pk


def is_in_progress(request_id: str) -> bool:
    """Whether the request is in progress, so that its end is still to come."""
    return GenerationRequest.objects.filter(pk=request_id, status=Status.IN_PROGRESS).exists()


def wake_after_commit(request: GenerationRequest) -> None:
    """The request may not be in progress any more: then whoever hoped to share its picture may start, and look. Only
    after the commit, so that who begins to wait sees either the end or itself woken."""

    def wake() -> None:
        if not is_in_progress(request.pk):
            dispatch.make_due(request.pk)

    if request.options.use_cache:
        transaction.on_commit(wake, robust=True)


def _key(request: GenerationRequest, choice: ModelChoice) -> str:
    matters = [request.owner_id, request.type, request.prompt, choice.provider, choice.model, choice.aspect_ratio]
    return hashlib.sha256(json.dumps([*matters, request.options.changing()], sort_keys=True).encode()).hexdigest()
