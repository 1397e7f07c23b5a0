"""Signing secrets: made, encrypted, rotated, and the signatures by the rules of Standard Webhooks.

A secret has to be readable, so it is encrypted with a key that is derived from ``SECRET_KEY`` for this purpose alone.
After a change of ``SECRET_KEY`` without ``SECRET_KEY_FALLBACKS`` it is unreadable, and a rotation makes a new one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.contrib.auth.models import User
from django.utils.crypto import salted_hmac

from generation.models import WebhookSecret
from generation.models.webhooks import RotatingSecret

PREFIX: Final = "whsec_"
#: How long the previous secret signs as well after a rotation, at most.
LONGEST_OVERLAP: Final = timedelta(hours=72)
_BYTES: Final = 32


class UnreadableSecretError(Exception):
    """The secret was encrypted with another ``SECRET_KEY``."""


def new() -> str:
    """Return a new secret as clients see it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def encrypt(secret: str) -> str:
    """Return the secret as it is stored."""
    return _fernet().encrypt(secret.encode()).decode()


def decrypt(stored: str) -> str:
    """Return a stored secret as clients see it. Raises :class:`UnreadableSecretError`."""
    try:
        return _fernet().decrypt(stored.encode()).decode()
    except InvalidToken:
        raise UnreadableSecretError from None


def _fernet() -> MultiFernet:
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    derived = (salted_hmac("generation.webhooks.secrets", "", key, algorithm="sha256").digest() for key in keys)
    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in derived])


def rotate(row: RotatingSecret, *, overlap: timedelta) -> str:
    """Give the row a new secret and return it. The caller saves the row; the previous secret signs for the overlap."""
    secret = new()
    row.previous_secret, row.previous_until = row.secret, datetime.now(UTC) + overlap
    if not overlap:
        row.previous_secret, row.previous_until = "", None
    row.secret = encrypt(secret)
    return secret


def valid_secrets(row: RotatingSecret, *, now: datetime) -> list[str]:
    """Return the secrets that sign now, the newest first. Raises :class:`UnreadableSecretError` for the newest one."""
    found = [decrypt(row.secret)]
    if row.previous_secret and row.previous_until is not None and row.previous_until > now:
        with suppress(UnreadableSecretError):
            found.append(decrypt(row.previous_secret))
    return found


def headers(secrets_: Collection[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a message, with one signature for each of the secrets."""
    signed = b".".join([message_id.encode(), str(timestamp).encode(), body])
    signatures = [
        base64.b64encode(hmac.digest(base64.b64decode(secret.removeprefix(PREFIX)), signed, hashlib.sha256)).decode()
        for secret in secrets_
    ]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


# --- The default secret of an owner -----------------------------------------------------------------------------------


def default(owner: User) -> WebhookSecret:
    """Return the owner's default secret, which is made at its first use."""
    return default_of(owner.pk)


def default_of(owner_id: int) -> WebhookSecret:
    """Return the default secret of the owner with this id; see :func:`default`."""
    made: dict[str, Any] = {"secret": encrypt(new())}
    row, _ = WebhookSecret.objects.get_or_create(owner_id=owner_id, defaults=made)
    return row
