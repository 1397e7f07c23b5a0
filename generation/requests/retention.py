"""Delete old rows and orphaned files, in steps with a transaction each, so that it can be stopped at any time."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db.models import Exists, Max, OuterRef
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken

from generation.db.counters import PRUNED
from generation.db.functions import Now, database_now
from generation.db.locks import delete_in_steps
from generation.identifiers import REQUEST_ID, UPLOAD_ID
from generation.models import (
    CounterChange,
    GenerationBatch,
    GenerationReference,
    GenerationRequest,
    IdempotencyKey,
    SharedPicture,
    StatusChange,
    Upload,
)
from generation.requests import uploads
from generation.requests.idempotency import IDEMPOTENCY_LIFETIME
from generation.requests.input_images import in_use
from generation.states import TERMINAL, Status
from generation.storage import images

logger = logging.getLogger(__name__)

#: Maximum number of rows that one step deletes.
STEP: Final = 500
#: Number of requests in one query for references to files.
_READ: Final = 2000
#: Number of files in one step.
_FILES: Final = 500
#: Number of the newest status changes that are read again, since their transactions may not have been committed.
_SLACK: Final = 1_000
#: How long the address of a preview works. The attempt's end deletes the file, unless its worker is lost.
_PREVIEW_LIFETIME: Final = timedelta(hours=1)
#: Names of this product's files: images by hash, receipts and previews by request, uploads by id, probes, and temporary
#: files of each.
_OWN_FILE: Final = re.compile(
    r"(results|thumbnails)/[0-9a-f]{2}/[0-9a-f]{64}\.[a-z0-9]{1,8}"
    rf"|receipts/([^/]+/)*[^/]*{REQUEST_ID.pattern}[^/]*(/[^/]+)*"
    rf"|{uploads.FOLDER}/[a-z0-9]{{2}}/{UPLOAD_ID.pattern}\.[a-z0-9]{{1,8}}"
    rf"|previews/{REQUEST_ID.pattern}-[0-9]+-[0-9]-[0-9a-f]{{16}}\.[a-z0-9]{{1,8}}"
    r"|probes/[0-9a-f]{16}"
    rf"|(results|thumbnails|previews|receipts|probes|{uploads.FOLDER})/([^/]+/)*\.(draft|probe)-[0-9a-f]{{16}}"
)
#: Folders with files of requests, and the field of a result that has the file's key.
_FOLDERS: Final = {"results": "image_key", "thumbnails": "thumbnail_key"}


def delete_ended(*, step: int = STEP) -> Iterator[int]:
    """Delete requests that ended more than ``RESULT_RETENTION_DAYS`` ago, with their history. Yields the number that
    each step deleted; nothing if the setting is 0. Their files become orphans."""
    if not settings.RESULT_RETENTION_DAYS:
        return
    before = database_now() - timedelta(days=settings.RESULT_RETENTION_DAYS)
    # The counters stay. This mark excludes days with a deleted history from the comparison with the history.
    next_day = before.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    CounterChange.objects.create(event=PRUNED, at=next_day, count=1)
    needed = GenerationReference.objects.filter(in_use(), source=OuterRef("pk"))
    ended = GenerationRequest.objects.filter(~Exists(needed), status__in=TERMINAL, completed_at__lt=before)
    yield from delete_in_steps(ended, step=step)
    requests = GenerationRequest.objects.filter(batch=OuterRef("pk"))
    yield from delete_in_steps(GenerationBatch.objects.filter(~Exists(requests), created_at__lt=before), step=step)


def delete_old_keys(*, step: int = STEP) -> Iterator[int]:
    """Delete expired ``Idempotency-Key`` rows. Yields the number that each step deleted."""
    yield from delete_in_steps(IdempotencyKey.objects.filter(created_at__lt=Now() - IDEMPOTENCY_LIFETIME), step=step)


def delete_unshared(*, step: int = STEP) -> Iterator[int]:
    """Delete rows of the result cache whose request was deleted. Yields the number that each step deleted."""
    yield from delete_in_steps(SharedPicture.objects.filter(holder__isnull=True), step=step)


def delete_old_uploads(*, step: int = STEP) -> Iterator[int]:
    """Delete uploads whose last use was too long ago. Yields the number that each step deleted. Their files become
    orphans."""
    yield from delete_in_steps(uploads.old(), step=step)


def delete_expired_sign_ins(*, leeway: timedelta, step: int = STEP) -> Iterator[int]:
    """Delete expired sessions, and tokens that expired more than ``leeway`` ago. Yields the number that each step
    deleted. Until then, a process whose clock is behind may accept a token, and has to see that it was used."""
    yield from delete_in_steps(Session.objects.filter(expire_date__lt=Now()), step=step)
    yield from delete_in_steps(OutstandingToken.objects.filter(expires_at__lte=Now() - leeway), step=step)


def sweep_orphans(*, grace: timedelta = images.ORPHAN_GRACE, dry: bool = False) -> Iterator[str]:
    """Delete files that no request or upload refers to and receipts of requests that have ended, if they are older than
    ``grace`` by the storage's clock, and previews whose addresses have expired. Files with other names than this
    product's stay. Yields each key. Raises ``OSError``.

    Receipts come first: the files of a remaining receipt were paid for, and its request may still be completed with
    them.
    """
    now = _now()
    before = now - grace
    yield from _remove("receipts", before, _of_ended_requests, dry=dry)
    yield from _remove("probes", before, lambda keys: keys, dry=dry)
    of_previews = now - _PREVIEW_LIFETIME - min(grace, _PREVIEW_LIFETIME)
    yield from _remove("previews", of_previews, lambda keys: keys, dry=dry)
    yield from _remove(uploads.FOLDER, before, _without_upload, dry=dry)
    for folder, name in _FOLDERS.items():
        references = _References(name)
        yield from _remove(folder, before, references.missing, dry=dry)


def _now() -> datetime:
    """Return the storage's time, or the database's if the storage is not writable, for example on a full disk."""
    try:
        return images.storage_now()
    except OSError as error:
        logger.warning("using the database's clock, since the storage is not writable: %s", error)
    return database_now()


def _remove(folder: str, before: datetime, orphans: Callable[[list[str]], list[str]], *, dry: bool) -> Iterator[str]:
    """Delete the orphans among the old files of a folder, in steps. Yields their keys."""
    old = (key for key, written in images.files(folder) if written < before and _is_own_file(key))
    while keys := list(islice(old, _FILES)):
        for key in orphans(keys):
            # A request may have stored the same bytes again since the folder was listed, and refer to them soon.
            if images.is_older(key, before):
                if not dry:
                    images.remove(key)
                yield key


def _is_own_file(key: str) -> bool:
    """Return whether the name is one of this product's; other files in the storage must not be deleted."""
    return _OWN_FILE.fullmatch(key) is not None


