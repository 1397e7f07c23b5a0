"""Deleting what is not to be kept: in steps, each a transaction of its own, so that it can be stopped at any time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from generation import storage
from generation.models import GenerationBatch, GenerationRequest, IdempotencyKey
from generation.services import IDEMPOTENCY_LIFETIME
from generation.states import TERMINAL, Status

#: The most rows that one step deletes.
STEP: Final = 500
#: How many requests are read at once when looking for what refers to a file.
_READ: Final = 2000
#: Of the folders of the storage, those whose files belong to requests, and where their key stands in a result.
_FOLDERS: Final = {"results": "image_key", "thumbnails": "thumbnail_key"}


def delete_ended(*, step: int = STEP) -> Iterator[int]:
    """Delete requests that ended more than ``RESULT_RETENTION_DAYS`` ago, with their history. Yields how many each step
    deleted; nothing where they are kept for ever. Their files are then orphans."""
    if not settings.RESULT_RETENTION_DAYS:
        return
    before = timezone.now() - timedelta(days=settings.RESULT_RETENTION_DAYS)
    ended = GenerationRequest.objects.filter(status__in=TERMINAL, completed_at__lt=before)
    yield from _in_steps(ended, step)
    requests = GenerationRequest.objects.filter(batch=OuterRef("pk"))
    yield from _in_steps(GenerationBatch.objects.filter(~Exists(requests), created_at__lt=before), step)


def delete_old_keys(*, step: int = STEP) -> Iterator[int]:
    """Delete the ``Idempotency-Key`` rows that no longer count."""
    yield from _in_steps(IdempotencyKey.objects.filter(created_at__lt=timezone.now() - IDEMPOTENCY_LIFETIME), step)


def _in_steps(rows: QuerySet[Any], step: int) -> Iterator[int]:
    while True:
        with transaction.atomic():
            # Who is retried by hand at this moment is locked, and left alone.
            found = list(rows.select_for_update(skip_locked=True).order_by("pk").values_list("pk", flat=True)[:step])
            rows.model._default_manager.filter(pk__in=found).delete()
        if not found:
            return
        yield len(found)


def sweep_orphans(*, grace: timedelta = storage.GRACE, dry: bool = False) -> Iterator[str]:
    """Remove files that no request refers to and that are older than ``grace``, and receipts of requests that are over.
    Yields the key of each. Raises ``OSError``."""
    before = timezone.now() - grace
    for folder, name in _FOLDERS.items():
        kept = _kept(name)
        yield from _remove(folder, before, lambda key, kept=kept: _mark(key) in kept, dry=dry)  # type: ignore[misc]
    yield from _remove("receipts", before, _is_active, dry=dry)
    yield from _remove("probes", before, lambda key: False, dry=dry)


def _remove(folder: str, before: datetime, is_kept: Callable[[str], bool], *, dry: bool) -> Iterator[str]:
    for key, written in storage.files(folder):
        if written < before and not is_kept(key):
            if not dry:
                storage.remove(key)
            yield key


def _kept(name: str) -> set[int]:
    """What the results refer to, by a mark of a few bytes each. Two that share one keep a file too many, no more."""
    results = GenerationRequest.objects.filter(status=Status.COMPLETED).values_list(f"result__{name}", flat=True)
    return {_mark(key) for key in results.iterator(chunk_size=_READ) if key}


def _mark(key: str) -> int:
    return int(key.rpartition("/")[2].partition(".")[0][:16] or "0", 16)


def _is_active(key: str) -> bool:
    request_id = key.rpartition("/")[2].removesuffix(".json")
    return GenerationRequest.objects.filter(pk=request_id).exclude(status__in=TERMINAL).exists()
