"""Names for requests and batches: unguessable, and in the order of time when sorted."""

from __future__ import annotations

import re
import secrets
import time
from typing import Final

_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_RANDOM_LENGTH: Final = 18  # 93 bits

REQUEST_ID: Final = re.compile(r"vga_[0-9]{10,20}_[a-z0-9]{9,32}")


def _new(prefix: str) -> str:
    microseconds = time.time_ns() // 1000
    return f"{prefix}_{microseconds}_" + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))


def new_request_id() -> str:
    """``vga_``, microseconds since 1970, ``_``, 93 random bits in base 36."""
    return _new("vga")


def new_batch_id() -> str:
    """As :func:`new_request_id`, with ``vgb_``."""
    return _new("vgb")
