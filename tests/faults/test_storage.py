"""A storage that is full or away: nothing is paid for that cannot be kept, and what was paid for is not thrown away."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.faults.house import House, built
from tests.support.disks import Disk, disk_at
from tests.support.stack import wait_until

Fault = Callable[[], AbstractContextManager[None]]
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    with disk_at(tmp_path_factory.mktemp("storage") / "var" / "media") as disk:
        yield disk


@pytest.fixture(scope="module")
def house(disk: Disk) -> Iterator[House]:
    """One for all tests; each starts a worker of its own, which has not looked at the storage yet."""
    with built(disk.place.parents[1]) as house:
        house.stack.start("web", "dispatcher")
        house.wait_until_up()
        yield house
        house.assert_whole(media=disk.place)


@pytest.fixture(params=["full", "away"])
def fault(disk: Disk, request: pytest.FixtureRequest) -> Fault:
    """Makes the storage unusable for a block."""
    if request.param == "away":
        return disk.away
    if not disk.is_small:
        pytest.skip("a disk that can be filled takes the right to mount one")
    return disk.full


@pytest.fixture
def number() -> int:
    """Of a dragon that no other test has."""
    return next(_numbers)


@contextmanager
def worker(house: House) -> Iterator[None]:
    house.stack.start("worker")
    try:
        house.wait_until_up(workers=1)
        yield
    finally:
        house.stack.stop("worker")


@contextmanager
def drawn_but_not_stored(house: House, number: int, fault: Fault) -> Iterator[str]:
    """A request whose image is in a worker's memory while the storage is unusable. Yields its id."""
    house.provider.script("hold")
    request_id = house.submit(number)
    wait_until(lambda: house.calls(number), what="the call")
    with fault():
        tries = house.stack.log("worker").count("trying again")
        house.provider.release()
        wait_until(lambda: house.stack.log("worker").count("trying again") > tries, what="a try to store it")
        yield request_id


def claims(house: House, request_id: str) -> list[str]:
    """What came of each claim."""
    query = "SELECT outcome, error_code FROM generation_attempts WHERE request_id = %s ORDER BY claim"
    return [row["error_code"] or row["outcome"] for row in house.rows(query, request_id)]


def test_before_the_call_nothing_is_sent_until_there_is_room(house: House, fault: Fault, number: int) -> None:
    with worker(house):
        told = house.stack.log("worker").count("images cannot be stored: ")
        with fault():
            request_id = house.submit(number, metadata={"maxAttempts": 1})
            wait_until(lambda: claims(house, request_id)[:2] == ["storage", "storage"], what="a second look")
            assert not house.calls(number)
            assert house.stack.log("worker").count("images cannot be stored: ") > told
        house.wait_for(request_id, "completed")
    assert claims(house, request_id)[-1] == "succeeded"
    assert len(house.calls(number)) == 1


def test_after_the_call_the_image_waits_for_space_under_the_same_lease(house: House, fault: Fault, number: int) -> None:
    with worker(house):
        with drawn_but_not_stored(house, number, fault) as request_id:
            query = "SELECT lease_expires_at AS at FROM generation_requests WHERE id = %s"
            first = house.rows(query, request_id)[0]["at"]
            wait_until(
                lambda: house.rows(f"{query} AND now() > %s", request_id, first), what="the end of the first lease"
            )
            assert house.status(request_id) == "in-progress"
        house.wait_for(request_id, "completed")
    assert claims(house, request_id) == ["succeeded"]
    assert len(house.calls(number)) == 1


def test_a_cancel_ends_the_wait_and_nothing_is_stored(house: House, disk: Disk, number: int) -> None:
    with worker(house):
        with drawn_but_not_stored(house, number, disk.away) as request_id:
            assert house.alice.delete(f"/cancel/{request_id}").status_code == 200
            wait_until(lambda: f"abandoned {request_id}" in house.stack.log("worker"), what="the end of the wait")
            before = disk.files()
        other = house.submit(next(_numbers))
        house.wait_for(other, "completed")
    stored = disk.files() - before
    assert {path.parts[0] for path in stored} == {"results", "thumbnails"}
    assert len(stored) == 2
    assert house.status(request_id) == "cancelled"


def test_a_stopping_worker_stores_its_image_first(house: House, disk: Disk, number: int) -> None:
    with worker(house):
        with drawn_but_not_stored(house, number, disk.away) as request_id:
            house.stack.signal("worker", signal.SIGTERM)
            wait_until(lambda: "Warm shutdown" in house.stack.log("worker"), what="the orderly stop")
            assert house.status(request_id) == "in-progress"
        wait_until(lambda: house.stack.has_ended("worker"), what="the end of the worker")
    assert claims(house, request_id) == ["succeeded"]
    assert len(house.calls(number)) == 1


def test_a_storage_that_stays_away_fails_the_request_without_a_second_call(
    house: House, disk: Disk, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(house.stack.env, "STORAGE_PATIENCE_MS", "1000")
    with worker(house), drawn_but_not_stored(house, number, disk.away) as request_id:
        house.wait_for(request_id, "failed")
    assert (
        house.rows("SELECT error FROM generation_requests WHERE id = %s", request_id)[0]["error"]["code"] == "storage"
    )
    assert claims(house, request_id) == ["storage"]
    assert len(house.calls(number)) == 1
