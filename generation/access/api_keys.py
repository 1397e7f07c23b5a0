"""API keys: their secrets, the lookup at each call, and the actions of their owners.

A secret is ``vgsk_``, eight characters that name the key, ``_``, 40 random characters (238 bits) and six that are the
CRC-32 of all before them, by which secret scanners recognize it. All characters are of base 62. The table has the
SHA-256 of the secret; a slow hash would protect nothing more, since it cannot be guessed.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from django.contrib.auth.models import User
from django.db import Error, transaction
from django.db.models import Q, QuerySet

from generation.access import audit
from generation.access.grants import Grant
from generation.caching import ttl_cache
from generation.db.functions import Now
from generation.models import ApiKey

PREFIX: Final = "vgsk_"
#: Keys of one owner that are not revoked.
MOST_KEYS: Final = 50
#: Seconds for which a process caches a key. A revoked key works at most this long.
CACHE_SECONDS: Final = 2
#: How long the previous secret stays valid after a rotation, at most.
LONGEST_OVERLAP: Final = timedelta(hours=72)
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH: Final = 8
_SECRET_LENGTH: Final = 40
_CHECKSUM_LENGTH: Final = 6
_LENGTH: Final = len(PREFIX) + _ID_LENGTH + 1 + _SECRET_LENGTH + _CHECKSUM_LENGTH
#: The time of the last use is written at most this often.
_USE_NOTED_EVERY: Final = timedelta(minutes=1)


class TooManyKeysError(Exception):
    """The owner has :data:`MOST_KEYS` keys."""


class FoundKey(NamedTuple):
    """A valid key: its owner, its rights, until when its secret is valid, and when its use was last noted."""

    owner: User
    grant: Grant
    valid_until: datetime | None
    last_used_at: datetime | None


# --- Secrets ----------------------------------------------------------------------------------------------------------


def new_secret(key_id: str) -> str:
    """Return a new secret of the key."""
    text = f"{PREFIX}{key_id}_{_random(_SECRET_LENGTH)}"
    return text + checksum(text)


def checksum(text: str) -> str:
    """Return the CRC-32 of a text in base 62, padded to six characters."""
    number, digits = zlib.crc32(text.encode()), ""
    while number:
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits.rjust(_CHECKSUM_LENGTH, _ALPHABET[0])


def digest(secret: str) -> str:
    """Return the SHA-256 under which a secret is stored."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def is_secret(token: str) -> bool:
    """Return whether a bearer token is meant as an API key."""
    return token.startswith(PREFIX)


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


# --- The lookup -------------------------------------------------------------------------------------------------------


def find(secret: str, *, address: str) -> FoundKey | None:
    """Return the key of this secret, or None if it is unknown, malformed, expired or revoked, or its owner inactive.

    Each of these is one lookup without a row, so that they differ neither in the answer nor in the time.
    """
    try:
        found = _cached(digest(secret[: _LENGTH + 1]))
    except ApiKey.DoesNotExist:
        return None
    now = datetime.now(UTC)
    if found.valid_until is not None and found.valid_until <= now:
        return None
    is_due = found.last_used_at is None or now - found.last_used_at >= _USE_NOTED_EVERY
    if is_due and next(_uses_within_a_minute(found.grant.key_id)) == 0:
        _note_use(found.grant.key_id, address)
    return found


@ttl_cache(seconds=CACHE_SECONDS, maxsize=4096)
def _cached(digest: str) -> FoundKey:
    """Raises ``ApiKey.DoesNotExist``, which is not cached."""
    key = valid_keys().select_related("owner").get(Q(digest=digest) | Q(previous_digest=digest))
    return FoundKey(key.owner, Grant.of(key), _valid_until(key, digest), key.last_used_at)


def _valid_until(key: ApiKey, digest: str | None) -> datetime | None:
    ends = [key.expires_at, key.previous_until if key.digest != digest else None]
    return min(filter(None, ends), default=None)


