"""Pictures on disk or elsewhere, by the hash of their bytes, and the signed addresses under which clients get them."""

from __future__ import annotations

import functools
import json
import logging
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, default_storage
from django.core.signing import Signer
from django.urls import reverse
from django.utils.crypto import constant_time_compare

if TYPE_CHECKING:  # the SDK of S3 takes 8 MB and a tenth of a second of each process, and few have a bucket
    from generation.storage.s3 import Signing

logger = logging.getLogger(__name__)

#: The kinds of picture we keep, and how each is called in files and addresses.
EXTENSIONS: Final = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp"}
#: What is younger is not swept up, whether a request refers to it or not: its request may not have been told yet.
GRACE: Final = timedelta(days=2)
#: Bytes of a picture that are written at once.
_CHUNK: Final = 16 * 1024 * 1024
#: Folders of what clients are sent.
_PICTURES: Final = ("results/", "thumbnails/")
#: Folders that a worker writes to.
_WRITTEN: Final = ("results", "thumbnails", "receipts")
#: The keys of a receipt, which are arguments of :func:`generation.requests.lifecycle.complete`, and the required ones.
_RECEIPT: Final = ("result", "model", "provider_request_id", "usage", "cost", "estimate", "paid_by")
_RECEIPT_NEEDS: Final = ("result", "model")
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
CONTENT_TYPES: Final = {extension: content_type for content_type, extension in EXTENSIONS.items()}