class _References:
    """The files that results and receipts refer to, as hashes of 64 bits. A collision only keeps an orphan."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last_change = _newest_change()
        self._hashes = _hashes_in_receipts(name)
        self._read_completed()

    def missing(self, keys: list[str]) -> list[str]:
        """Return the keys without a reference, including references that were added meanwhile."""
        unreferenced = [key for key in keys if _hash(key) not in self._hashes]
        if unreferenced:
            self._read_completed_since()
        return [key for key in unreferenced if _hash(key) not in self._hashes]

    def _read_completed(self) -> None:
        # In pages rather than with a server-side cursor, which does not survive a transaction pooler.
        rows = GenerationRequest.objects.filter(status=Status.COMPLETED).order_by("pk")
        last = ""
        while page := list(rows.filter(pk__gt=last).values_list("pk", f"result__{self._name}")[:_READ]):
            self._add(key for _, key in page)
            last = page[-1][0]

    def _read_completed_since(self) -> None:
        newest = _newest_change()
        # By primary key, since there is no index by time. A transaction that was open has a key just below the newest.
        changes = StatusChange.objects.filter(pk__gt=self._last_change - _SLACK, to_status=Status.COMPLETED)
        self._add(changes.values_list(f"request__result__{self._name}", flat=True))
        self._last_change = newest

    def _add(self, keys: Iterable[str | None]) -> None:
        self._hashes.update(_hash(key) for key in keys if key)


def _newest_change() -> int:
    return StatusChange.objects.aggregate(newest=Max("pk"))["newest"] or 0


def _hashes_in_receipts(name: str) -> set[int]:
    hashes: set[int] = set()
    for key, _ in images.files("receipts"):
        with suppress(FileNotFoundError, ValueError, LookupError, TypeError):  # deleted meanwhile, or not a receipt
            hashes.add(_hash(json.loads(images.read(key))["result"][name]))
    return hashes


def _hash(key: str) -> int:
    return int(key.rpartition("/")[2].partition(".")[0][:16] or "0", 16)


def _of_ended_requests(keys: list[str]) -> list[str]:
    ids = {key: match[0] for key in keys if (match := REQUEST_ID.search(key))}
    active = GenerationRequest.objects.filter(pk__in=ids.values()).exclude(status__in=TERMINAL)
    active_ids = set(active.values_list("pk", flat=True))
    return [key for key in keys if ids.get(key) not in active_ids]


def _without_upload(keys: list[str]) -> list[str]:
    ids = {key: match[0] for key in keys if (match := UPLOAD_ID.search(key))}
    kept = set(Upload.objects.filter(pk__in=ids.values()).values_list("pk", flat=True))
    return [key for key in keys if ids.get(key) not in kept]
