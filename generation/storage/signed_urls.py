"""Addresses under which clients get images: signed by us, signed for the bucket, or of the CDN."""

from __future__ import annotations

import functools
import logging
import time
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.files.storage import default_storage
from django.core.signing import Signer
from django.urls import reverse
from django.utils.crypto import constant_time_compare

if TYPE_CHECKING:  # the SDK of S3 takes 8 MB and a tenth of a second of each process, and few have a bucket
    from generation.storage.s3 import Signing

logger = logging.getLogger(__name__)


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
