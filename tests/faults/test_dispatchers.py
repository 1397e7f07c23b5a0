"""Several dispatchers, none, one that dies half-way, and requests that kill their worker."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.house import House, built, lasting
from tests.support.proxy import Proxy
from tests.support.stack import wait_until

#: A prompt with this word kills the worker that has its image.
WORD = "basilisk"


def test_two_dispatchers_under_load_rescue_each_lease_once(house: House) -> None:
    house.provider.script(default="delay=1")
    house.stack.start("dispatcher:2", "worker", "worker:2")
    house.wait_until_up(workers=2)
    numbers = itertools.count()
    end = time.monotonic() + lasting(8, full=60)
    for victim in itertools.cycle(["worker", "worker:2"]):
        for _ in range(15):
            house.submit(next(numbers))
        house.wait_for_active_calls(1)
        house.stack.stop(victim, by=signal.SIGKILL)
        house.stack.start(victim)
        if time.monotonic() > end:
            break
    house.wait_all_ended(seconds=lasting(90, full=600))
    kinds = house.rows("SELECT count(*) AS n FROM generation_workers WHERE kind = 'dispatcher'")
    assert kinds[0]["n"] == 2
    rescued = house.rows(
        "SELECT request_id, claim FROM generation_status_changes WHERE reason = 'lease_expired'"
        " ORDER BY request_id, claim"
    )
    lost = house.rows(
        "SELECT request_id, claim FROM generation_attempts WHERE error_code IN ('worker_lost', 'unknown_outcome')"
        " ORDER BY request_id, claim"
    )
    assert rescued
    assert rescued == lost  # each once
    assert {row["attempts"] for row in house.rows("SELECT attempts FROM generation_requests")} <= {1, 2, 3}


def test_a_dispatcher_killed_between_marking_and_sending_loses_nothing(house: House) -> None:
    house.stack.stop("dispatcher")
    house.valkey.kill()
    for number in range(20):
        house.submit(number)
    house.valkey.start()
    with Proxy(house.valkey.port) as way:
        direct = house.stack.env["REDIS_URL"]
        house.stack.env["REDIS_URL"] = f"redis://127.0.0.1:{way.port}/0"
        way.block_before(b"LPUSH")
        house.stack.start("dispatcher")
        wait_until(lambda: way.blocked, what="a dispatcher that stands still")
        house.stack.stop("dispatcher", by=signal.SIGKILL)
        house.stack.env["REDIS_URL"] = direct
        marked = house.rows("SELECT count(*) AS n FROM generation_queue WHERE dispatched_at IS NOT NULL")
        assert marked[0]["n"] == 4  # the most messages while no worker is up
    assert house.messages() == 0
    house.stack.start("dispatcher", "worker")
    house.wait_all_ended()
    assert house.called_once_each(20)


def test_without_a_dispatcher_what_was_sent_runs_and_the_rest_waits_for_it(house: House) -> None:
    # Long enough that no finishing worker finds it due and sends it.
    house.stack.env["RETRY_DELAY_MS"] = "3000"
    house.stack.start("worker")
    house.wait_until_up(workers=1)
    house.stack.stop("dispatcher", by=signal.SIGKILL)
    for number in range(20):
        house.submit(number)
    house.wait_all_ended()
    assert house.called_once_each(20)
    house.provider.script("status=500", "hang")
    retried = house.submit(20)
    house.wait_for_calls(21)
    house.wait_for(retried, "queued")
    cut = house.submit(21)
    house.wait_for_calls(22)
    house.stack.stop("worker", by=signal.SIGKILL)
    unsent = house.submit(22)
    house.lose_messages()
    house.stack.start("worker")
    house.wait_until_up(workers=1)
    time.sleep(lasting(6, full=60))  # no broker
    assert [house.status(one) for one in (retried, cut, unsent)] == ["queued", "in-progress", "queued"]
    house.stack.start("dispatcher")
    house.wait_all_ended()
    assert [house.status(one) for one in (retried, cut, unsent)] == ["completed"] * 3
    assert [len(house.calls(number)) for number in (20, 21, 22)] == [2, 2, 1]


@pytest.fixture
def with_deadly_providers(tmp_path: Path) -> Iterator[House]:
    with built(
        tmp_path,
        DJANGO_SETTINGS_MODULE="tests.support.deadly",
        DEADLY_WORD=WORD,
        PROVIDERS="openai,clipart",
        MAX_CONCURRENT_REQUESTS="1",  # so that a worker that dies has no other request
    ) as house:
        house.stack.start("web", "dispatcher")
        yield house
        house.assert_whole(media=tmp_path / "var" / "media")


def test_requests_that_kill_their_worker_are_given_up_and_the_others_go_on(with_deadly_providers: House) -> None:
    house = with_deadly_providers
    with house.stack.supervised("worker", "worker:2") as ended:
        house.wait_until_up(workers=2)
        before = house.submit(0, metadata={"provider": "clipart"})
        after = house.submit(1, prompt=f"Dragon number 000001 in a garden with a {WORD}")
        others = [house.submit(number) for number in range(2, 12)]
        house.wait_all_ended(seconds=90)
    rows = {row["id"]: row for row in house.rows("SELECT id, status, attempts, error FROM generation_requests")}
    assert {rows[one]["status"] for one in others} == {"completed"}
    assert {rows[one]["attempts"] for one in others} == {1}
    assert (rows[before]["status"], rows[before]["attempts"]) == ("failed", 3)
    assert rows[before]["error"]["code"] == "worker_lost"
    # What may have been billed is repeated once at the most.
    assert (rows[after]["status"], rows[after]["attempts"]) == ("failed", 2)
    assert rows[after]["error"]["code"] == "unknown_outcome"
    assert len(ended) == 5
    assert house.provider.stats().count == 12
