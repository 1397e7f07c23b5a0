"""One file for everybody: who writes waits for whoever writes, and no client hears of it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.house import House, built, lasting

#: Longer than anybody waits for the file.
LONG_LEASE = "30000"


@pytest.fixture
def settings_of_the_house() -> dict[str, str]:
    return {"LEASE_MS": LONG_LEASE}


@pytest.fixture
def house(tmp_path: Path, settings_of_the_house: dict[str, str]) -> Iterator[House]:
    """A house on a file, with two threads to answer in."""
    with built(tmp_path, server="sqlite://", WEB_WORKERS="1", WEB_THREADS="2", **settings_of_the_house) as house:
        house.stack.start("web", "dispatcher", "worker")
        house.wait_until_up(workers=1)
        house.alice.get("/queue/status").raise_for_status()  # signed in
        yield house
        house.assert_whole(media=tmp_path / "var" / "media")
        logs = "".join(log.read_text() for log in house.stack.logs.iterdir())
        assert "database is locked" not in logs


def test_two_workers_and_two_threads_of_the_api_write_to_one_file_at_once(house: House) -> None:
    house.stack.start("worker:2")
    house.wait_until_up(workers=2)
    house.provider.script(default="delay=0.1")
    over = threading.Event()

    def submit(first: int) -> list[int]:
        statuses: list[int] = []
        while not over.wait(0.1):
            statuses.append(house.try_submit(first + len(statuses)).status_code)
            statuses.append(house.alice.get("/queue/status").status_code)
        return statuses

    with ThreadPoolExecutor(2) as clients:
        answers = [clients.submit(submit, first) for first in (0, 100_000)]
        time.sleep(lasting(10, full=60))
        over.set()
        assert {status for answer in answers for status in answer.result(60)} == {200}
    house.wait_all_ended(seconds=180)
    rows = house.rows("SELECT status, attempts, worker FROM generation_requests")
    assert {(row["status"], row["attempts"]) for row in rows} == {("completed", 1)}
    calls = house.counts_of_calls()
    assert len(calls) == len(rows)
    assert set(calls.values()) == {1}
    workers = house.rows("SELECT DISTINCT worker FROM generation_attempts")
    assert len(workers) == 2


def test_submits_and_ends_wait_for_a_process_that_holds_the_file(house: House) -> None:
    house.provider.script("delay=1")
    request_id = house.submit(0)
    house.wait_for_calls(1)
    with ThreadPoolExecutor(4) as clients:
        with house.holding("UPDATE auth_user SET last_name = 'of nobody'"):
            answers = [clients.submit(house.try_submit, number) for number in range(1, 5)]
            time.sleep(4)
            assert house.status(request_id) == "in-progress"
            assert not any(answer.done() for answer in answers)
        assert [answer.result(30).status_code for answer in answers] == [200] * 4
    house.wait_all_ended()
    assert house.counts_of_calls() == dict.fromkeys(range(5), 1)


@pytest.mark.parametrize("settings_of_the_house", [{}])
def test_a_killed_worker_leaves_a_whole_file_and_its_work_to_the_next(house: House) -> None:
    house.provider.script("hang", "hang", default="delay=0.1")
    ids = [house.submit(number) for number in range(10)]
    house.wait_for_calls(3)
    house.stack.stop("worker", by=signal.SIGKILL)
    house.stack.start("worker")
    for request_id in ids:
        house.wait_for(request_id, "completed", seconds=60)
    assert house.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert max(house.counts_of_calls().values()) == 2
