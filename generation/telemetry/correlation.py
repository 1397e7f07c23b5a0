"""The id of the API call that work belongs to, in every process. It is on every log line."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from structlog.contextvars import bound_contextvars, get_contextvars

#: The header of calls and answers, and its name in messages and log lines.
HEADER: Final = "X-Request-ID"
FIELD: Final = "http_request_id"
_ACCEPTABLE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def accepted(given: str) -> str:
    """Return the id that a client or proxy sent, if it is short and plain, else a new one."""
    return given if _ACCEPTABLE.fullmatch(given) else uuid.uuid4().hex


def current() -> str:
    """Return the id of the call that this thread works for; empty outside one."""
    return str(get_contextvars().get(FIELD, ""))


@contextmanager
def bound_to(call: str) -> Iterator[None]:
    """Add the id to the log lines of this thread, and of the coroutines that it starts, during the block."""
    with bound_contextvars(**({FIELD: call} if call else {})):
        yield
