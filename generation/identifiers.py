"""Ids of requests, batches, uploads and webhooks (unguessable, sorted by time), and one normalization for each name.

Every entry uses the normalization: the API, live updates, sign-in, the admin's filters.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
import unicodedata
from datetime import timedelta
from typing import Final

_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]
_RANDOM_LENGTH: Final = 18  # 93 bits
_LAST_MICROSECOND: Final = 10**16 - 1  # in the year 2286; up to then all have 16 digits

#: NFKC makes one character into up to 18. Longer input cannot be a user's name, so it is not normalized.
_LONGEST_USER_NAME: Final = 1_000

REQUEST_ID: Final = re.compile(r"vga_[0-9]{10,20}_[a-z0-9]{9,32}")
BATCH_ID: Final = re.compile(r"vgb_[0-9]{10,20}_[a-z0-9]{9,32}")
UPLOAD_ID: Final = re.compile(r"vgu_[0-9]{10,20}_[a-z0-9]{9,32}")
WEBHOOK_ID: Final = re.compile(r"vgw_[0-9]{10,20}_[a-z0-9]{9,32}")
DELIVERY_ID: Final = re.compile(r"vgd_[0-9]{10,20}_[a-z0-9]{9,32}")


_lock = threading.Lock()
_last = 0


def _microseconds() -> int:
    """Return the time, never the same twice in one process, so that ids made in a loop sort in their order."""
    global _last
    with _lock:
        _last = max(_last + 1, time.time_ns() // 1000)
        return _last


def _random() -> str:
    number = secrets.randbelow(len(_PAIRS) ** (_RANDOM_LENGTH // 2))  # one system call instead of one for each letter
    letters = ""
    for _ in range(_RANDOM_LENGTH // 2):
        number, pair = divmod(number, len(_PAIRS))
        letters += _PAIRS[pair]
    return letters


def _new(prefix: str) -> str:
    return f"{prefix}_{_microseconds()}_{_random()}"


def new_request_id() -> str:
    """Return ``vga_``, microseconds since 1970, ``_`` and 93 random bits in base 36."""
    return _new("vga")


def oldest_request_id(microseconds: int) -> str:
    """Return an id that sorts before all requests of this time (microseconds since 1970) and after all earlier ones."""
    return f"vga_{min(max(microseconds, 0), _LAST_MICROSECOND):016d}_"


def oldest_id_within(age: timedelta) -> str:
    """Return an id that sorts before every request of at most this age. Ids begin with their time, so the primary key
    serves instead of an index on ``created_at``."""
    return oldest_request_id(int((time.time() - age.total_seconds()) * 1_000_000))


def new_batch_id() -> str:
    """Return an id like :func:`new_request_id`, but with ``vgb_``."""
    return _new("vgb")


def new_upload_id() -> str:
    """Return an id like :func:`new_request_id`, but with ``vgu_``."""
    return _new("vgu")


def new_webhook_id() -> str:
    """Return an id like :func:`new_request_id`, but with ``vgw_``."""
    return _new("vgw")


def new_delivery_id() -> str:
    """Return an id like :func:`new_request_id`, but with ``vgd_``."""
    return _new("vgd")


# --- Normalization ---


def user_name(text: str) -> str:
    """Return the name of a user as Django stores it: in NFKC, without white space around it."""
    text = text.strip()
    return unicodedata.normalize("NFKC", text).strip() if len(text) <= _LONGEST_USER_NAME else text


def user_key(text: str) -> str:
    """Return the key under which sign-ins are counted: the same for all spellings of a user's name."""
    return user_name(text).casefold()


def identifier(text: str) -> str:
    """Return an id (of a request, batch, project or page, or an idempotency key) without white space around it. The
    rest is compared character by character."""
    return text.strip()
