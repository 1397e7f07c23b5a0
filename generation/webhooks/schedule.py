"""When a failed delivery is tried again, and when it is given up."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

#: Seconds from one attempt to the next, after the first one, the second one and so on. Part of the API's contract.
DELAYS: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
#: The longest wait that a receiver may ask for, in seconds.
LONGEST_WAIT: Final = 86_400.0
#: Delays from this one on are lengthened a little, so that deliveries that failed together are not tried together.
_JITTER_FROM: Final = 300
_JITTER: Final = 0.05
#: The statuses whose ``Retry-After`` is followed.
_WAITING: Final = frozenset({429, 503})


def delay_after(tries: int, *, status: int | None, retry_after: float | None) -> float | None:
    """Return the seconds until the next attempt after so many, or None if there is none."""
    if tries > len(DELAYS):
        return None
    delay = float(DELAYS[tries - 1])
    if delay >= _JITTER_FROM:
        delay *= 1 + random.uniform(0, _JITTER)  # noqa: S311  not for security
    if status in _WAITING and retry_after is not None:
        delay = max(delay, min(retry_after, LONGEST_WAIT))
    return delay


def retry_after_of(value: str, *, now: datetime) -> float | None:
    """Return the seconds that a ``Retry-After`` header means, or None if it is unreadable."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - now).total_seconds()), LONGEST_WAIT)
