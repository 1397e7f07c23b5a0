"""A worker's event loop that stalls, and a worker that dies between the commit of a group and its answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.house import House, built
from tests.support.stack import wait_until

STALLS, DIES = "sloth", "phoenix"  # as in tests.support.stalling, which no test may import


@pytest.fixture(params=[1, 8])
def house(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    more = {"DJANGO_SETTINGS_MODULE": "tests.support.stalling", "MAX_CONCURRENT_REQUESTS": str(request.param)}
    # Longer than the stall and the heartbeat before it together, also on a slow machine.
    more["LEASE_MS"] = "6000"
    with built(tmp_path, **more) as house:
        house.stack.start("web", "dispatcher")
        yield house
        house.assert_whole(media=tmp_path / "var" / "media")


def submit_with(house: House, word: str) -> list[str]:
    """Submit eight requests, the third of which has the word."""
    numbers = range(8)
    return [house.submit(n, prompt=f"Dragon number {n:06d} in a garden {word if n == 2 else ''}") for n in numbers]


def test_a_loop_that_is_blocked_for_a_second_costs_no_claim_and_no_call(house: House) -> None:
    house.stack.start("worker")
    house.wait_until_up(workers=1)
    house.provider.script(default="delay=0.3")
    ids = submit_with(house, STALLS)
    house.wait_all_ended()
    assert {house.status(one) for one in ids} == {"completed"}
    assert [len(house.calls(number)) for number in range(8)] == [1] * 8


def test_a_worker_killed_between_commit_and_answer_pays_nothing_twice(house: House) -> None:
    house.provider.script(default="delay=0.3")
    with house.stack.supervised("worker") as ended:
        house.wait_until_up(workers=1)
        ids = submit_with(house, DIES)
        house.wait_all_ended(seconds=90)
        wait_until(lambda: ended, seconds=20, what="the end of the worker after its last commit")
    calls = [len(house.calls(number)) for number in range(8)]
    if house.stack.env["MAX_CONCURRENT_REQUESTS"] == "1":  # then the last group is the end of the word's request
        assert (len(ended), calls) == (1, [1] * 8)
        assert house.status(ids[2]) == "completed"
    assert max(calls) <= 2  # a call under way has an unknown outcome, and is repeated once
    assert {house.status(one) for one in ids[:2] + ids[3:]} == {"completed"}
