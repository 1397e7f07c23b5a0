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

if TYPE_CHECKING:  # the S3 SDK takes 8 MB and 0.1 s of each process, and few have a bucket
    from generation.storage.s3 import Signing

logger = logging.getLogger(__name__)


def expiry() -> int:
    """Return when an address that is signed now expires, in seconds since 1970. It moves in whole hours, so that
    answers keep the same bytes. An address of the bucket expires with its credentials at the latest."""
    return _end_of(_signing())


def _end_of(signing: Signing | None) -> int:
    usual = _begin() + 3600 + int(settings.IMAGE_URL_LIFETIME.total_seconds())
    return usual if signing is None or signing.ends is None else min(usual, signing.ends)


def _begin() -> int:
    return int(time.time()) // 3600 * 3600


def _signing() -> Signing | None:
    """Return the credentials for addresses of the bucket; ``None`` if addresses lead to the web process, as while there
    are no credentials."""
    if settings.RESULT_STORAGE != "s3" or settings.CDN_BASE_URL:
        return None
    bucket: Any = default_storage
    try:
        signing: Signing = bucket.signing()
    except OSError as error:
        logger.warning("addresses lead to the web process: %s", error)
        return None
    return signing


def _signature(kind: str, request_id: str, expires: int) -> str:
    return _signer().signature(f"{kind}:{request_id}:{expires}")


@functools.cache
def _signer() -> Signer:
    return Signer(salt="generation.storage")


@functools.cache
def _folder(kind: str) -> str:
    # Cached: a page of a list has forty addresses, and reversing each took a third of its time.
    return reverse(f"generation:{kind}", args=["-", ""]).removesuffix("-")


def signed_url(kind: str, request_id: str, extension: str = "") -> str:
    """Return an absolute address (of kind ``image`` or ``thumbnail``) that works without a token until it expires."""
    return _signed(kind, request_id, extension, _end_of(None))


def _signed(kind: str, request_id: str, extension: str, expires: int) -> str:
    path = f"{_folder(kind)}{request_id}" + (f".{extension}" if extension else "")
    # Neither needs quoting, and quoting takes longer than signing.
    query = f"expires={expires}&signature={_signature(kind, request_id, expires)}"
    return f"{settings.PUBLIC_BASE_URL}{path}?{query}"


def preview_url(request_id: str, key: str) -> str:
    """Return an absolute address of the preview with this key, which works without a token for about an hour.

    It leads to the web process, which checks the request's status: an address of the bucket or of a CDN would show a
    preview of a cancelled request. Its last parameter tells browsers one preview from the next.
    """
    stem, _, extension = key.rpartition(".")
    claim, index = stem.split("-")[1:3]
    return f"{_signed('preview', request_id, extension, preview_expiry())}&preview={claim}.{index}"


def preview_expiry() -> int:
    """Return when an address of a preview that is signed now expires. It moves in steps of ten minutes."""
    return int(time.time()) // 600 * 600 + 600 + 3600


def address(kind: str, request_id: str, key: str, extension: str = "") -> str:
    """Return the address of the image or thumbnail with this key: of the CDN (``CDN_BASE_URL``), of the bucket, or else
    of the web process."""
    if settings.CDN_BASE_URL:
        return f"{settings.CDN_BASE_URL}/{key}"
    return private_address(kind, request_id, key, extension)


def private_address(kind: str, request_id: str, key: str, extension: str = "") -> str:
    """Return an address that expires: of the bucket, or else of the web process. A CDN's would not."""
    if signing := _signing():
        return _bucket_address(key, _begin(), _end_of(signing), signing.credentials)
    return signed_url(kind, request_id, extension)


@functools.lru_cache(maxsize=4096)
def _bucket_address(key: str, begun: int, expires: int, credentials: Any) -> str:
    bucket: Any = default_storage
    return str(bucket.signed_address(key, at=begun, expires=expires, credentials=credentials))


def signature_is_valid(kind: str, request_id: str, expires: str, signature: str) -> bool:
    """Return whether :func:`signed_url` made this signature and it has not expired."""
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
        return False
    expected = _signature(kind, request_id, int(expires))
    return constant_time_compare(signature, expected) and int(expires) >= time.time()
