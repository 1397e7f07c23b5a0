"""Messages that come twice, late, in any order, for no request, or malformed: hints; the queue rows decide."""

from __future__ import annotations

import random
from typing import Any

from generation.identifiers import new_request_id
from tests.faults.house import House
from tests.support.stack import wait_until

#: What a worker says of a message that there is nothing to do for.
_NOTHING = "nothing to do for "


def _start_workers(house: House, *names: str) -> None:
    house.stack.start(*names)
    house.wait_until_up(workers=len(names))


def test_messages_delivered_three_times_in_any_order_are_handled_once(house: House) -> None:
    house.provider.script(default="delay=0.2")
    ids = [house.submit(number) for number in range(20)]
    house.lose_messages()  # those came in order
    chance = random.Random(1)  # noqa: S311  the same each time
    for request_id in chance.sample(ids, k=60, counts=[3] * 20):
        house.publish(request_id, queue=chance.choice(["urgent", "normal", "low"]))
    _start_workers(house, "worker", "worker:2")
    house.wait_all_ended()
    house.wait_for_no_messages()
    assert house.called_once_each(20)
    rows = house.rows("SELECT status, attempts, claims FROM generation_requests")
    assert {tuple(row.values()) for row in rows} == {("completed", 1, 1)}


def test_a_message_that_ten_have_at_the_same_moment_is_one_call(house: House) -> None:
    house.stack.stop("dispatcher")  # only the test sends
    request_id = house.submit(1)
    house.lose_messages()
    house.stack.env["MAX_CONCURRENT_REQUESTS"] = "3"
    workers = ("worker", "worker:2", "worker:3", "worker:4")
    _start_workers(house, *workers)
    with house.locked("generation_requests", "id", request_id):
        for _ in range(10):
            house.publish(request_id)
        house.wait_for_no_messages()
        house.wait_for_blocked(len(workers))  # each stands right before the claim, the others behind it
    house.wait_for(request_id, "completed")

    def too_late() -> int:
        return sum(house.stack.log(name).count(_NOTHING + request_id) for name in workers)

    wait_until(lambda: too_late() == 9, what="nine that came too late")
    assert len(house.calls(1)) == 1
    assert house.rows("SELECT attempts, claims FROM generation_requests") == [{"attempts": 1, "claims": 1}]


def test_a_message_for_a_missing_or_ended_request_is_dropped_quietly(house: House) -> None:
    house.provider.script("", "status=400", "hold")
    _start_workers(house, "worker")
    completed, failed = house.submit(1), house.submit(2)
    house.wait_all_ended()
    cancelled = house.submit(3)
    house.wait_for_calls(3)
    assert house.alice.delete(f"/cancel/{cancelled}").status_code == 200
    history = house.rows("SELECT count(*) AS n FROM generation_status_changes")
    unknown = new_request_id()
    for request_id in (unknown, completed, failed, cancelled):
        for _ in range(3):
            house.publish(request_id)
    for request_id in (unknown, completed, failed, cancelled):
        house.wait_for_log("worker", _NOTHING + request_id, times=3)
    assert house.messages() == 0
    assert house.provider.stats().count == 3
    assert house.rows("SELECT count(*) AS n FROM generation_status_changes") == history
    assert not house.unacknowledged()
    for alarm in ("Traceback", '"level": "error"', '"level": "warning"'):
        assert alarm not in house.stack.log("worker")


def test_a_message_of_an_earlier_attempt_does_not_bring_a_retry_forward(house: House) -> None:
    house.provider.script("status=429;retry-after=4")
    _start_workers(house, "worker")
    request_id = house.submit(1)
    house.wait_for_calls(1)
    house.wait_for(request_id, "queued")
    for _ in range(5):
        house.publish(request_id, queue="urgent")
    house.wait_for_log("worker", _NOTHING + request_id, times=5)
    house.wait_for(request_id, "completed")
    first, second = house.calls(1)
    assert second.started - first.started >= 4


def test_messages_that_make_no_sense_are_survived_and_come_once(house: House) -> None:
    request_id = house.submit(1)
    house.lose_messages()
    senseless: list[tuple[Any, ...]] = [
        (),
        (request_id, request_id),
        (7,),
        (None,),
        (True,),
        ([request_id],),
        ({"id": request_id},),
        ("x" * 1_000_000,),
        ("\0",),
        ("' OR 1=1 --",),
    ]
    for arguments in senseless:
        house.publish(*arguments)
    house.publish(request_id, task="workers.tasks.there_is_no_such_task")
    house.publish(kwargs={"request_id": request_id, "urgent": True})
    _start_workers(house, "worker")
    house.wait_for(request_id, "completed")
    house.wait_for_no_messages()
    house.wait_for(house.submit(2), "completed")
    assert not house.unacknowledged()
    assert not house.stack.has_ended("worker")
    assert house.provider.stats().count == 2
    assert house.stack.log("worker").count("Received unregistered task") == 1


def test_a_malformed_message_costs_a_worker_and_no_accepted_request(house: House) -> None:
    house.stack.stop("dispatcher")  # what is behind it in the queue stays there
    with house.valkey.client() as client:
        client.rpush("normal", b"no JSON")
    for number in range(3):
        house.submit(number)
    with house.stack.supervised("worker") as ended:
        house.wait_all_ended()
    assert ended == ["worker"]
    assert house.provider.stats().count == 3
