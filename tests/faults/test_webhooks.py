"""Webhooks while processes die at any point, and while Redis and the database are away."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import standardwebhooks

from tests.faults.house import House
from tests.faults.test_clocks import HOUR, wrong_by
from tests.support.receiver import Receiver, receiving
from tests.support.stack import wait_until

EVENTS = ["request.completed", "request.failed", "request.cancelled"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def hooked(house: House, receiver: Receiver) -> House:
    """A house with a worker, in which Alice has a webhook; without a deliverer."""
    house.stack.env |= {"WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8", "WEBHOOK_ALLOW_HTTP": "true"}
    house.stack.stop("web")
    house.stack.start("web", "worker")
    house.wait_until_up(workers=1)
    answer = house.alice.post("/webhooks", json={"url": f"{receiver.url}/200", "events": EVENTS})
    assert answer.status_code == 201, answer.text
    return house


def make(house: House, *numbers: int) -> list[str]:
    """Complete these requests."""
    ids = [house.submit(number) for number in numbers]
    for request_id in ids:
        house.wait_for(request_id, "completed")
    return ids


def states(house: House) -> Counter[str]:
    return Counter(row["state"] for row in house.rows("SELECT state FROM generation_webhook_deliveries"))


def wait_for_state(house: House, state: str, count: int, *, seconds: float = 20) -> None:
    wait_until(lambda: states(house)[state] == count, seconds=seconds, what=f"{count} {state} deliveries")


def end_leases(house: House) -> None:
    """Let the time of leases pass."""
    house.execute(
        "UPDATE generation_webhook_deliveries SET next_attempt_at = now(), leased_until = now()"
        " WHERE leased_until IS NOT NULL"
    )


def about(receiver: Receiver) -> Counter[str]:
    """How often each request was told of."""
    return Counter(came.payload["data"]["requestId"] for came in receiver.received)


def test_a_deliverer_killed_in_the_fan_out_loses_and_doubles_nothing(hooked: House, receiver: Receiver) -> None:
    ids = make(hooked, 1, 2, 3)
    with hooked.holding("LOCK TABLE generation_webhook_endpoints IN ACCESS EXCLUSIVE MODE"):
        hooked.stack.start("deliverer")
        hooked.wait_for_blocked()
        hooked.stack.stop("deliverer", by=signal.SIGKILL)
    hooked.stack.start("deliverer")
    wait_for_state(hooked, "delivered", 3)
    assert about(receiver) == Counter(ids)


def test_a_deliverer_killed_while_it_sends_sends_again_under_the_same_id(hooked: House, receiver: Receiver) -> None:
    hooked.execute("UPDATE generation_webhook_endpoints SET url = %s", f"{receiver.url}/hang")
    make(hooked, 1)
    hooked.stack.start("deliverer")
    [first] = receiver.wait_for(1)
    hooked.stack.stop("deliverer", by=signal.SIGKILL)
    [row] = hooked.rows("SELECT state, leased_until FROM generation_webhook_deliveries")
    assert row["state"] == "pending"
    assert row["leased_until"] is not None
    receiver.answer_all(200)
    end_leases(hooked)
    hooked.stack.start("deliverer")
    wait_for_state(hooked, "delivered", 1)
    assert [came.id for came in receiver.received] == [first.id, first.id]


def test_a_deliverer_killed_before_it_wrote_the_result_sends_again(hooked: House, receiver: Receiver) -> None:
    hooked.execute("UPDATE generation_webhook_endpoints SET url = %s", f"{receiver.url}/200?delay=2")
    make(hooked, 1)
    hooked.stack.start("deliverer")
    receiver.wait_for(1)
    with hooked.holding("LOCK TABLE generation_webhook_deliveries IN EXCLUSIVE MODE"):
        hooked.wait_for_blocked(2)  # the result, and the next look
        hooked.stack.stop("deliverer", by=signal.SIGKILL)
    assert states(hooked) == {"pending": 1}
    end_leases(hooked)
    hooked.stack.start("deliverer")
    wait_for_state(hooked, "delivered", 1)
    assert len({came.id for came in receiver.received}) == 1
    assert len(receiver.received) == 2


def test_a_stopped_deliverer_finishes_what_it_sends(hooked: House, receiver: Receiver) -> None:
    hooked.execute("UPDATE generation_webhook_endpoints SET url = %s", f"{receiver.url}/200?delay=3")
    make(hooked, 1)
    hooked.stack.start("deliverer")
    receiver.wait_for(1)
    started = time.monotonic()
    hooked.stack.stop("deliverer")
    assert time.monotonic() - started < 10
    assert states(hooked) == {"delivered": 1}
    assert hooked.rows("SELECT 1 FROM generation_workers WHERE kind = 'deliverer'") == []


def test_a_stopped_deliverer_releases_what_hangs(hooked: House, receiver: Receiver) -> None:
    hooked.execute("UPDATE generation_webhook_endpoints SET url = %s", f"{receiver.url}/hang")
    make(hooked, 1)
    hooked.stack.start("deliverer")
    receiver.wait_for(1)
    started = time.monotonic()
    hooked.stack.stop("deliverer")
    assert time.monotonic() - started < 10
    [row] = hooked.rows("SELECT state, leased_until, tries, attempts FROM generation_webhook_deliveries")
    assert (row["state"], row["leased_until"], row["tries"]) == ("pending", None, 0)


def test_without_redis_deliveries_go_on(hooked: House, receiver: Receiver) -> None:
    hooked.stack.start("deliverer")
    make(hooked, 1)
    receiver.wait_for(1)
    hooked.valkey.kill()
    with hooked.holding("SELECT 1"):
        [request_id] = [hooked.submit(2)]
        assert hooked.cancel(request_id)
    receiver.wait_for(2)
    hooked.valkey.start()
    wait_for_state(hooked, "delivered", 2)
    make(hooked, 3)
    receiver.wait_for(3)


def test_cut_connections_lose_and_double_nothing(hooked: House, receiver: Receiver) -> None:
    hooked.stack.start("deliverer")
    ids = []
    for number in range(10):
        ids += make(hooked, number)
        hooked.cut("application_name = 'vga-deliverer'")
    wait_for_state(hooked, "delivered", 10, seconds=70)
    assert set(about(receiver)) == set(ids)
    assert len({came.id for came in receiver.received}) == 10
    assert not hooked.stack.has_ended("deliverer")


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_a_wrong_clock_delays_nothing_and_signs_the_right_time(hooked: House, receiver: Receiver, seconds: int) -> None:
    webhook_id = hooked.alice.get("/webhooks").json()["results"][0]["webhookId"]
    secret = hooked.alice.post(f"/webhooks/{webhook_id}/rotate", json={"overlapHours": 1}).json()["secret"]
    hooked.stack.start("deliverer", **wrong_by(seconds))
    make(hooked, 1)
    [came] = receiver.wait_for(1)
    standardwebhooks.Webhook(secret).verify(came.body, came.headers)
    assert came.headers["webhook-signature"].count("v1,") == 2
    wait_for_state(hooked, "delivered", 1)


def test_two_deliverers_of_which_one_dies_lose_nothing(hooked: House, receiver: Receiver) -> None:
    hooked.stack.start("deliverer", "deliverer:2")
    ids = make(hooked, *range(10))
    hooked.stack.stop("deliverer:2", by=signal.SIGKILL)
    ids += make(hooked, *range(10, 20))
    time.sleep(1)
    end_leases(hooked)
    wait_for_state(hooked, "delivered", 20)
    assert set(about(receiver)) == set(ids)
