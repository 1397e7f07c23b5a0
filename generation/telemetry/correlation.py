"""Which call of the API something belongs to, in whatever process it happens: its id is on every line of the log."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from structlog.contextvars import bound_contextvars, get_contextvars

#: The header of a call and of its answer, and the name of it in messages and log lines.
HEADER: Final = "X-Request-ID"
FIELD: Final = "http_request_id"
_ACCEPTABLE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def accepted(given: str) -> str:
    """The id that a client or proxy gave, if it is short and plain, else a new one."""
    return given if _ACCEPTABLE.fullmatch(given) else uuid.uuid4().hex


def current() -> str:
    """The id of the call that is being answered or worked off here; empty outside one."""
    return str(get_contextvars().get(FIELD, ""))


@contextmanager
def bound_to(call: str) -> Iterator[None]:
    """While this lasts, lines of this thread, and of what it starts on the background loop, carry the id."""
    with bound_contextvars(**({FIELD: call} if call else {})):
        yield
