"""A cancel at every point of a request's life: final at once, the call is broken off, and no image is left to see."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from tests.faults.house import House, built
from tests.support.stack import wait_until

T = TypeVar("T")


@pytest.fixture
def with_worker(house: House) -> House:
    house.stack.start("worker")
    house.wait_until_up(workers=1)
    return house


def all_at_once(*steps: Callable[[], T]) -> list[T]:
    """What each returned."""
    with ThreadPoolExecutor(len(steps)) as threads:
        return [future.result() for future in [threads.submit(step) for step in steps]]


def assert_given_up(house: House, *request_ids: str) -> None:
    """Cancelled, with nothing to be had under any address."""
    for request_id in request_ids:
        told = house.alice.get(f"/status/{request_id}").json()
        assert (told["status"], told["result"]) == ("cancelled", None)
        for address in ("image", "thumbnail"):
            assert house.alice.get(f"/{address}/{request_id}").status_code == 404


def let_the_worker_finish(house: House, number: int) -> None:
    """Until it has done another request, behind all that it was told before."""
    house.provider.release()
    house.provider.script()
    house.wait_for(house.submit(number), "completed")
    house.wait_all_ended()


def wait_for_broken_off(house: House, number: int) -> None:
    """Until the provider has seen the connection of the call close before it had answered."""
    wait_until(lambda: [call.outcome for call in house.calls(number)] == ["gone"], what="an end at the provider")


def test_while_its_message_waits_in_redis(house: House) -> None:
    request_id = house.submit(1)
    with house.valkey.client() as client:
        wait_until(lambda: client.llen("normal") == 1, what="the message")
        assert house.cancel(request_id)
        assert client.llen("normal") == 1
    house.stack.start("worker")
    let_the_worker_finish(house, 2)
    assert house.calls(1) == []
    assert_given_up(house, request_id)


def test_while_it_waits_for_another_try(with_worker: House) -> None:
    house = with_worker
    house.provider.script("status=503;retry-after=3")
    request_id = house.submit(1)
    house.wait_for_calls(1)
    house.wait_for(request_id, "queued")
    due = house.rows("SELECT available_at FROM generation_queue")[0]["available_at"]
    assert house.cancel(request_id)
    wait_until(lambda: house.rows("SELECT now() > %s AS past", due)[0]["past"], what="the time of the other try")
    let_the_worker_finish(house, 2)
    assert len(house.calls(1)) == 1
    assert_given_up(house, request_id)


#: Longer than elsewhere, so that a heartbeat, which comes within a third of it, can be told from the lease's end, of
#: which two thirds are left at the least.
LONG_LEASE_SECONDS = 15


@pytest.fixture
def with_a_long_lease(tmp_path: Path) -> Iterator[House]:
    with built(tmp_path, LEASE_MS=str(LONG_LEASE_SECONDS * 1000)) as house:
        house.stack.start("web", "dispatcher", "worker")
        house.wait_until_up(workers=1)
        yield house
        house.assert_whole()


@pytest.mark.parametrize("redis", ["there", "paused", "away"])
def test_during_the_call_it_is_broken_off_at_the_provider(with_a_long_lease: House, redis: str) -> None:
    """By a signal, and where Redis cannot carry one, by the next heartbeat."""
    house = with_a_long_lease
    house.provider.script(default="hold")
    request_id = house.submit(1)
    house.wait_for_calls(1)
    if redis == "paused":
        house.valkey.pause()
    elif redis == "away":
        house.valkey.kill()
    cancelled_at = time.monotonic()
    assert house.cancel(request_id)
    assert_given_up(house, request_id)
    wait_for_broken_off(house, 1)
    assert time.monotonic() - cancelled_at < LONG_LEASE_SECONDS * 2 / 3
    if redis == "paused":
        house.valkey.resume()
    elif redis == "away":
        house.valkey.start()
    let_the_worker_finish(house, 2)
    assert len(house.calls(1)) == 1
    assert_given_up(house, request_id)


def test_a_cancel_that_races_an_answer_agrees_with_what_the_client_is_told(with_worker: House) -> None:
    """The moment moves: whichever wins is later the next time, so that both meet in the middle."""
    house = with_worker
    house.provider.script(default="hold")
    cancelled: list[str] = []
    completed: list[str] = []
    head_start = 0.05
    for round_ in range(13):
        numbers = range(5 * round_, 5 * round_ + 5)
        ids = [house.submit(number) for number in numbers]
        house.wait_for_calls(5 * round_ + 5)
        house.provider.release()
        time.sleep(head_start)
        told = all_at_once(*[lambda one=one: house.cancel(one) for one in ids])
        cancelled += [one for one, yes in zip(ids, told, strict=True) if yes]
        completed += [one for one, yes in zip(ids, told, strict=True) if not yes]
        head_start = max(0.0, head_start + (0.03 if sum(told) > 2 else -0.02))
    assert len(cancelled) + len(completed) == 65
    assert cancelled
    assert completed
    let_the_worker_finish(house, 100)
    assert_given_up(house, *cancelled)
    assert {house.status(request_id) for request_id in completed} == {"completed"}


def test_of_two_concurrent_cancels_one_finds_nothing_to_cancel(with_worker: House) -> None:
    house = with_worker
    house.provider.script(default="hold")
    ids = [house.submit(number) for number in range(20)]  # some are at the provider, and the others wait
    house.wait_for_calls(5)
    for request_id in ids:
        cancel = lambda: house.cancel(request_id)  # noqa: E731
        assert sorted(all_at_once(cancel, cancel)) == [False, True]
    let_the_worker_finish(house, 100)
    assert_given_up(house, *ids)


def test_of_a_batch_what_runs_is_broken_off_and_nothing_else_starts(with_worker: House) -> None:
    house = with_worker
    house.provider.script(default="hold")
    batch_id, ids = house.submit_batch(range(20), limit=4)
    house.wait_for_calls(4)
    answer = house.alice.delete(f"/batch/{batch_id}")
    assert answer.json()["cancelled"] == 20
    wait_until(lambda: house.provider.stats().active == 0, what="an end of the calls at the provider")
    let_the_worker_finish(house, 100)
    calls = [call for number in range(20) for call in house.calls(number)]
    assert [call.outcome for call in calls] == ["gone"] * 4
    assert_given_up(house, *ids)
    counts = house.alice.get(f"/batch/{batch_id}").json()["counts"]
    assert counts["cancelled"] == 20
