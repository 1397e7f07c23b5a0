"""Limits while workers are killed and paused: counted by the provider itself, and in the end everything is done."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.house import LEASE_SECONDS, House, built, lasting
from tests.support.stack import wait_until

#: Short, since a killed worker's call keeps its place at the provider until it would have timed out.
PROVIDER_TIMEOUT_SECONDS = 4


@pytest.fixture
def two_workers(tmp_path: Path) -> Iterator[House]:
    with built(tmp_path, PROVIDER_TIMEOUT_MS=str(PROVIDER_TIMEOUT_SECONDS * 1000)) as house:
        house.stack.start("web", "dispatcher", "worker:1", "worker:2")
        house.wait_until_up(workers=2)
        yield house
        house.assert_whole()


def kill_and_start_again(house: House, worker: str) -> None:
    house.stack.stop(worker, by=signal.SIGKILL)
    house.stack.start(worker)


def calling_worker(house: House) -> str:
    """A worker that has called the provider and waits for the answer."""
    query = "SELECT worker FROM generation_attempts WHERE outcome = 'running' AND call_started_at IS NOT NULL LIMIT 1"
    found = wait_until(lambda: house.rows(query), seconds=60, what="a worker with a call under way")[0]["worker"]
    return next(name for name in ("worker:1", "worker:2") if found.endswith(f"-{house.stack.pid(name)}"))


def test_a_batch_keeps_to_its_limit_and_drains_although_workers_are_killed(two_workers: House) -> None:
    """A killed worker's calls end with its connections, long before the lease lets others take their places."""
    house = two_workers
    house.provider.script(default="delay=0.2")
    count = int(lasting(60, full=100))
    house.submit_batch(range(count), limit=2, metadata={"maxAttempts": 10})
    for kill in range(int(lasting(4, full=9))):
        house.wait_for_calls(10 * kill + 5)
        kill_and_start_again(house, calling_worker(house))
    house.wait_all_ended(seconds=lasting(90, full=300))
    assert house.provider.max_concurrent == 2
    house.assert_all_done()


def test_a_provider_limit_holds_while_workers_are_killed_and_paused(two_workers: House) -> None:
    """A paused worker's calls go on at the provider when its lease is long over, and keep their places there."""
    house = two_workers
    house.execute("INSERT INTO generation_providers (provider, max_concurrent) VALUES ('openai', 3)")
    house.provider.script(default=f"delay={LEASE_SECONDS + 1.5}")
    for number in range(8):
        house.submit(number, metadata={"maxAttempts": 10})
    house.wait_for_calls(3)
    paused = calling_worker(house)
    house.stack.signal(paused, signal.SIGSTOP)
    query = "SELECT count(*) AS n FROM generation_attempts WHERE error_code = 'unknown_outcome'"
    wait_until(lambda: house.rows(query)[0]["n"] > 0, what="a rescue")
    house.provider.script(default="delay=0.5")
    wait_until(lambda: house.provider.stats().active == 0, what="an end of the first calls")
    house.stack.signal(paused, signal.SIGCONT)
    house.wait_for_calls(4)
    kill_and_start_again(house, calling_worker(house))
    house.wait_all_ended(seconds=90)
    assert house.provider.max_concurrent == 3
    house.assert_all_done()


def test_a_worker_frozen_with_a_provider_lock_blocks_others_only_briefly(two_workers: House) -> None:
    house = two_workers
    house.stack.stop("worker:2")
    house.execute("INSERT INTO generation_providers (provider, max_concurrent) VALUES ('openai', 3)")
    with ExitStack() as until_it_has_the_lock:
        until_it_has_the_lock.enter_context(house.locked("generation_providers", "provider", "openai"))
        frozen = house.submit(0)
        house.wait_for(frozen, "in-progress")
        house.wait_for_blocked()
        with house.locked("generation_requests", "id", frozen):
            until_it_has_the_lock.close()
            # It waits for the request now, and all others that want the provider's row wait for it.
            wait_until(lambda: house.is_locked("generation_providers", "provider", "openai"), what="its lock")
            house.stack.signal("worker:1", signal.SIGSTOP)
    house.stack.start("worker:2")
    house.wait_for(house.submit(1), "completed", seconds=60)
    house.stack.signal("worker:1", signal.SIGCONT)
    house.wait_for(frozen, "completed", seconds=60)
    assert len(house.calls(0)) == 1
