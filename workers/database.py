"""The database for the coroutines of a worker: frequent statements in groups, all others in a few threads.

A worker needs the same few connections for any number of slots: one for the groups, one for each thread, and one for
the heartbeat.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final, TypeVar

from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection

from generation import event_loop
from generation.db.groups import Group, Lane
from generation.requests import lifecycle, permits
from generation.requests.claims import CallPermit, Claim
from generation.requests.endings import Ending
from workers.resilience import retry_while_unavailable

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Threads for statements that are not frequent. More would add connections, and few slots need them at the same time.
_THREADS: Final = 2


class Database:
    """The database of one worker process. Its coroutines run on the process's event loop."""

    def __init__(self, *, worker: str, call_deadline: timedelta) -> None:
        self._worker = worker
        lane = Lane("statements")
        self._claims = Group(lane, partial(lifecycle.claim_unlocked, worker=worker))
        self._calls = Group(lane, partial(permits.begin_calls_unlocked, deadline=call_deadline))
        self._ends = Group(lane, lifecycle.end_unlocked)
        self._releases = Group(lane, lifecycle.end_unlocked)
        self._call_deadline = call_deadline
        self._threads = ThreadPoolExecutor(_THREADS, "database")
        self._heartbeat = ThreadPoolExecutor(1, "heartbeat")

    def close(self) -> None:
        """Wait for the statements that are running, and take no more."""
        for threads in (self._threads, self._heartbeat):
            threads.shutdown(cancel_futures=True)

    # --- In groups ---

    async def claim(self, request_id: str) -> Claim | None:
        """Claim a request, or return None; see :func:`generation.requests.lifecycle.claim`."""
        claim = await self._claims.ask_async((request_id,))
        return claim or await self.once(partial(lifecycle.claim, request_id, worker=self._worker))

    async def begin_call(
        self,
        claim: Claim,
        *,
        provider: str,
        model: str,
        prompt: str,
        billable: bool,
        estimate: Decimal | None,
        pace: Callable[[], timedelta] | None,
    ) -> CallPermit:
        """Ask for the permit of a call; see :func:`generation.requests.permits.begin_call`."""
        call: dict[str, Any] = {"provider": provider, "model": model, "prompt": prompt, "billable": billable}
        call["estimate"] = estimate
        if not await self.cached(partial(permits.needs_budget, claim, billable=billable, estimate=estimate)):
            permit = await retry_while_unavailable(lambda: self._calls.ask_async((claim, call)))
            if permit is not None:
                return permit
        return await self.run(partial(permits.begin_call, claim, **call, deadline=self._call_deadline, pace=pace))

    async def end(self, ending: Ending) -> bool:
        """End a claim; see :func:`generation.requests.lifecycle.end`."""
        return await retry_while_unavailable(partial(self._end, ending))

    async def _end(self, ending: Ending) -> bool:
        if ending.is_grouped:
            group = self._releases if ending.requeues else self._ends
            wake_ups = await group.ask_async(ending)
            if wake_ups is not None:
                for wake in wake_ups:
                    await self._wake(wake)
                return True
        return await self.once(partial(lifecycle.end, ending))

    async def _wake(self, wake: Callable[[], object]) -> None:
        try:
            await self.once(wake)
        except Exception:  # the dispatcher repeats it
            logger.exception("waking other requests failed")

    # --- In threads ---

    async def run(self, act: Callable[[], T]) -> T:
        """Return the result of a function that uses the database. It is repeated while the database is unavailable."""
        return await retry_while_unavailable(lambda: self.once(act))

    async def once(self, act: Callable[[], T]) -> T:
        """Return the result of a function that uses the database, run in a thread."""
        return await _in_thread(self._threads, act)

    def blocking(self, act: Callable[[], T]) -> T:
        """Return the result of :meth:`once` to a thread that may wait for it."""
        return event_loop.loop.submit(self.once(act)).result()

    async def cached(self, act: Callable[[], T]) -> T:
        """Return the result of a function that reads and rarely needs the database, since it caches its answers."""
        try:
            return act()
        except SynchronousOnlyOperation:  # Django's answer to a query on the event loop
            return await self.run(act)

    async def extend_leases(
        self, claims: Collection[tuple[str, int]], beat: Callable[[], object]
    ) -> set[tuple[str, int]]:
        """Run ``beat`` and extend the leases, on a connection that nothing else waits for. Return the valid claims."""

        def extend() -> set[tuple[str, int]]:
            beat()
            return permits.extend_leases(claims, worker=self._worker) if claims else set()

        return await _in_thread(self._heartbeat, extend)


async def _in_thread(threads: ThreadPoolExecutor, act: Callable[[], T]) -> T:
    context = copy_context()
    return await asyncio.get_running_loop().run_in_executor(threads, context.run, _with_connection, act)


def _with_connection(act: Callable[[], T]) -> T:
    try:
        return act()
    finally:
        connection.close()
