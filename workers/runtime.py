"""What a worker process keeps going beside its tasks: calls, heartbeat, signals to break off, and the next messages."""

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

#: Seconds between two looks for messages to send, however fast the work goes.
_REFILL_PAUSE: Final = 0.2
#: Seconds before a heartbeat that failed is tried again: a lock or a statement that timed out must not cost the lease.
_BEAT_AGAIN: Final = 1.0
#: Seconds between two tries to listen.
_LISTEN_PAUSE: Final = 1.0
#: The part of a lease for which its holder goes by it, and the part between two looks at whether that is over.
_OWN_SHARE: Final = 0.9
_WATCH_SHARE: Final = 0.05


class AttemptCancelled(Exception):  # noqa: N818  not an error: somebody cancelled, or the lease is gone
    """The attempt is not this worker's any more: nothing it does counts."""


class RunningAttempt:
    """One attempt while it runs. It ends early when it is abandoned from outside."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.key = (claim.request.pk, claim.number)
        self.extend_lease(claim.asked_at)
        self._lock = threading.Lock()
        self._call: Future[Any] | None = None
        self._progress: CallProgress | None = None
        self._cancelled_because = ""
        self._over = threading.Event()

    @property
    def sent(self) -> bool:
        """Whether the request of the newest call may have reached the vendor."""
        return self._progress is not None and self._progress.sent

    def extend_lease(self, asked_at: float) -> None:
        """The lease that was asked for at this time (of the monotonic clock) is granted. Here it ends earlier than in
        the database, so that the call is broken off before anybody else may have the request."""
        self._lease_until = asked_at + _OWN_SHARE * settings.LEASE.total_seconds()

    def cancel_if_expired(self) -> None:
        """Break off where the lease was not renewed in time."""
        if time.monotonic() > self._lease_until:
            self.cancel("the lease ran out")

    def cancel(self, why: str) -> None:
        """Break off the call under way and let no other start."""
        with self._lock:
            self._cancelled_because = why
            self._over.set()
            if self._call is not None:
                self._call.cancel()

    def pause(self, seconds: float) -> None:
        """Wait so long between two tries. Raises :class:`AttemptCancelled` as soon as it is."""
        if self._over.wait(seconds):
            raise AttemptCancelled(self._cancelled_because)

    def call(self, work: Coroutine[Any, Any, T], *, timeout: float) -> T:
        """Run the coroutine on the loop and wait for it. Raises :class:`AttemptCancelled`, and :class:`ProviderError`
        after so many seconds in all, also if the answer is still arriving: ``unknown_outcome`` if the request was sent,
        since it may have been billed, else ``timeout``."""

        async def bounded() -> T:
            progress = self._progress = track_progress()
            try:
                async with asyncio.timeout(timeout):
                    return await work
            except TimeoutError:
                code = ErrorCode.UNKNOWN_OUTCOME if progress.sent else ErrorCode.TIMEOUT
                raise ProviderError(f"No image within {timeout:g} s", code=code, sent=progress.sent) from None

        self.cancel_if_expired()  # it may have been paused since the call was permitted, and somebody else be at it
        with self._lock:
            if self._cancelled_because:
                work.close()
                raise AttemptCancelled(self._cancelled_because)
            call = self._call = event_loop.loop.submit(bounded())
        try:
            result: T = call.result()
            if self._progress is not None:
                self._progress.sent = True  # there is an answer
            return result
        except CancelledError:
            raise AttemptCancelled(self._cancelled_because) from None


class Runtime:
    """One for each worker process. Its name is unique among the live ones."""

    def __init__(self, *, slots: int) -> None:
        self.name = process_name()
        self.slots = slots
        #: Set when the process was told to stop: what has not been sent to a provider is given back.
        self.stopping = threading.Event()
        self._stopped = threading.Event()
        self._finished = threading.Event()
        self._jobs: dict[tuple[str, int], RunningAttempt] = {}
        self._threads = [
            threading.Thread(target=target, name=target.__name__.strip("_"), daemon=True)
            for target in (self._heartbeat, self._refill)
        ]
        self._coroutines: list[Future[None]] = []

    def start(self) -> None:
        """Report that this worker is up, and listen for what was cancelled."""
        for thread in self._threads:
            thread.start()
        self._coroutines = [event_loop.loop.submit(forever()) for forever in (self._listen, self._watch)]

    def stop(self) -> None:
        """Say at once that this worker is gone, instead of letting its heartbeat run out."""
        self.stopping.set()
        self._stopped.set()
        self._finished.set()
        for forever in self._coroutines:
            forever.cancel()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=5)
        try:
            WorkerProcess.objects.filter(pk=self.name).delete()
        except Error as error:
            log_failure(logger, "signing off failed", error)

    @contextmanager
    def working_on(self, claim: Claim) -> Iterator[RunningAttempt]:
        """While this lasts, the heartbeat renews the lease of the claim, which was asked for at this time (of the
        monotonic clock), and a cancel reaches it."""
        job = RunningAttempt(claim)
        self._jobs[job.key] = job
        try:
            yield job
        finally:
            del self._jobs[job.key]
            self._finished.set()

    # --- Threads: what writes to the database ---

    def _every(self, pause: threading.Event, seconds: float, act: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            wait = seconds
            try:
                close_old_connections()
                act()
            except Exception as error:  # without its heartbeat, the worker would lose every claim
                log_failure(logger, threading.current_thread().name, error)
                wait = min(seconds, _BEAT_AGAIN)
            finally:
                connection.close()
            pause.wait(wait)

    def _heartbeat(self) -> None:
        self._every(self._stopped, settings.HEARTBEAT_INTERVAL.total_seconds(), self._beat)

    def _beat(self) -> None:
        WorkerProcess.objects.update_or_create(name=self.name, defaults={"slots": self.slots, "seen_at": Now()})
        jobs = dict(self._jobs)
        if not jobs:
            return
        asked_at = time.monotonic()
        held = permits.extend_leases(jobs.keys(), worker=self.name)
        for key, job in jobs.items():
            if key in held:
                job.extend_lease(asked_at)
            else:
                job.cancel("the claim is void")

    def _refill(self) -> None:
        """Whoever finishes work makes room, and sends what comes next rather than waiting for the dispatcher."""

        def send() -> None:
            if self._finished.is_set():
                self._finished.clear()
                try:
                    dispatch.send_due()
                except BrokerUnavailable:
                    logger.debug("nothing is sent while the broker is away")
                self._stopped.wait(_REFILL_PAUSE)

        self._every(self._finished, 60, send)

    # --- Coroutines on the loop: what must not wait for the database ---

    async def _listen(self) -> None:
        """Break off calls whose request was cancelled. A signal that gets lost is made good by the heartbeat."""
        while True:
            try:
                layer = get_channel_layer()
                assert layer is not None  # noqa: S101  CHANNEL_LAYERS has a default
                channel = await layer.new_channel()
                await layer.group_add(events.CANCELLATIONS, channel)
                while True:
                    message = await events.next_message(layer, channel)
                    cancelled = message["claims"]
                    for job in list(self._jobs.values()):
                        # A signal that comes late must not end the call of a newer claim.
                        if job.claim.number <= cancelled.get(job.claim.request.pk, 0):
                            job.cancel("cancelled")
            except asyncio.CancelledError:
                raise
            except Exception as error:  # whatever the layer's client raises, it is tried again
                logger.warning("not listening for cancellations at the moment: %s", error)
                await asyncio.sleep(_LISTEN_PAUSE)

    async def _watch(self) -> None:
        """Break off calls whose lease was not renewed, by this process's own clock: somebody else may have them now."""
        while True:
            await asyncio.sleep(_WATCH_SHARE * settings.LEASE.total_seconds())
            for job in list(self._jobs.values()):
                job.cancel_if_expired()
