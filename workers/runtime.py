"""The background work of a worker process: provider calls, heartbeat, cancellations, and refilling the queues."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final, TypeVar

from channels.layers import get_channel_layer
from django.conf import settings
from django.db import Error

from generation import event_loop
from generation.db.functions import Now
from generation.db.outages import log_failure
from generation.models import WorkerProcess
from generation.queue import dispatch
from generation.queue.broker import BrokerUnavailable
from generation.requests import events
from generation.requests.claims import Claim
from generation.states import ErrorCode
from workers.database import Database
from workers.processes import process_name
from workers.providers.base import CallProgress, ProviderError, track_progress

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Minimum seconds between two refills of the queues, unless as many attempts end earlier as this worker has slots: half
#: of its share of the messages is used up then. And the fewest attempts of which that is true.
_REFILL_PAUSE: Final = 0.2
_FEWEST_REFILLED: Final = 4
#: Seconds before a failed heartbeat is repeated. One that failed on a lock or a statement's time-out must not cost the
#: lease.
_HEARTBEAT_RETRY: Final = 1.0
#: Seconds between two tries to listen for cancellations.
_LISTEN_PAUSE: Final = 1.0
#: A call keeps its slot at the provider for this time after its time-out.
_CALL_GRACE: Final = timedelta(seconds=5)
#: The share of a lease that the worker itself uses, and the share between two checks of whether that is over.
_LEASE_SHARE: Final = 0.9
_WATCH_SHARE: Final = 0.05


class AttemptCancelled(Exception):  # noqa: N818  not an error
    """The attempt's claim is no longer valid: its request was cancelled, or the lease ran out."""


class RunningAttempt:
    """An attempt while it runs. Its methods are called on the event loop."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.key = claim.key
        self.extend_lease(claim.lease_requested_at)
        self._call: asyncio.Task[Any] | None = None
        self._progress: CallProgress | None = None
        self._cancel_reason = ""
        self._cancelled = asyncio.Event()
        #: Called when the attempt has ended, however that came.
        self.when_ended: Callable[[], None] | None = None

    @property
    def sent(self) -> bool:
        """Whether the vendor may have received the newest call."""
        return self._progress is not None and self._progress.sent

    def extend_lease(self, requested_at: float) -> None:
        """Extend the lease from the time (of the monotonic clock) at which it was requested from the database.

        It ends here earlier than in the database, so that the call is cancelled before another worker can claim the
        request.
        """
        self._lease_until = requested_at + _LEASE_SHARE * settings.LEASE.total_seconds()

    def cancel_if_expired(self) -> None:
        """Cancel the attempt if the lease was not extended in time."""
        if time.monotonic() > self._lease_until:
            self.cancel("the lease ran out")

    def cancel(self, reason: str) -> None:
        """Cancel the running call and prevent further ones."""
        self._cancel_reason = reason
        self._cancelled.set()
        if self._call is not None:
            self._call.cancel()

    async def pause(self, seconds: float) -> None:
        """Wait between two tries. Raises :class:`AttemptCancelled` as soon as the attempt is cancelled."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._cancelled.wait()
        if self._cancelled.is_set():
            raise AttemptCancelled(self._cancel_reason)

    async def call(
        self, work: Coroutine[Any, Any, T], *, limit: float, show: Callable[[bytes], None] | None = None
    ) -> T:
        """Return the result of the coroutine. ``show`` gets the previews meanwhile.

        Raises :class:`AttemptCancelled`, and :class:`ProviderError` after ``limit`` seconds in all, also if the
        answer is still arriving: ``unknown_outcome`` if the request was sent, since it may have been billed, else
        ``timeout``.
        """

        async def bounded() -> T:
            progress = self._progress = track_progress(show)
            try:
                async with asyncio.timeout(limit):
                    return await work
            except TimeoutError:
                code = ErrorCode.UNKNOWN_OUTCOME if progress.sent else ErrorCode.TIMEOUT
                raise ProviderError(f"No image within {limit:g} s", code=code, sent=progress.sent) from None

        # The process may have been suspended since the call was permitted, and another worker may have the request.
        self.cancel_if_expired()
        if self._cancelled.is_set():
            work.close()
            raise AttemptCancelled(self._cancel_reason)
        # A task of its own, so that a cancel of the attempt ends the call and nothing else.
        call = self._call = asyncio.create_task(bounded())
        try:
            result: T = await call
            if self._progress is not None:
                self._progress.sent = True  # there is an answer
            return result
        except asyncio.CancelledError:
            if not self._cancelled.is_set():
                call.cancel()
                raise  # the loop ends
            raise AttemptCancelled(self._cancel_reason) from None
        finally:
            if call.done():
                work.close()  # it never began if the task was cancelled before


