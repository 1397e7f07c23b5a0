"""Retry while the database or the storage is unavailable, where giving up would cost more than waiting."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, TypeVar

from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from generation.db.outages import is_outage

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: How long to wait for an unavailable database.
DATABASE: Final = timedelta(minutes=1)
#: Seconds before the second try; each further pause is twice as long.
_FIRST_PAUSE: Final = 0.1


async def retry_while_unavailable(
    act: Callable[[], Awaitable[T]],
    *errors: type[Exception],
    patience: timedelta = DATABASE,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """Await ``act()``, and retry it with backoff for up to ``patience`` while the database is unavailable, or if
    ``errors`` are given, while one of them is raised. Return its result."""

    def is_temporary(error: BaseException) -> bool:
        return isinstance(error, errors) if errors else is_outage(error)

    try:
        return await act()  # the usual case, without the cost of setting up the retries
    except Exception as error:
        if not is_temporary(error):
            raise
        logger.warning("trying again for up to %s: %s", patience, error)

    async def again() -> T:  # tenacity awaits only coroutine functions
        return await act()

    await pause(_FIRST_PAUSE)
    retrying = AsyncRetrying(
        retry=retry_if_exception(is_temporary),
        wait=wait_exponential_jitter(initial=2 * _FIRST_PAUSE, max=5),
        stop=stop_after_delay(patience),
        sleep=pause,
        reraise=True,
    )
    return await retrying(again)
