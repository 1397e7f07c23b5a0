"""kill -9 of a worker at every point of an attempt: nothing is lost, and what was paid for is not paid for again."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.faults.house import House
from tests.support.stack import wait_until


@pytest.fixture
def with_worker(house: House) -> House:
    house.stack.start("worker")
    house.wait_until_up(workers=1)
    return house


def test_before_the_claim_the_message_is_lost_and_sent_again(with_worker: House) -> None:
    house = with_worker
    house.stack.stop("worker")
    request_id = house.submit(1)
    with house.locked("generation_requests", "id", request_id):
        house.stack.start("worker")
        house.wait_for_blocked()
        house.stack.stop("worker", by=signal.SIGKILL)
        # The claim is one statement, and a server that waits for the lock would carry it out for the dead worker. On a
        # slow machine the message was sent again by now, and another slot of that worker waits as well.
        assert house.cut("wait_event_type = 'Lock'") >= 1
    house.stack.start("worker")
    house.wait_for(request_id, "completed")
    assert len(house.calls(1)) == 1
    assert house.rows("SELECT attempts FROM generation_requests")[0]["attempts"] == 1


def test_after_the_claim_the_request_comes_back_and_nothing_was_called(with_worker: House) -> None:
    house = with_worker
    house.execute("INSERT INTO generation_providers (provider, max_concurrent) VALUES ('openai', 5)")
    with house.locked("generation_providers", "provider", "openai"):
        request_id = house.submit(2)
        house.wait_for(request_id, "in-progress")
        house.wait_for_blocked()
        house.stack.stop("worker", by=signal.SIGKILL)
    house.stack.start("worker")
    house.wait_for(request_id, "completed")
    assert len(house.calls(2)) == 1
    reasons = house.rows("SELECT error_code FROM generation_attempts ORDER BY claim")
    assert [row["error_code"] for row in reasons] == ["worker_lost", ""]


def test_during_the_call_the_outcome_is_unknown_and_it_is_repeated_once(with_worker: House) -> None:
    house = with_worker
    house.provider.script("delay=60")
    request_id = house.submit(3)
    house.wait_for_calls(1)
    house.stack.stop("worker", by=signal.SIGKILL)
    house.stack.start("worker")
    house.wait_for(request_id, "completed")
    assert len(house.calls(3)) == 2
    reasons = house.rows("SELECT error_code FROM generation_attempts ORDER BY claim")
    assert [row["error_code"] for row in reasons] == ["unknown_outcome", ""]


def test_a_second_unknown_outcome_is_the_last(with_worker: House) -> None:
    house = with_worker
    house.provider.script("delay=60", "delay=60")
    request_id = house.submit(4, metadata={"maxAttempts": 10})
    for calls in (1, 2):
        house.wait_for_calls(calls)
        house.stack.stop("worker", by=signal.SIGKILL)
        house.stack.start("worker")
    house.wait_for(request_id, "failed")
    assert len(house.calls(4)) == 2


def test_after_the_answer_was_kept_there_is_no_second_call(with_worker: House, tmp_path: Path) -> None:
    house = with_worker
    house.provider.script("delay=1")
    request_id = house.submit(5)
    house.wait_for_calls(1)
    with house.locked("generation_requests", "id", request_id):
        receipt = tmp_path / "var" / "media" / "receipts" / f"{request_id}.json"
        wait_until(receipt.exists, what="the receipt")
        house.wait_for_blocked()
        house.stack.stop("worker", by=signal.SIGKILL)
    house.stack.start("worker")
    house.wait_for(request_id, "completed")
    assert len(house.calls(5)) == 1


def test_after_the_end_was_written_it_stays_as_it_is(with_worker: House) -> None:
    house = with_worker
    request_id = house.submit(6)
    house.wait_for(request_id, "completed")
    house.stack.stop("worker", by=signal.SIGKILL)
    house.stack.start("worker")
    other = house.submit(7)
    house.wait_for(other, "completed")
    assert len(house.calls(6)) == 1
    assert house.status(request_id) == "completed"


def test_a_worker_that_was_paused_beyond_its_lease_is_fenced(with_worker: House) -> None:
    house = with_worker
    house.provider.script("delay=60")
    request_id = house.submit(8)
    house.wait_for_calls(1)
    house.stack.signal("worker", signal.SIGSTOP)
    house.wait_for(request_id, "queued")
    house.stack.start("worker:2")
    house.wait_for(request_id, "completed")
    result = house.rows("SELECT result FROM generation_requests")[0]["result"]
    house.provider.release()
    house.stack.signal("worker", signal.SIGCONT)
    other = house.submit(9)
    house.wait_for(other, "completed")
    assert house.rows("SELECT result FROM generation_requests WHERE id = %s", request_id)[0]["result"] == result


def test_a_deploy_that_loses_its_patience_is_as_a_kill(with_worker: House) -> None:
    house = with_worker
    house.provider.script(default="hold")
    ids = [house.submit(number) for number in range(30, 42)]
    house.wait_for_calls(5)
    house.stack.signal("worker", signal.SIGTERM)
    # While it waits for its calls it takes nothing new, and the new one finds the rest.
    house.stack.start("worker:2")
    house.wait_for_calls(10)
    assert not house.stack.has_ended("worker")
    house.stack.stop("worker", by=signal.SIGKILL)
    house.provider.script()
    house.provider.release()
    house.wait_all_ended()
    assert {house.status(request_id) for request_id in ids} == {"completed"}
    assert house.provider.stats().count == 12 + 5
    assert all(len(house.calls(number)) <= 2 for number in range(30, 42))


def test_a_deploy_finishes_what_runs_and_loses_nothing_of_what_waits(with_worker: House) -> None:
    house = with_worker
    house.provider.script(default="delay=1")
    ids = [house.submit(number) for number in range(10, 30)]
    house.wait_for_calls(3)
    house.stack.signal("worker", signal.SIGTERM)
    house.stack.start("worker:2")
    wait_until(lambda: house.stack.has_ended("worker"), what="the end of the old worker")
    house.wait_all_ended()
    rows = house.rows("SELECT id, status, attempts FROM generation_requests")
    assert {(row["id"], row["status"], row["attempts"]) for row in rows} == {(one, "completed", 1) for one in ids}
    assert house.provider.stats().count == len(ids)