class Runtime:
    """The runtime of a worker process. Its name is unique among the live processes."""

    def __init__(self, *, slots: int) -> None:
        self.name = process_name()
        self.slots = slots
        self.database = Database(worker=self.name, call_deadline=settings.PROVIDER_TIMEOUT + _CALL_GRACE)
        #: Set when the process was told to stop: requests that have not been sent to a provider are released.
        self.stopping = threading.Event()
        self._unfilled = 0
        self._many = max(_FEWEST_REFILLED, slots)
        self._finished = asyncio.Event()
        self._many_finished = asyncio.Event()
        self._attempts: dict[tuple[str, int], RunningAttempt] = {}
        self._coroutines: list[Future[None]] = []

    def start(self) -> None:
        """Start the heartbeat and the other background work."""
        background = (self._heartbeat, self._refill, self._listen, self._watch)
        self._coroutines = [event_loop.loop.submit(run()) for run in background]

    def stop(self) -> None:
        """Stop the background work and delete this worker's row at once, instead of letting its heartbeat expire."""
        self.stopping.set()
        for coroutine in self._coroutines:
            coroutine.cancel()
        self.database.close()  # a last heartbeat would write the row again
        try:
            WorkerProcess.objects.filter(pk=self.name).delete()
        except Error as error:
            log_failure(logger, "deleting the worker's row failed", error)

    @contextmanager
    def working_on(self, claim: Claim) -> Iterator[RunningAttempt]:
        """Return a context with an attempt whose lease the heartbeat extends, and which a cancellation reaches."""
        attempt = RunningAttempt(claim)
        self._attempts[attempt.key] = attempt
        try:
            yield attempt
        finally:
            del self._attempts[attempt.key]
            if attempt.when_ended is not None:
                attempt.when_ended()
            self._unfilled += 1
            self._finished.set()
            if self._unfilled >= self._many:
                self._many_finished.set()

    async def _heartbeat(self) -> None:
        while True:
            wait = settings.HEARTBEAT_INTERVAL.total_seconds()
            try:
                await self._beat()
            except Exception as error:  # an end of the heartbeat would cost the worker every claim
                log_failure(logger, "heartbeat", error)
                wait = min(wait, _HEARTBEAT_RETRY)
            await asyncio.sleep(wait)

    async def _beat(self) -> None:
        attempts = dict(self._attempts)
        requested_at = time.monotonic()
        valid = await self.database.extend_leases(attempts.keys(), self._show_alive)
        for key, attempt in attempts.items():
            if key in valid:
                attempt.extend_lease(requested_at)
            else:
                attempt.cancel("the claim is stale")

    def _show_alive(self) -> None:
        WorkerProcess.objects.update_or_create(name=self.name, defaults={"slots": self.slots, "seen_at": Now()})

    async def _refill(self) -> None:
        """Send due messages after each finished attempt, rather than waiting for the dispatcher."""
        while True:
            await self._finished.wait()
            self._unfilled = 0
            self._finished.clear()
            self._many_finished.clear()
            try:
                await self.database.once(dispatch.send_due)
            except BrokerUnavailable:
                logger.debug("nothing is sent while the broker is unavailable")
            except Exception as error:
                log_failure(logger, "refill", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(_REFILL_PAUSE):
                    await self._many_finished.wait()

    async def _listen(self) -> None:
        """Cancel attempts whose request was cancelled. The heartbeat finds those whose message was lost."""
        while True:
            try:
                layer = get_channel_layer()
                assert layer is not None  # noqa: S101  CHANNEL_LAYERS has a default
                channel = await layer.new_channel()
                await layer.group_add(events.CANCELLATIONS, channel)
                while True:
                    message = await events.next_message(layer, channel)
                    cancelled = message["claims"]
                    for attempt in list(self._attempts.values()):
                        # A late message must not cancel the attempt of a newer claim.
                        request_id, number = attempt.key
                        if number <= cancelled.get(request_id, 0):
                            attempt.cancel("cancelled")
            except asyncio.CancelledError:
                raise
            except Exception as error:  # the layer's client raises errors of many kinds
                logger.warning("not listening for cancellations at the moment: %s", error)
                await asyncio.sleep(_LISTEN_PAUSE)

    async def _watch(self) -> None:
        """Cancel attempts whose lease was not extended, by this process's clock, before another worker claims them."""
        while True:
            await asyncio.sleep(_WATCH_SHARE * settings.LEASE.total_seconds())
            for attempt in list(self._attempts.values()):
                attempt.cancel_if_expired()
