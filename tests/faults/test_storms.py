"""Many faults at random moments: in the end everything is done, and nothing was paid for more often than it must."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.house import House, built, lasting
from tests.faults.storm import storm
from tests.support.length import FULL
from tests.support.stack import wait_until

#: A killed worker loses as many calls as it had slots.
SLOTS = 3


@contextmanager
def house_with(folder: Path, *workers: str, **settings: str) -> Iterator[House]:
    with built(folder, **{"MAX_CONCURRENT_REQUESTS": str(SLOTS)} | settings) as house:
        house.stack.start("web", "dispatcher", *workers)
        house.wait_until_up(workers=len(workers))
        yield house


def submit_all(house: House, count: int) -> None:
    """So many requests, a hundred at a time."""
    for first in range(0, count, 100):
        house.submit_batch(range(first, min(first + 100, count)), metadata={"maxAttempts": 10})


def assert_no_call_too_many(house: House, *, deaths: int) -> None:
    """One call for each request, and one more for each that was under way when its worker died."""
    lost = house.rows("SELECT id FROM generation_attempts WHERE error_code = 'unknown_outcome'")
    assert house.provider.stats().count <= len(house.accepted) + len(lost)
    assert len(lost) <= deaths * SLOTS


def test_a_storm_over_the_workers_costs_one_call_for_each_that_it_cut(tmp_path: Path) -> None:
    workers = [f"worker:{number}" for number in range(int(lasting(2, full=4)))]
    seed = 1
    with house_with(tmp_path, *workers) as house, storm(house, seed=seed, workers=workers) as raging:
        house.provider.script(default=f"delay={lasting(0.3, full=0.5)}")
        submit_all(house, int(lasting(150, full=1000)))
        faults = [raging.kill_a_worker, raging.end_a_worker, raging.pause_a_worker] if FULL else [raging.kill_a_worker]
        raging.rage(lasting(15, full=120), *faults, every=(1.5, 2.5) if not FULL else (2, 6))
        house.wait_all_ended(seconds=lasting(90, full=300))
        house.assert_all_done()
        house.assert_whole()
        assert_no_call_too_many(house, deaths=len(raging.struck))


@pytest.mark.parametrize("seed", [1, 2, 3] if FULL else [1])
def test_all_faults_together_break_no_promise(tmp_path: Path, seed: int) -> None:
    workers = ["worker:1", "worker:2"]
    with house_with(tmp_path, *workers) as house, storm(house, seed=seed, workers=workers) as raging:
        seconds = lasting(20, full=600)
        house.provider.script(default="delay=0.3")
        submit_all(house, int(6 * seconds))
        raging.rage(
            seconds,
            raging.kill_a_worker,
            raging.end_a_worker,
            raging.pause_a_worker,
            raging.kill_the_dispatcher,
            raging.empty_redis,
            raging.restart_redis,
            raging.cut_connections,
            raging.deliver_twice,
            raging.cancel_one,
            every=(0.5, 2),
        )
        house.wait_all_ended(seconds=lasting(90, full=300))
        house.assert_all_done()
        house.assert_whole()
        assert_no_call_too_many(house, deaths=len(raging.struck))
        ends = house.rows("SELECT count(*) AS n FROM generation_requests WHERE status = 'completed'")
        assert ends[0]["n"] > 0


def test_a_low_one_starts_although_the_urgent_ones_never_end(tmp_path: Path) -> None:
    with house_with(tmp_path, "worker", PROMOTION_AFTER_MS="1000") as house:
        house.provider.script(default="delay=0.1")
        over = threading.Event()
        behind = "SELECT count(*) AS n FROM generation_queue WHERE priority_weight = 1000"
        flood = threading.Thread(target=_flood, args=[house, over])
        flood.start()
        try:
            wait_until(lambda: house.rows(behind)[0]["n"] >= 80, what="a flood")
            low = house.submit(999_999, priority="low")
            wait_until(lambda: house.status(low) != "queued", seconds=60, what="a start of the low one")
            assert house.rows(behind)[0]["n"] >= 30
        finally:
            over.set()
            flood.join(20)
        house.wait_for(low, "completed")
        # It went all the way up, and did not just find a gap.
        rows = house.rows(
            "SELECT started_at - created_at AS waited, (SELECT count(*) FROM generation_requests other"
            " WHERE other.started_at > low.started_at) AS later FROM generation_requests low WHERE id = %s",
            low,
        )
        assert rows[0]["waited"].total_seconds() >= 3
        assert rows[0]["later"] > 0, rows


def _flood(house: House, over: threading.Event) -> None:
    """Keep a hundred urgent ones waiting, whatever the workers do."""
    numbers = iter(range(0, 900_000, 20))
    waiting = "SELECT count(*) AS n FROM generation_queue WHERE priority_weight = 1000"
    with house.stack.client("alice") as client:
        while not over.is_set():
            if house.rows(waiting)[0]["n"] < 100:
                first = next(numbers)
                items = [
                    {"type": "cover", "prompt": f"Dragon number {number:06d} in a garden", "priority": "urgent"}
                    for number in range(first, first + 20)
                ]
                client.post("/batch", json={"requests": items}).raise_for_status()
            else:
                over.wait(0.05)
