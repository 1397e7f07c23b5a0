"""Store images by the hash of their bytes, on disk or in a bucket."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from generation.states import ImageFormat

#: Content type → extension in keys and addresses, and back.
EXTENSIONS: Final = {format_.content_type: format_.value for format_ in ImageFormat}
CONTENT_TYPES: Final = {extension: content_type for content_type, extension in EXTENSIONS.items()}
#: What is younger is not swept up, whether a request refers to it or not: its request may not have been told yet.
ORPHAN_GRACE: Final = timedelta(days=2)
#: Folders that a worker writes to.
_WRITTEN: Final = ("results", "thumbnails", "receipts")


def save(folder: str, sha256: str, content_type: str, data: bytes) -> str:
    """Store the bytes under their hash and return the key. Raises ``OSError``.

    It does not look first: a look may not be permitted, and bytes that are there may be about to be removed, unless
    they are written again.
    """
    key = f"{folder}/{sha256[:2]}/{sha256}.{EXTENSIONS[content_type]}"
    default_storage.save(key, ContentFile(data))
    return key


def files(folder: str) -> Iterator[tuple[str, datetime]]:
    """Return every key below the folder with the time at which it was written, in no order. Raises ``OSError``."""
    storage: Any = default_storage
    yield from storage.files(folder)


def is_older(key: str, moment: datetime) -> bool:
    """Whether the bytes are still there and were written before the moment. Raises ``OSError``."""
    with suppress(FileNotFoundError):
        return bool(default_storage.get_modified_time(key) < moment)
    return False


def storage_now() -> datetime:
    """Return the time by the storage's own clock, which is what the times of its files go by. Raises ``OSError``."""
    key = f"probes/{secrets.token_hex(8)}"
    default_storage.save(key, ContentFile(b"\0"))
    try:
        now: datetime = default_storage.get_modified_time(key)
        return now
    finally:
        with suppress(OSError):  # one that stays is removed as any old file
            default_storage.delete(key)


def remove(key: str) -> None:
    """Remove the bytes; where they are gone already, that is as well."""
    with suppress(FileNotFoundError):
        default_storage.delete(key)


def read(key: str) -> bytes:
    """The stored bytes. Raises ``OSError`` where they are gone."""
    with default_storage.open(key) as file:
        return bytes(file.read())


def path_for_proxy(key: str) -> str:
    """Return the path under which the proxy in front reads the bytes itself, empty if it cannot. Raises
    ``FileNotFoundError``."""
    storage: Any = default_storage
    return str(storage.path_for_proxy(key))


def check_writable() -> None:
    """Write a small file to each folder that a worker writes to. Raises ``OSError`` if one of them fails. Removing it
    needs a permission that storing an image does not need, so that may fail."""
    for folder in _WRITTEN:
        key = f"{folder}/.probe"
        default_storage.save(key, ContentFile(b"\0" * 4096))
        with suppress(OSError):
            default_storage.delete(key)
