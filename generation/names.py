"""One normalization for each kind of name. Every door uses it: the API, live updates, sign-in, the admin's filters."""

from __future__ import annotations

import unicodedata
from typing import Final

#: NFKC makes one character into up to 18. Longer input cannot be a user's name, so it is not normalized.
_LONGEST_USER_NAME: Final = 1_000


def user_name(text: str) -> str:
    """Return the name of a user as Django stores it: in NFKC, without white space around it."""
    text = text.strip()
    return unicodedata.normalize("NFKC", text).strip() if len(text) <= _LONGEST_USER_NAME else text


def user_key(text: str) -> str:
    """Return the key under which sign-ins are counted: the same for all spellings of a user's name."""
    return user_name(text).casefold()


def identifier(text: str) -> str:
    """Return an id without white space around it: of a request, a batch, a project or a page, or an idempotency key.
    The rest is compared character by character."""
    return text.strip()
