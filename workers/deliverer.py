"""The deliverer process, which sends webhooks.

Any number may run: each takes events and leases deliveries by statements that skip what others have. A hint over the
channel layer wakes it after a status change; without Redis it still looks every second. Results that cannot be
written while the database is unavailable are kept until their leases end, after which the deliveries are sent again
under the same id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from channels.layers import get_channel_layer
from django.conf import settings
from django.db import connection

from generation.db.functions import Now
from generation.db.outages import log_failure
from generation.models import WorkerProcess
from generation.requests import events
from generation.states import ProcessKind
from generation.telemetry import metrics
from generation.webhooks import deliveries, leases, outbox
from generation.webhooks.breakers import Breakers
from generation.webhooks.leases import Leased, Result
from generation.webhooks.sender import Sender
from workers.processes import process_name

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Deliveries that are sent at once, and those of them that may be for targets whose last attempt failed.
SLOTS: Final = 100
_SUSPECT_SLOTS: Final = SLOTS // 2
#: Seconds between two looks without a hint, and at least between any two.
_INTERVAL: Final = 1.0
_SHORTEST_INTERVAL: Final = 0.01
#: Seconds between two searches for deliveries that did not end in time.
_SWEEP_INTERVAL: Final = 60.0
#: Seconds before a retry after an error of Redis or the database.
_RETRY_DELAY: Final = 1.0
#: Seconds that a stopped process gives to what it is sending.
_STOP_SECONDS: Final = 8.0
#: The most results of one statement, and the seconds for which results are kept while the database is unavailable.
_MOST_RESULTS: Final = 200
_KEEP_RESULTS: Final = leases.LEASE.total_seconds()
#: The process counts as stuck if no look ends for this number of seconds. Longer than any statement time-out.
_STUCK_AFTER: Final = 120.0


class Deliverer:
    """The deliverer of one process. Its coroutines run on one event loop."""

    def __init__(self, sender: Sender | None = None) -> None:
        self._sender = sender
        self._name = process_name()
        self._breakers = Breakers()
        # One thread looks for deliveries and one writes results, so that neither waits for the other.
        self._looking = ThreadPoolExecutor(1, "deliveries")
        self._writing = ThreadPoolExecutor(1, "results")
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._sending: dict[asyncio.Task[None], Leased] = {}
        self._results: asyncio.Queue[Result] = asyncio.Queue()
        self._seen_at = time.monotonic()
        self._swept_at = float("-inf")

    def is_alive(self) -> bool:
        """Return whether a look ended recently."""
        return time.monotonic() - self._seen_at < _STUCK_AFTER

    def stop(self) -> None:
        """Let :meth:`run` finish what is being sent, and end."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Deliver until :meth:`stop` is called. An outage of PostgreSQL or Redis does not end it."""
        self._sender = self._sender or Sender()
        background = [asyncio.create_task(work()) for work in (self._listen, self._beat)]
        writer = asyncio.create_task(self._write())
        try:
            while not self._stopping.is_set():
                started = time.monotonic()
                is_behind = await self._look()
                self._seen_at = time.monotonic()
                await asyncio.sleep(max(0.0, _SHORTEST_INTERVAL - (self._seen_at - started)))
                if not is_behind:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_INTERVAL):
                            await self._wake.wait()
                self._wake.clear()
        finally:
            for task in background:
                task.cancel()
            await self._end(writer)

    async def _end(self, writer: asyncio.Task[None]) -> None:
        """Wait a while for what is being sent, release the rest, and write all results."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=_STOP_SECONDS)
        for task in list(self._sending):
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RETRY_DELAY):
                await self._results.join()
        writer.cancel()
        with contextlib.suppress(Exception):
            await self._in_thread(self._writing, lambda: WorkerProcess.objects.filter(pk=self._name).delete())
        if self._sender is not None:
            await self._sender.aclose()
        for threads in (self._looking, self._writing):
            threads.shutdown(wait=False, cancel_futures=True)

    # --- Looking ---

    async def _look(self) -> bool:
        """Fan events out, and start to send due deliveries. Return whether there is more to do at once."""
        room = SLOTS - len(self._sending)
        suspects, probed, blocked = self._breakers.lists()
        suspect = sum(self._breakers.is_suspect(one.target) or one.tries > 0 for one in self._sending.values())
        is_sweep = time.monotonic() - self._swept_at > _SWEEP_INTERVAL

        def look() -> tuple[int, list[Leased]]:
            noted = outbox.fan_out()
            if is_sweep:
                deliveries.end_expired()
            if room <= 0:
                return noted, []
            taken = leases.take(
                room=room,
                suspect_room=max(0, _SUSPECT_SLOTS - suspect),
                suspects=suspects,
                probed=probed,
                blocked=blocked,
            )
            return noted, taken

        try:
            noted, taken = await self._in_thread(self._looking, look)
        except Exception as error:  # the next look tries again
            log_failure(logger, "looking for deliveries", error)
            await asyncio.sleep(_RETRY_DELAY)
            return False
        if is_sweep:
            self._swept_at = time.monotonic()
        for leased in taken:
            if self._breakers.is_blocked(leased.target):  # it has failed since the look began
                self._results.put_nowait(leases.interrupted(leased))
                continue
            self._breakers.begin(leased.target)
            task = asyncio.create_task(self._deliver(leased))
            self._sending[task] = leased
            task.add_done_callback(self._sending.pop)
        return noted == outbox.STEP or (room > 0 and len(taken) == room < SLOTS)

    # --- Sending ---

    async def _deliver(self, leased: Leased) -> None:
        assert self._sender is not None  # noqa: S101  run() makes it
        try:
            result = await self._sender.send(leased)
        except asyncio.CancelledError:
            self._results.put_nowait(leases.interrupted(leased))
            raise
        except Exception:
            logger.exception("a delivery failed unexpectedly", extra={"action": "error", "delivery": leased.id})
            result = leases.failed(leased, "internal")
        self._breakers.end(leased.target, result)
        _count(result)
        self._results.put_nowait(result)

    # --- Writing ---

    async def _write(self) -> None:
        """Write results in groups, forever."""
        while True:
            group = [await self._results.get()]
            while len(group) < _MOST_RESULTS and not self._results.empty():
                group.append(self._results.get_nowait())
            try:
                await self._settle(group)
            finally:
                for _ in group:
                    self._results.task_done()
                self._wake.set()  # their targets have a free slot

    async def _settle(self, group: Sequence[Result]) -> None:
        started = time.monotonic()
        while True:
            try:
                await self._in_thread(self._writing, lambda: leases.settle(group))
                return
            except Exception as error:
                log_failure(logger, "writing results of deliveries", error)
                if time.monotonic() - started > _KEEP_RESULTS:
                    return  # the leases are over, and the deliveries are sent again
            await asyncio.sleep(_RETRY_DELAY)

    # --- In the background ---

    async def _listen(self) -> None:
        """Wake at each message about status changes. Its content is not needed."""
        layer = get_channel_layer()
        assert layer is not None  # noqa: S101  CHANNEL_LAYERS has a default
        while True:
            try:
                channel = await layer.new_channel()
                await layer.group_add(events.UPDATES, channel)
                while True:
                    await events.next_message(layer, channel)
                    self._wake.set()
            except Exception as error:  # retry after any error of the layer's client
                logger.warning("no hints from Redis at the moment: %s", error)
                # Otherwise the layer would keep filling a channel that has no reader any more.
                with contextlib.suppress(Exception):
                    await layer.flush()
                await asyncio.sleep(_RETRY_DELAY)

    async def _beat(self) -> None:
        values = {"kind": ProcessKind.DELIVERER, "slots": 0}
        while True:
            try:
                await self._in_thread(
                    self._writing,
                    lambda: WorkerProcess.objects.update_or_create(
                        name=self._name, defaults=values | {"seen_at": Now()}
                    ),
                )
            except Exception as error:  # the next beat tries again
                log_failure(logger, "heartbeat", error)
            await asyncio.sleep(settings.HEARTBEAT_INTERVAL.total_seconds())

    async def _in_thread(self, threads: ThreadPoolExecutor, act: Callable[[], T]) -> T:
        def with_connection() -> T:
            try:
                return act()
            finally:
                connection.close()

        return await asyncio.get_running_loop().run_in_executor(threads, with_connection)


def _count(result: Result) -> None:
    if result.was_interrupted:
        return
    outcome: Any = "delivered" if result.has_succeeded else "failed"
    metrics.WEBHOOK_DELIVERIES.labels(outcome).inc()
    if result.status is not None or not result.leased.error:
        metrics.WEBHOOK_ATTEMPTS.observe(result.milliseconds / 1000)
