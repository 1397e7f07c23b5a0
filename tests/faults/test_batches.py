"""Limits while workers are killed and paused: counted by the provider itself, and in the end everything is done."""

from __future__ import annotations

import signal
from collections.abc import Iterator
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


def wait_for_running(house: House, worker: str) -> None:
    """Until the worker is at something."""
    name = f"%-{house.stack.pid(worker)}"
    query = "SELECT count(*) AS n FROM generation_attempts WHERE outcome = 'running' AND worker LIKE %s"
    wait_until(lambda: house.rows(query, name)[0]["n"] > 0, seconds=60, what=f"an attempt of {worker}")


def test_a_batch_keeps_to_its_limit_and_drains_although_workers_are_killed(two_workers: House) -> None:
    """A killed worker's calls end with its connections, long before the lease lets others take their places."""
    house = two_workers
    house.provider.script(default="delay=0.2")
    count = int(lasting(60, full=200))
    _, ids = house.submit_batch(range(count), limit=2, metadata={"maxAttempts": 10})
    for kill in range(int(lasting(3, full=10))):
        worker = f"worker:{1 + kill % 2}"
        wait_for_running(house, worker)
        kill_and_start_again(house, worker)
    house.wait_all_ended(seconds=lasting(90, full=300))
    assert house.provider.max_concurrent == 2
    assert {house.status(request_id) for request_id in ids} == {"completed"}


def test_a_providers_limit_holds_at_the_provider_although_workers_are_killed_and_paused(two_workers: House) -> None:
    """A paused worker's calls go on at the provider when its lease is long over, and keep their places there."""
    house = two_workers
    house.execute("INSERT INTO generation_provider_limits (provider, max_concurrent) VALUES ('openai', 3)")
    house.provider.script(default=f"delay={LEASE_SECONDS + 1.5}")
    ids = [house.submit(number, metadata={"maxAttempts": 10}) for number in range(8)]
    house.wait_for_calls(3)
    wait_for_running(house, "worker:1")
    house.stack.signal("worker:1", signal.SIGSTOP)
    query = "SELECT count(*) AS n FROM generation_attempts WHERE error_code = 'unknown_outcome'"
    wait_until(lambda: house.rows(query)[0]["n"] > 0, what="a rescue")
    house.provider.script(default="delay=0.5")
    wait_until(lambda: house.provider.stats().active == 0, what="an end of the first calls")
    house.stack.signal("worker:1", signal.SIGCONT)
    wait_for_running(house, "worker:2")
    kill_and_start_again(house, "worker:2")
    house.wait_all_ended(seconds=90)
    assert house.provider.max_concurrent == 3
    assert {house.status(request_id) for request_id in ids} == {"completed"}
