"""Store images by the hash of their bytes, on disk or in a bucket."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import IO, Any, Final

from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage

from generation.states import ImageFormat

#: Content type → extension in keys and addresses, and back.
EXTENSIONS: Final = {format_.content_type: format_.value for format_ in ImageFormat}
CONTENT_TYPES: Final = {extension: content_type for content_type, extension in EXTENSIONS.items()}
#: Younger files are not deleted as orphans: their request may not be completed in the database yet.
ORPHAN_GRACE: Final = timedelta(days=2)
#: Folders that a worker writes to.
_WRITTEN: Final = ("results", "thumbnails", "receipts")


def save(folder: str, sha256: str, content_type: str, data: bytes) -> str:
    """Store the bytes under their hash and return the key. Raises ``OSError``.

    It does not check first whether the key exists: that may need a further permission, and an existing file may be
    about to be deleted as an orphan, unless it is written again.
    """
    key = f"{folder}/{sha256[:2]}/{sha256}.{EXTENSIONS[content_type]}"
    default_storage.save(key, ContentFile(data))
    return key


def save_under(key: str, data: bytes) -> None:
    """Store the bytes under this key. Raises ``OSError``."""
    default_storage.save(key, ContentFile(data))


def save_as(name: str, content_type: str, file: IO[bytes]) -> str:
    """Store a file under a name of its own, and return the key, which has the extension of the type. Raises
    ``OSError``."""
    key = f"{name}.{EXTENSIONS[content_type]}"
    default_storage.save(key, File(file))
    return key


def preview_key(request_id: str, claim: int, index: int, content_type: str) -> str:
    """Return a new key for a preview. It cannot be guessed, since a CDN may serve the whole bucket."""
    return f"previews/{request_id}-{claim}-{index}-{secrets.token_hex(8)}.{EXTENSIONS[content_type]}"


def files(folder: str) -> Iterator[tuple[str, datetime]]:
    """Return every key below the folder with the time at which it was written, in no order. Raises ``OSError``."""
    storage: Any = default_storage
    yield from storage.files(folder)


def is_older(key: str, moment: datetime) -> bool:
    """Return whether the key still exists and was written before the moment. Raises ``OSError``."""
    with suppress(FileNotFoundError):
        return bool(default_storage.get_modified_time(key) < moment)
    return False


def storage_now() -> datetime:
    """Return the time by the storage's clock, which also dates its files. Raises ``OSError``."""
    key = f"probes/{secrets.token_hex(8)}"
    default_storage.save(key, ContentFile(b"\0"))
    try:
        now: datetime = default_storage.get_modified_time(key)
        return now
    finally:
        with suppress(OSError):  # if it stays, it is deleted as any old file
            default_storage.delete(key)


def remove(key: str) -> None:
    """Delete the key, if it exists. Raises ``OSError``."""
    with suppress(FileNotFoundError):
        default_storage.delete(key)


def read(key: str) -> bytes:
    """Return the stored bytes. Raises ``OSError``, and ``FileNotFoundError`` if they are gone."""
    with default_storage.open(key) as file:
        return bytes(file.read())


def size(key: str) -> int:
    """Return the number of the stored bytes. Raises ``OSError``, and ``FileNotFoundError`` if they are gone."""
    return int(default_storage.size(key))


def chunks(key: str, length: int) -> Iterator[bytes]:
    """Yield the stored bytes in parts of this length, the last of which may be shorter. Raises ``OSError``."""
    with default_storage.open(key) as file:
        while part := file.read(length):
            yield part


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