class AtomicFileSystemStorage(FileSystemStorage):
    """Files appear whole or not at all: a crash in the middle of writing leaves nothing under the final name. A file
    that is saved again is replaced."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_overwrite=True, **options)

    def save(self, name: str | None, content: Any, max_length: int | None = None) -> str:
        """Write the file under this very name, for which no other one is looked for. Raises ``OSError``."""
        name = str(name)
        target = self.path(name)
        folder = os.path.dirname(target)
        draft = os.path.join(folder, f".draft-{secrets.token_hex(8)}")
        mode = 0o644 if settings.ACCEL_LOCATION and name.startswith(_PICTURES) else 0o600
        try:
            handle = os.open(draft, _NEW_FILE, mode)
        except FileNotFoundError:  # rarely, so that it is not looked at each time
            os.makedirs(folder, exist_ok=True)
            handle = os.open(draft, _NEW_FILE, mode)
        # The system's own calls, since each one in a worker waits for the interpreter once more.
        try:
            try:
                for chunk in content.chunks(_CHUNK):
                    _write_all(handle, chunk)
                os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(draft, target)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
        return name

    def delete(self, name: str) -> None:
        """Remove the file; where there is none, that is as well. Raises ``OSError``."""
        with suppress(FileNotFoundError):
            os.unlink(self.path(name))


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def save(folder: str, sha256: str, content_type: str, data: bytes) -> str:
    """Store the bytes under their hash and return the key. Raises ``OSError``.

    It does not look first: a look may not be permitted, and bytes that are there may be about to be removed, unless
    they are written again.
    """
    key = f"{folder}/{sha256[:2]}/{sha256}.{EXTENSIONS[content_type]}"
    default_storage.save(key, ContentFile(data))
    return key


def files(folder: str) -> Iterator[tuple[str, datetime]]:
    """Every key below the folder with the time at which it was written, in no order. Raises ``OSError``."""
    kept: Any = default_storage
    if isinstance(kept, AtomicFileSystemStorage):
        root = Path(kept.path(folder))
        for path in root.rglob("*"):
            with suppress(FileNotFoundError):  # somebody else removed it
                if path.is_file():
                    key = f"{folder}/{path.relative_to(root).as_posix()}"
                    yield key, datetime.fromtimestamp(path.stat().st_mtime, UTC)
    else:
        yield from kept.files(folder)


def is_older(key: str, moment: datetime) -> bool:
    """Whether the bytes are still there and were written before the moment. Raises ``OSError``."""
    with suppress(FileNotFoundError):
        return bool(default_storage.get_modified_time(key) < moment)
    return False


def clock() -> datetime:
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


def for_the_proxy(key: str) -> str:
    """Where the proxy in front of us finds the bytes for itself; empty where it has none, or may not read these, as
    those that were stored before it had. Raises ``FileNotFoundError``."""
    kept: Any = default_storage
    if not (settings.ACCEL_LOCATION and isinstance(kept, AtomicFileSystemStorage)):
        return ""
    readable = os.stat(kept.path(key)).st_mode & stat.S_IROTH
    return f"{settings.ACCEL_LOCATION}{key}" if readable else ""


def _receipt_key(request_id: str) -> str:
    return f"receipts/{request_id}.json"


def save_receipt(request_id: str, receipt: dict[str, Any]) -> None:
    """Note beside the pictures what was stored for a request, so that it need not be made again where the database
    cannot be told. Raises ``OSError``."""
    default_storage.save(_receipt_key(request_id), ContentFile(json.dumps(receipt).encode()))


def find_receipt(request_id: str) -> dict[str, Any] | None:
    """Return the receipt of an earlier attempt whose image is still there, None if there is none. Raises ``OSError``
    if the storage cannot say, since only "not found" may lead to another paid call."""
    try:
        found = json.loads(read(_receipt_key(request_id)))
        # During an upgrade, another version may have written more than this one knows.
        receipt = {name: found[name] for name in _RECEIPT if name in found or name in _RECEIPT_NEEDS}
        for name in ("cost", "estimate"):
            Decimal(receipt.get(name) or 0)
        return receipt if default_storage.exists(receipt["result"]["image_key"]) else None
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError, ArithmeticError):
        logger.exception("the receipt of %s cannot be read", request_id)
        return None


def drop_receipt(request_id: str) -> None:
    """Forget the note: the database has been told. Raises ``OSError``."""
    default_storage.delete(_receipt_key(request_id))


def check_writable() -> None:
    """Write what :func:`save` and :func:`save_receipt` write, a little file to each folder. Raises ``OSError`` where
    one of them would fail. Removing it needs a permission that they do not need, so that may fail."""
    for folder in _WRITTEN:
        key = f"{folder}/.probe"
        default_storage.save(key, ContentFile(b"\0" * 4096))
        with suppress(OSError):
            default_storage.delete(key)


def expiry() -> int:
    """When an address that is signed now expires, in seconds since 1970. It moves in whole hours, so that the same
    answer keeps the same bytes in between; but an address of the bucket ends when its credentials do."""
    return _end_of(_signing())


def _end_of(signing: Signing | None) -> int:
    usual = _begin() + 3600 + int(settings.IMAGE_URL_LIFETIME.total_seconds())
    return usual if signing is None or signing.ends is None else min(usual, signing.ends)


def _begin() -> int:
    return int(time.time()) // 3600 * 3600


def _signing() -> Signing | None:
    """Return the credentials for addresses of the bucket; ``None`` where addresses lead to us, as while there are no
    credentials."""
    if settings.RESULT_STORAGE != "s3" or settings.CDN_BASE_URL:
        return None
    bucket: Any = default_storage
    try:
        signing: Signing = bucket.signing()
    except OSError as error:
        logger.warning("addresses lead to us: %s", error)
        return None
    return signing


def _signature(kind: str, request_id: str, expires: int) -> str:
    return _signer().signature(f"{kind}:{request_id}:{expires}")


@functools.cache
def _signer() -> Signer:
    return Signer(salt="generation.storage")


@functools.cache
def _folder(kind: str) -> str:
    # Looked up once: a page of a list has forty addresses, and reversing each took a third of its time.
    return reverse(f"generation:{kind}", args=["-", ""]).removesuffix("-")


def signed_url(kind: str, request_id: str, extension: str = "") -> str:
    """An absolute address (``kind`` is ``image`` or ``thumbnail``) that works without a token until it expires."""
    expires = _end_of(None)
    path = f"{_folder(kind)}{request_id}" + (f".{extension}" if extension else "")
    # Neither has a character that would have to be quoted, and quoting takes longer than signing.
    query = f"expires={expires}&signature={_signature(kind, request_id, expires)}"
    return f"{settings.PUBLIC_BASE_URL}{path}?{query}"


def address(kind: str, request_id: str, key: str, extension: str = "") -> str:
    """Where clients fetch the picture or thumbnail with this key: from the network in front of the storage
    (``CDN_BASE_URL``), from the bucket, or else from us."""
    if settings.CDN_BASE_URL:
        return f"{settings.CDN_BASE_URL}/{key}"
    if signing := _signing():
        return _bucket_address(key, _begin(), _end_of(signing), signing.credentials)
    return signed_url(kind, request_id, extension)


@functools.lru_cache(maxsize=4096)
def _bucket_address(key: str, begun: int, expires: int, credentials: Any) -> str:
    bucket: Any = default_storage
    return str(bucket.signed_address(key, at=begun, expires=expires, credentials=credentials))


def signature_is_valid(kind: str, request_id: str, expires: str, signature: str) -> bool:
    """Whether :func:`signed_url` made this signature and it has not expired."""
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
        return False
    expected = _signature(kind, request_id, int(expires))
    return constant_time_compare(signature, expected) and int(expires) >= time.time()
