"""The background work of a worker process: provider calls, heartbeat, cancellations, and refilling the queues."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from channels.layers import get_channel_layer
from django.conf import settings
from django.db import Error, close_old_connections, connection

from generation import event_loop
from generation.db.functions import Now
from generation.db.outages import log_failure
from generation.models import WorkerProcess
from generation.queue import dispatch
from generation.queue.broker import BrokerUnavailable
from generation.requests import events, permits
from generation.requests.claims import Claim
from generation.states import ErrorCode
from workers.processes import process_name
from workers.providers.base import CallProgress, ProviderError, track_progress

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Minimum seconds between two refills of the queues.
_REFILL_PAUSE: Final = 0.2
#: Seconds before a failed heartbeat is repeated. One that failed on a lock or a statement's time-out must not cost the
#: lease.
_HEARTBEAT_RETRY: Final = 1.0
#: Seconds between two tries to listen for cancellations.
_LISTEN_PAUSE: Final = 1.0
#: The share of a lease that the worker itself uses, and the share between two checks of whether that is over.
_LEASE_SHARE: Final = 0.9
_WATCH_SHARE: Final = 0.05


class AttemptCancelled(Exception):  # noqa: N818  not an error
    """The attempt's claim is no longer valid: its request was cancelled, or the lease ran out."""


class RunningAttempt:
    """An attempt while it runs. It can be cancelled by other threads."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.key = (claim.request.pk, claim.number)
        self.extend_lease(claim.lease_requested_at)
        self._lock = threading.Lock()
        self._call: Future[Any] | None = None
        self._progress: CallProgress | None = None
        self._cancel_reason = ""
        self._cancelled = threading.Event()

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
        with self._lock:
            self._cancel_reason = reason
            self._cancelled.set()
            if self._call is not None:
                self._call.cancel()

    def pause(self, seconds: float) -> None:
        """Wait between two tries. Raises :class:`AttemptCancelled` as soon as the attempt is cancelled."""
        if self._cancelled.wait(seconds):
            raise AttemptCancelled(self._cancel_reason)

    def call(self, work: Coroutine[Any, Any, T], *, timeout: float) -> T:
        """Run the coroutine on the event loop and wait for its result.

        Raises :class:`AttemptCancelled`, and :class:`ProviderError` after ``timeout`` seconds in all, also if the
        answer is still arriving: ``unknown_outcome`` if the request was sent, since it may have been billed, else
        ``timeout``.
        """

        async def bounded() -> T:
            progress = self._progress = track_progress()
            try:
                async with asyncio.timeout(timeout):
                    return await work
            except TimeoutError:
                code = ErrorCode.UNKNOWN_OUTCOME if progress.sent else ErrorCode.TIMEOUT
                raise ProviderError(f"No image within {timeout:g} s", code=code, sent=progress.sent) from None

        # The process may have been suspended since the call was permitted, and another worker may have the request.
        self.cancel_if_expired()
        with self._lock:
            if self._cancel_reason:
                work.close()
                raise AttemptCancelled(self._cancel_reason)
            call = self._call = event_loop.loop.submit(bounded())
        try:
            result: T = call.result()
            if self._progress is not None:
                self._progress.sent = True  # there is an answer
            return result
        except CancelledError:
            raise AttemptCancelled(self._cancel_reason) from None


class Runtime:
    """The runtime of a worker process. Its name is unique among the live processes."""

    def __init__(self, *, slots: int) -> None:
        self.name = process_name()
        self.slots = slots
        #: Set when the process was told to stop: requests that have not been sent to a provider are released.
        self.stopping = threading.Event()
        self._stopped = threading.Event()
        self._finished = threading.Event()
        self._attempts: dict[tuple[str, int], RunningAttempt] = {}
        self._threads = [
            threading.Thread(target=target, name=target.__name__.strip("_"), daemon=True)
            for target in (self._heartbeat, self._refill)
        ]
        self._coroutines: list[Future[None]] = []

    def start(self) -> None:
        """Start the heartbeat and the other background work."""
        for thread in self._threads:
            thread.start()
        self._coroutines = [event_loop.loop.submit(run()) for run in (self._listen, self._watch)]

    def stop(self) -> None:
        """Stop the background work and delete this worker's row at once, instead of letting its heartbeat expire."""
        self.stopping.set()
        self._stopped.set()
        self._finished.set()
        for coroutine in self._coroutines:
            coroutine.cancel()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=5)
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
            self._finished.set()

    # --- Threads, for work on the database ---

    def _every(self, pause: threading.Event, seconds: float, act: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            wait = seconds
            try:
                close_old_connections()
                act()
            except Exception as error:  # an end of the heartbeat's thread would cost the worker every claim
                log_failure(logger, threading.current_thread().name, error)
                wait = min(seconds, _HEARTBEAT_RETRY)
            finally:
                connection.close()
            pause.wait(wait)

    def _heartbeat(self) -> None:
        self._every(self._stopped, settings.HEARTBEAT_INTERVAL.total_seconds(), self._beat)

    def _beat(self) -> None:
        WorkerProcess.objects.update_or_create(name=self.name, defaults={"slots": self.slots, "seen_at": Now()})
        attempts = dict(self._attempts)
        if not attempts:
            return
        requested_at = time.monotonic()
        valid = permits.extend_leases(attempts.keys(), worker=self.name)
        for key, attempt in attempts.items():
            if key in valid:
                attempt.extend_lease(requested_at)
            else:
                attempt.cancel("the claim is stale")

    def _refill(self) -> None:
        """Send due messages after each finished attempt, rather than waiting for the dispatcher."""

        def send() -> None:
            if self._finished.is_set():
                self._finished.clear()
                try:
                    dispatch.send_due()
                except BrokerUnavailable:
                    logger.debug("nothing is sent while the broker is unavailable")
                self._stopped.wait(_REFILL_PAUSE)

        self._every(self._finished, 60, send)

    # --- Coroutines, for work that must not wait for the database ---

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
                        if attempt.claim.number <= cancelled.get(attempt.claim.request.pk, 0):
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
