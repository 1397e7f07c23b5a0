"""Uploaded images: store, find and delete them. An upload belongs to its owner; no other user sees it."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet, Sum

from generation import identifiers
from generation.db.functions import Now
from generation.models import GenerationReference, Upload
from generation.requests.input_images import in_use
from generation.storage import images
from generation.storage.uploads_image import CleanImage

logger = logging.getLogger(__name__)

#: Folder of the files. Each upload has a file of its own, named by its id, so that one can be deleted alone.
FOLDER: Final = "uploads"
_MEGABYTE: Final = 1_000_000


class QuotaExceededError(Exception):
    """The owner's uploads would take more than ``UPLOAD_QUOTA_MB``."""


class InUseError(Exception):
    """A request that has not ended refers to the upload."""


#: How long an image is kept that came with a call.
TEMPORARY: Final = timedelta(days=1)


def lifetime(upload: Upload) -> timedelta | None:
    """Return how long the upload is kept after its last use, None for ever."""
    if upload.is_temporary:
        return TEMPORARY
    return timedelta(days=settings.UPLOAD_RETENTION_DAYS) or None


def old() -> QuerySet[Upload]:
    """Return the uploads whose time is over, and that nothing needs."""
    is_over = Q(is_temporary=True, last_used_at__lt=Now() - TEMPORARY)
    if settings.UPLOAD_RETENTION_DAYS:
        is_over |= Q(last_used_at__lt=Now() - timedelta(days=settings.UPLOAD_RETENTION_DAYS))
    return unused().filter(is_over)


def store(*, owner: User, name: str, image: CleanImage, is_temporary: bool = False) -> tuple[Upload, bool]:
    """Keep an image, a temporary one for a day. Return the upload and whether it is new: an image that the owner has
    uploaded before is that upload, which counts as used now. Raises :class:`QuotaExceededError`, and ``OSError`` of the
    storage."""
    # Before the file is written: most images that are refused or known never reach the storage.
    with transaction.atomic():
        if (found := _used_again(owner, image, is_temporary)) is not None:
            return found, False
    _check_quota(owner, image)
    upload_id = identifiers.new_upload_id()
    # Stored before the row exists, so that no row lacks its file. Without a row it is an orphan, which prune deletes.
    key = images.save_as(f"{FOLDER}/{upload_id[-2:]}/{upload_id}", image.content_type, image.file)
    try:
        with transaction.atomic():
            # Two calls at once must neither store one image twice nor exceed the quota together.
            list(User.objects.select_for_update(no_key=True).filter(pk=owner.pk))
            found = _used_again(owner, image, is_temporary)
            if found is None:
                _check_quota(owner, image)
                upload = Upload.objects.create(
                    id=upload_id,
                    owner_id=owner.pk,
                    name=name,
                    content_type=image.content_type,
                    width=image.width,
                    height=image.height,
                    bytes=image.bytes,
                    sha256=image.sha256,
                    key=key,
                    is_temporary=is_temporary,
                )
    except QuotaExceededError:
        _remove_file(key)
        raise
    if found is not None:
        _remove_file(key)
        return found, False
    return upload, True


def _used_again(owner: User, image: CleanImage, is_temporary: bool) -> Upload | None:
    same = Upload.objects.filter(owner=owner.pk, sha256=image.sha256)
    kept = {} if is_temporary else {"is_temporary": False}
    return same.get() if same.update(last_used_at=Now(), **kept) else None


def _check_quota(owner: User, image: CleanImage) -> None:
    used = of_owner(owner).order_by().aggregate(total=Sum("bytes"))["total"] or 0
    if used + image.bytes > settings.UPLOAD_QUOTA_MB * _MEGABYTE:
        raise QuotaExceededError


def of_owner(owner: User) -> QuerySet[Upload]:
    """Return the owner's uploads."""
    return Upload.objects.filter(owner=owner.pk)


def find(upload_id: str, *, owner: User | None) -> Upload | None:
    """Return the upload if it is the owner's, or of any owner if that is None, as behind a signed address."""
    rows = Upload.objects.all() if owner is None else of_owner(owner)
    return rows.filter(pk=identifiers.identifier(upload_id)).first()


def by_id(ids: list[str]) -> dict[str, Upload]:
    """Return the uploads with these ids."""
    return Upload.objects.in_bulk(ids)


def unused() -> QuerySet[Upload]:
    """Return the uploads that may be deleted, by their owners and by age: those that nothing refers to. Whatever will
    refer to an upload is excluded here, and nowhere else."""
    return Upload.objects.exclude(Exists(GenerationReference.objects.filter(in_use(), upload=OuterRef("pk"))))


def delete(upload: Upload) -> bool:
    """Delete an upload and its file. Return False if it is gone already. Raises :class:`InUseError`."""
    with transaction.atomic():
        # The lock waits for a submit that refers to the upload, so that the next query sees it.
        if not Upload.objects.select_for_update().filter(pk=upload.pk):
            return False
        _, deleted = unused().filter(pk=upload.pk).delete()
    if not deleted:
        raise InUseError
    _remove_file(upload.key)
    return True


def _remove_file(key: str) -> None:
    try:
        images.remove(key)
    except OSError as error:  # prune deletes it as an orphan
        logger.warning("the file of an upload was not deleted: %s", error)
