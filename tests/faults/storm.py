"""Faults at random moments, always the same ones for a seed, and a supervisor that starts again what has died."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import httpx2
import redis
from kombu.exceptions import OperationalError

from tests.faults.house import LEASE_SECONDS, House

Fault = Callable[[], None]


class Storm:
    """Strikes the processes of a house. Its faults are its methods."""

    def __init__(self, house: House, *, seed: int, workers: Sequence[str]) -> None:
        self.house = house
        self.workers = workers
        self.random = random.Random(seed)  # noqa: S311
        #: What was done, in its order.
        self.struck: list[str] = []
        self._later: list[tuple[float, int, Fault]] = []
        self._count = itertools.count()

    def rage(self, seconds: float, *faults: Fault, every: tuple[float, float]) -> None:
        """Strike for so long, with pauses between these two lengths. Afterwards everything is up again."""
        begun = time.monotonic()
        following = begun + self.random.uniform(*every)
        while time.monotonic() < begun + seconds:
            self._do_what_is_due()
            self._start_again_what_died()
            if time.monotonic() > following:
                fault = self.random.choice(faults)
                self.struck.append(f"{time.monotonic() - begun:.1f} {fault.__name__}")
                fault()
                following = time.monotonic() + self.random.uniform(*every)
            time.sleep(0.05)
        while self._later:
            heapq.heappop(self._later)[2]()
        self._start_again_what_died()

    # --- Faults ---

    def kill_a_worker(self) -> None:
        """As the kernel does where memory is short."""
        self._signal(self._worker(), signal.SIGKILL)

    def end_a_worker(self) -> None:
        """As a deploy does."""
        self._signal(self._worker(), signal.SIGTERM)

    def pause_a_worker(self) -> None:
        """For longer than its leases hold."""
        worker = self._worker()
        self._signal(worker, signal.SIGSTOP)
        self._after(LEASE_SECONDS + 1.5, lambda: self._signal(worker, signal.SIGCONT))

    def kill_the_dispatcher(self) -> None:
        """The supervisor starts it again."""
        self._signal("dispatcher", signal.SIGKILL)

    def empty_redis(self) -> None:
        """All messages are gone."""
        with self.house.valkey.client() as client:
            client.flushall()

    def restart_redis(self) -> None:
        """All messages and connections are gone, and for a moment Redis, too."""
        self.house.valkey.kill()
        self.house.valkey.start()

    def cut_connections(self) -> None:
        """All connections to Redis are gone."""
        with self.house.valkey.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def deliver_twice(self) -> None:
        """What waits and what runs is sent once more."""
        with contextlib.suppress(OperationalError, redis.RedisError):
            for request_id in self._active(5):
                self.house.publish(request_id)

    def cancel_one(self) -> None:
        """By its owner."""
        with contextlib.suppress(httpx2.TransportError):
            for request_id in self._active(1):
                self.house.cancel(request_id)

    # --- What they share ---

    def _worker(self) -> str:
        return self.random.choice(self.workers)

    def _active(self, count: int) -> list[str]:
        query = "SELECT id FROM generation_requests WHERE status IN ('queued', 'in-progress') ORDER BY id"
        ids = [row["id"] for row in self.house.rows(query)]
        return self.random.sample(ids, min(count, len(ids)))

    def _signal(self, name: str, by: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has died already
            self.house.stack.signal(name, by)

    def _after(self, seconds: float, act: Fault) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._count), act))

    def _do_what_is_due(self) -> None:
        while self._later and self._later[0][0] < time.monotonic():
            heapq.heappop(self._later)[2]()

    def _start_again_what_died(self) -> None:
        for name in (*self.workers, "dispatcher"):
            if self.house.stack.has_ended(name):
                self.house.stack.start(name)


@contextmanager
def storm(house: House, *, seed: int, workers: Sequence[str]) -> Iterator[Storm]:
    """A storm whose seed and faults stand in the message of whatever fails in the block."""
    raging = Storm(house, seed=seed, workers=workers)
    try:
        yield raging
    except AssertionError as error:
        error.add_note(f"seed {seed}: {', '.join(raging.struck)}")
        raise