def find_all(digests: Collection[str]) -> dict[str, Grant]:
    """Return the rights of the valid secrets among these digests, by one query and not from the cache."""
    asked, now = set(digests), datetime.now(UTC)
    if not asked:
        return {}
    keys = valid_keys().filter(Q(digest__in=asked) | Q(previous_digest__in=asked))
    found = {digest: key for key in keys for digest in (key.digest, key.previous_digest) if digest in asked}
    ends = {digest: _valid_until(key, digest) for digest, key in found.items()}
    return {str(digest): Grant.of(key) for digest, key in found.items() if (end := ends[digest]) is None or end > now}


def valid_keys() -> QuerySet[ApiKey]:
    """Return the keys that are neither revoked nor expired, and whose owners are active."""
    return (
        ApiKey.objects.filter(revoked_at=None, owner__is_active=True)
        .filter(Q(expires_at=None) | Q(expires_at__gt=Now()))
        .order_by()
    )


@ttl_cache(seconds=_USE_NOTED_EVERY.total_seconds(), maxsize=4096)
def _uses_within_a_minute(key_id: str) -> Iterator[int]:
    return itertools.count()


@ttl_cache(seconds=CACHE_SECONDS, maxsize=4096)
def is_valid(key_id: str) -> bool:
    """Return whether the key is neither revoked nor expired and its owner active."""
    return valid_keys().filter(pk=key_id).exists()


def _note_use(key_id: str, address: str) -> None:
    """Note when and from where the key was used. An error must not fail the call."""
    now = Now()
    due = Q(last_used_at=None) | Q(last_used_at__lte=now - _USE_NOTED_EVERY)
    with suppress(Error), transaction.atomic():
        ApiKey.objects.filter(due, pk=key_id).update(last_used_at=now, last_used_from=address[:45])


# --- Their owners -----------------------------------------------------------------------------------------------------


def of_owner(owner: User) -> QuerySet[ApiKey]:
    """Return the owner's keys that are not revoked, the newest first."""
    return ApiKey.objects.filter(owner=owner, revoked_at=None)


def create(owner: User, values: Mapping[str, Any], *, address: str) -> tuple[ApiKey, str]:
    """Make a key with these columns. Return it with its secret, which nothing can show again. Raises
    :class:`TooManyKeysError`."""
    with transaction.atomic():
        # Two calls at once must not both see one free place.
        User.objects.select_for_update(no_key=True).get(pk=owner.pk)
        if of_owner(owner).count() >= MOST_KEYS:
            raise TooManyKeysError
        key, secret = _insert(owner, values)
        audit.record(owner, key, f"Made the API key {key}", address=address, flag=audit.ADDITION)
    return key, secret


def _insert(owner: User, values: Mapping[str, Any]) -> tuple[ApiKey, str]:
    key_id = _random(_ID_LENGTH)
    while ApiKey.objects.filter(pk=key_id).exists():
        key_id = _random(_ID_LENGTH)
    secret = new_secret(key_id)
    return ApiKey.objects.create(pk=key_id, owner=owner, digest=digest(secret), **values), secret


def change(key: ApiKey, values: Mapping[str, Any], *, by: User, address: str) -> None:
    """Write these columns."""
    for name, value in values.items():
        setattr(key, name, value)
    with transaction.atomic():
        key.save(update_fields=list(values))
        audit.record(by, key, f"Changed {', '.join(sorted(values))} of the API key {key}", address=address)
    _cached.cache_clear()


def rotate(key: ApiKey, *, overlap: timedelta, by: User, address: str) -> str:
    """Give the key a new secret and return it. The old one stays valid for the overlap."""
    secret = new_secret(key.pk)
    key.previous_digest, key.previous_until = key.digest, datetime.now(UTC) + overlap
    if not overlap:
        key.previous_digest = key.previous_until = None
    key.digest = digest(secret)
    with transaction.atomic():
        key.save(update_fields=["digest", "previous_digest", "previous_until"])
        audit.record(by, key, f"Rotated the API key {key}", address=address)
    _cached.cache_clear()
    return secret


def revoke(key: ApiKey, *, by: User, address: str) -> bool:
    """End the key. Return False if it is revoked already."""
    with transaction.atomic():
        revoked = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=Now())
        if revoked:
            audit.record(by, key, f"Revoked the API key {key}", address=address, flag=audit.DELETION)
    _cached.cache_clear()
    return bool(revoked)
