"""Waiting for a database or a storage that is away, where giving up would cost more than waiting."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final, TypeVar

from django.db import InterfaceError, OperationalError, connection
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: How long a database that is away is waited for.
DATABASE: Final = timedelta(minutes=1)
#: Seconds before the second try; the pauses double.
_FIRST_PAUSE: Final = 0.1


def patiently(
    act: Callable[[], T],
    *errors: type[Exception],
    patience: timedelta = DATABASE,
    pause: Callable[[float], None] = time.sleep,
) -> T:
    """Try again while the database (or what raises these errors) is away, with growing pauses, for so long."""
    expected = errors or (OperationalError, InterfaceError)
    try:
        return act()  # nearly always it is there, and nothing needs to be set up
    except expected as error:
        logger.warning("trying again for up to %s: %s", patience, error)
        connection.close()  # also, who waits needs none
    pause(_FIRST_PAUSE)
    retrying = Retrying(
        retry=retry_if_exception_type(expected),
        wait=wait_exponential_jitter(initial=2 * _FIRST_PAUSE, max=5),
        stop=stop_after_delay(patience),
        sleep=pause,
        before_sleep=lambda _: connection.close(),
        reraise=True,
    )
    return retrying(act)
