"""Deleting what is not to be kept: in steps, each a transaction of its own, so that it can be stopped at any time."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Exists, Max, OuterRef, QuerySet
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken

from generation.db.counters import PRUNED
from generation.db.functions import Now, database_now
from generation.db.locks import locked_keys
from generation.identifiers import REQUEST_ID
from generation.models import (
    CounterChange,
    GenerationBatch,
    GenerationRequest,
    IdempotencyKey,
    SharedPicture,
    StatusChange,
)
from generation.requests.idempotency import IDEMPOTENCY_LIFETIME
from generation.states import TERMINAL, Status
from generation.storage import images

logger = logging.getLogger(__name__)

#: The most rows that one step deletes.
STEP: Final = 500
#: How many requests are read at once when looking for what refers to a file.
_READ: Final = 2000
#: How many files are looked at in one step.
_FILES: Final = 500
#: How many of the newest status changes are looked at again: those whose transaction may not have been over.
_SLACK: Final = 1_000
#: The names that we give to files: images by their hash, receipts by their request, probes, and drafts of all of them.
_OURS: Final = re.compile(
    r"(results|thumbnails)/[0-9a-f]{2}/[0-9a-f]{64}\.[a-z0-9]{1,8}"
    rf"|receipts/([^/]+/)*[^/]*{REQUEST_ID.pattern}[^/]*(/[^/]+)*"
    r"|probes/[0-9a-f]{16}"
    r"|(results|thumbnails|receipts|probes)/([^/]+/)*\.(draft|probe)-[0-9a-f]{16}"
)
#: Of the folders of the storage, those whose files belong to requests, and where their key stands in a result.
_FOLDERS: Final = {"results": "image_key", "thumbnails": "thumbnail_key"}


def delete_ended(*, step: int = STEP) -> Iterator[int]:
    """Delete requests that ended more than ``RESULT_RETENTION_DAYS`` ago, with their history. Yields how many each step
    deleted; nothing where they are kept for ever. Their files are then orphans."""
    if not settings.RESULT_RETENTION_DAYS:
        return
    before = database_now() - timedelta(days=settings.RESULT_RETENTION_DAYS)
    # Counters keep what happened, so the days whose history goes are no longer compared with it.
    whole = before.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    CounterChange.objects.create(event=PRUNED, at=whole, count=1)
    ended = GenerationRequest.objects.filter(status__in=TERMINAL, completed_at__lt=before)
    yield from _in_steps(ended, step)
    requests = GenerationRequest.objects.filter(batch=OuterRef("pk"))
    yield from _in_steps(GenerationBatch.objects.filter(~Exists(requests), created_at__lt=before), step)


def delete_old_keys(*, step: int = STEP) -> Iterator[int]:
    """Delete the ``Idempotency-Key`` rows that no longer count."""
    yield from _in_steps(IdempotencyKey.objects.filter(created_at__lt=Now() - IDEMPOTENCY_LIFETIME), step)


def delete_unshared(*, step: int = STEP) -> Iterator[int]:
    """Delete what requests had to share whose request is gone. Yields how many each step deleted."""
    yield from _in_steps(SharedPicture.objects.filter(holder__isnull=True), step)


def delete_expired_sign_ins(*, leeway: timedelta, step: int = STEP) -> Iterator[int]:
    """Delete sessions that have expired, and tokens that expired more than ``leeway`` ago. Until then a process whose
    clock is behind may accept a token, and has to find that it was used. Yields how many each step deleted."""
    yield from _in_steps(Session.objects.filter(expire_date__lt=Now()), step)
    yield from _in_steps(OutstandingToken.objects.filter(expires_at__lte=Now() - leeway), step)


def _in_steps(rows: QuerySet[Any], step: int) -> Iterator[int]:
    while True:
        with transaction.atomic():
            # A request that is being retried by hand is locked, and skipped.
            found = locked_keys(rows, limit=step)
            rows.model._default_manager.filter(pk__in=found).delete()
        if not found:
            return
        yield len(found)


def sweep_orphans(*, grace: timedelta = images.ORPHAN_GRACE, dry: bool = False) -> Iterator[str]:
    """Remove files that no request refers to and that are older than ``grace`` by the storage's own clock, and receipts
    of requests that have ended. Files that are not ours stay. Yields the key of each. Raises ``OSError``.

    Receipts come first: what one that stays refers to was paid for, and its request may still be completed with it.
    """
    before = _clock() - grace
    yield from _remove("receipts", before, _of_ended_requests, dry=dry)
    yield from _remove("probes", before, lambda keys: keys, dry=dry)
    for folder, name in _FOLDERS.items():
        references = _References(name)
        yield from _remove(folder, before, references.missing, dry=dry)


def _clock() -> datetime:
    """The storage's clock, or where nothing can be written, as on a full disk, the database's."""
    try:
        return images.storage_now()
    except OSError as error:
        logger.warning("going by the database's clock, since the storage takes no file: %s", error)
    return database_now()


def _remove(folder: str, before: datetime, orphans: Callable[[list[str]], list[str]], *, dry: bool) -> Iterator[str]:
    """Remove the orphans among the old files of a folder, in steps."""
    old = (key for key, written in images.files(folder) if written < before and _is_ours(key))
    while keys := list(islice(old, _FILES)):
        for key in orphans(keys):
            # The same bytes may have been stored again since the folder was listed, and be about to be referred to.
            if images.is_older(key, before):
                if not dry:
                    images.remove(key)
                yield key


def _is_ours(key: str) -> bool:
    """Whether the name is one that we give to files: nothing else in the storage is ours to remove."""
    return _OURS.fullmatch(key) is not None


class _References:
    """Files that results and receipts refer to, by marks of a few bytes. Two with one mark keep a file too many."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen = _newest_change()
        self._kept = _noted_in_receipts(name)
        self._read_completed()

    def missing(self, keys: list[str]) -> list[str]:
        """Those of the keys that nothing refers to, now either."""
        left = [key for key in keys if _mark(key) not in self._kept]
        if left:
            self._read_completed_since()
        return [key for key in left if _mark(key) not in self._kept]

    def _read_completed(self) -> None:
        # In pages rather than by a cursor of the server, which a pooler of transactions cannot keep.
        rows = GenerationRequest.objects.filter(status=Status.COMPLETED).order_by("pk")
        last = ""
        while page := list(rows.filter(pk__gt=last).values_list("pk", f"result__{self._name}")[:_READ]):
            self._keep(key for _, key in page)
            last = page[-1][0]

    def _read_completed_since(self) -> None:
        newest = _newest_change()
        # By number, since there is no index by time: a transaction that was open has a number just below the newest.
        changes = StatusChange.objects.filter(pk__gt=self._seen - _SLACK, to_status=Status.COMPLETED)
        self._keep(changes.values_list(f"request__result__{self._name}", flat=True))
        self._seen = newest

    def _keep(self, keys: Iterable[str | None]) -> None:
        self._kept.update(_mark(key) for key in keys if key)


def _newest_change() -> int:
    return StatusChange.objects.aggregate(newest=Max("pk"))["newest"] or 0


def _noted_in_receipts(name: str) -> set[int]:
    noted: set[int] = set()
    for key, _ in images.files("receipts"):
        with suppress(FileNotFoundError, ValueError, LookupError, TypeError):  # dropped meanwhile, or not a receipt
            noted.add(_mark(json.loads(images.read(key))["result"][name]))
    return noted


def _mark(key: str) -> int:
    return int(key.rpartition("/")[2].partition(".")[0][:16] or "0", 16)


def _of_ended_requests(keys: list[str]) -> list[str]:
    ids = {key: found[0] for key in keys if (found := REQUEST_ID.search(key))}
    active = GenerationRequest.objects.filter(pk__in=ids.values()).exclude(status__in=TERMINAL)
    going_on = set(active.values_list("pk", flat=True))
    return [key for key in keys if ids.get(key) not in going_on]
