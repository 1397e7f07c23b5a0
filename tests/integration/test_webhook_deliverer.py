"""The deliverer on a real database and over real HTTP: from the status change to the receiver, and its limits."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import standardwebhooks
from django.contrib.auth.models import User
from django.db import connection

from generation.db.functions import Now
from generation.models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from generation.requests import lifecycle
from generation.requests.new_request import Webhook
from generation.states import DEFAULT_WEBHOOK_EVENTS, WEBHOOK_EVENTS, DeliveryState
from generation.webhooks import deliveries, endpoints, leases, outbox, signatures
from tests.support.receiver import Receiver, receiving
from tests.support.requests import FAILURE, claimed, completed
from tests.support.stack import wait_until
from tests.support.webhooks import SECRET, endpoint_of
from workers.deliverer import Deliverer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]

ENDS = tuple(map(str, DEFAULT_WEBHOOK_EVENTS))
ALL = [str(event) for event in WEBHOOK_EVENTS]


@pytest.fixture(autouse=True)
def _loopback(settings: Any) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]
    settings.WEBHOOK_ALLOW_HTTP = True
    settings.WEBHOOK_TIMEOUT_S = 3


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@contextmanager
def delivering() -> Iterator[None]:
    """A deliverer in a thread, with an event loop of its own."""
    started = threading.Event()
    found: list[Any] = []

    async def run() -> None:
        deliverer = Deliverer()
        found.extend([asyncio.get_running_loop(), deliverer])
        started.set()
        await deliverer.run()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    started.wait()
    try:
        yield
    finally:
        loop, deliverer = found
        loop.call_soon_threadsafe(deliverer.stop)
        thread.join(20)
        assert not thread.is_alive()


def fill(endpoint: WebhookEndpoint, count: int) -> None:
    """Add so many due deliveries by one statement."""
    row = outbox.delivery(
        owner_id=endpoint.owner_id, endpoint_id=endpoint.pk, url=endpoint.url, event="webhook.test", snapshot={"a": 1}
    )
    for start in range(0, count, 1000):
        outbox.add([row | {"id": f"{row['id']}{start + index:06d}"} for index in range(min(1000, count - start))])


def ended(*, state: str, count: int = 1, seconds: float = 10) -> list[WebhookDelivery]:
    rows = WebhookDelivery.objects.filter(state=state)
    wait_until(lambda: rows.count() >= count, seconds=seconds, what=f"{count} {state}")
    return list(rows.order_by("id"))


def make_due() -> None:
    WebhookDelivery.objects.filter(state=DeliveryState.PENDING, leased_until=None).update(next_attempt_at=Now())


def test_a_status_change_arrives_signed_and_in_the_status_shape(alice: User, receiver: Receiver) -> None:
    endpoint_of(alice, url=f"{receiver.url}/200", events=list(ENDS))
    with delivering():
        request = completed(alice, project_id="book")
        [came] = receiver.wait_for(1)
        [delivery] = ended(state="delivered")
    payload = standardwebhooks.Webhook(SECRET).verify(came.body, came.headers)
    assert (payload["type"], payload["data"]["requestId"]) == ("request.completed", request.pk)
    assert "imageData" not in payload["data"]["result"]
    assert payload["data"]["result"]["imageUrl"].startswith("http")
    assert payload["data"]["sequence"] == 3
    assert (came.id, delivery.request_id) == (delivery.pk, request.pk)
    [attempt] = delivery.attempts
    assert (attempt["status"], attempt["error"]) == (200, None)


def test_a_late_start_tells_the_state_of_its_time(alice: User, receiver: Receiver) -> None:
    endpoint_of(alice, url=f"{receiver.url}/200", events=["request.started"])
    completed(alice)
    with delivering():
        [came] = receiver.wait_for(1)
    data = came.payload["data"]
    assert (data["status"], data["sequence"], data["result"], data["metadata"]["completedAt"]) == (
        "in-progress",
        2,
        None,
        None,
    )


def test_a_batch_completes_with_its_own_shape(alice: User, receiver: Receiver) -> None:
    from tests.support.batches import batch_in

    endpoint_of(alice, url=f"{receiver.url}/200", events=["batch.completed"])
    batch, ids = batch_in(alice, ["completed", "failed"])
    with delivering():
        [came] = receiver.wait_for(1)
    data = came.payload["data"]
    assert (data["batchId"], data["counts"]["completed"], data["counts"]["failed"]) == (batch.pk, 1, 1)
    assert [item["requestId"] for item in data["requests"]] == ids


def test_the_owner_secret_signs_what_a_call_asked_for(alice: User, receiver: Receiver) -> None:
    lifecycle.fail(claimed(alice, webhook=Webhook(url=f"{receiver.url}/200", events=ENDS)), FAILURE)
    with delivering():
        [came] = receiver.wait_for(1)
    standardwebhooks.Webhook(endpoints.default_secret(alice)).verify(came.body, came.headers)


def test_a_failure_is_tried_again_under_the_same_id(alice: User, receiver: Receiver) -> None:
    endpoint_of(alice, url=f"{receiver.url}/x?after=2")
    completed(alice)
    with delivering():
        receiver.wait_for(1)
        wait_until(lambda: WebhookDelivery.objects.get().tries == 1, what="the first result")
        [pending] = WebhookDelivery.objects.all()
        assert pending.next_attempt_at is not None
        wait = pending.next_attempt_at - pending.occurred_at
        assert timedelta(seconds=4.5) < wait < timedelta(seconds=8)
        first, second = receiver.wait_for(2)
        [delivery] = ended(state="delivered")
    assert first.id == second.id
    assert [attempt["status"] for attempt in delivery.attempts] == [500, 200]
    assert int(second.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"])


def test_a_delivery_is_given_up_after_the_tenth_attempt(alice: User, receiver: Receiver) -> None:
    endpoint_of(alice, url=f"{receiver.url}/500")
    completed(alice)
    outbox.fan_out()
    WebhookDelivery.objects.update(tries=9)
    with delivering():
        [delivery] = ended(state="failed")
    assert len(receiver.received) == 1
    assert (delivery.tries, delivery.next_attempt_at) == (10, None)


def test_a_longer_retry_after_is_followed(alice: User, receiver: Receiver) -> None:
    endpoint_of(alice, url=f"{receiver.url}/429?header=Retry-After:3600")
    completed(alice)
    with delivering():
        wait_until(lambda: WebhookDelivery.objects.filter(tries=1).exists(), what="the first result")
    delivery = WebhookDelivery.objects.get()
    assert delivery.next_attempt_at is not None
    assert timedelta(seconds=3500) < delivery.next_attempt_at - delivery.occurred_at < timedelta(seconds=3700)


def test_410_disables_the_endpoint_and_ends_what_waits(alice: User, receiver: Receiver) -> None:
    endpoint = endpoint_of(alice, url=f"{receiver.url}/410")
    fill(endpoint, 50)
    with delivering():
        ended(state="failed", count=50)
    endpoint.refresh_from_db()
    assert (endpoint.enabled, endpoint.disabled_reason) == (False, "gone")
    assert len(receiver.received) <= 4
    errors = Counter(one.attempts[-1]["error"] for one in WebhookDelivery.objects.all())
    assert set(errors) == {"gone", "endpoint_disabled"}


@pytest.mark.parametrize(("days", "is_enabled"), [(4.9, True), (5.1, False)])
def test_an_endpoint_is_disabled_after_five_days_of_failures(
    alice: User, receiver: Receiver, days: float, is_enabled: bool
) -> None:
    endpoint = endpoint_of(alice, url=f"{receiver.url}/500")
    WebhookEndpoint.objects.update(failing_since=Now() - timedelta(days=days))
    fill(endpoint, 1)
    with delivering():
        wait_until(lambda: WebhookDelivery.objects.filter(tries=1).exists(), what="the result")
        wait_until(lambda: WebhookEndpoint.objects.get().enabled == is_enabled, what="the endpoint")
    endpoint.refresh_from_db()
    assert (endpoint.enabled, endpoint.disabled_reason) == (is_enabled, "" if is_enabled else "failing")


def test_the_first_success_ends_a_time_of_failures(alice: User, receiver: Receiver) -> None:
    endpoint = endpoint_of(alice, url=f"{receiver.url}/x?after=2")
    fill(endpoint, 1)
    with delivering():
        wait_until(lambda: WebhookEndpoint.objects.get().failing_since is not None, what="the note of the failure")
        ended(state="delivered")
        wait_until(lambda: WebhookEndpoint.objects.get().failing_since is None, what="the note of the success")


def test_ten_thousand_behind_a_dead_target_delay_no_other(alice: User, charlie: User, receiver: Receiver) -> None:
    with receiving("127.0.0.2") as dead:
        fill(endpoint_of(charlie, url=f"{dead.url}/hang"), 10_000)
        with delivering():
            dead.wait_for(2)
            endpoint_of(alice, url=f"{receiver.url}/200")
            started = time.monotonic()
            completed(alice)
            receiver.wait_for(1)
            assert time.monotonic() - started < 1
            time.sleep(1)
            assert len(dead.received) <= leases.OF_TARGET


def test_a_failing_target_is_probed_by_one_at_a_time(alice: User, receiver: Receiver) -> None:
    fill(endpoint_of(alice, url=f"{receiver.url}/500"), 100)
    with delivering():
        receiver.wait_for(3)
        time.sleep(3)
        # Two may be under way at the third failure, which is followed by 5 s without any.
        third = receiver.received[2].at
        assert sum(came.at < third + 4.5 for came in receiver.received) <= 4
        receiver.answer_all(200)
        ended(state="delivered", count=95, seconds=20)


def test_a_target_gets_two_at_once_and_a_host_eight(alice: User, charlie: User, receiver: Receiver) -> None:
    for _ in range(3):
        fill(endpoint_of(alice, url=f"{receiver.url}/hang"), 5)
        fill(endpoint_of(charlie, url=f"{receiver.url}/hang"), 5)
    with delivering():
        receiver.wait_for(8)
        time.sleep(0.5)
        assert len(receiver.received) == leases.OF_HOST
        targets = Counter(WebhookDelivery.objects.exclude(leased_until=None).values_list("target", flat=True))
        assert max(targets.values()) == leases.OF_TARGET


def test_two_deliverers_send_each_delivery_once(alice: User) -> None:
    receivers = [Receiver(f"127.0.0.{number}") for number in range(1, 9)]
    for one in receivers:
        fill(endpoint_of(alice, url=f"{one.url}/200"), 20)
    with delivering(), delivering():
        ended(state="delivered", count=160, seconds=30)
    ids = Counter(came.id for one in receivers for came in one.received)
    for one in receivers:
        one.close()
    assert set(ids.values()) == {1}
    assert len(ids) == 160


def test_deleting_an_endpoint_while_it_is_sent_to_is_no_error(alice: User, receiver: Receiver, caplog: Any) -> None:
    endpoint = endpoint_of(alice, url=f"{receiver.url}/hang")
    fill(endpoint, 10)
    with delivering():
        receiver.wait_for(2)
        endpoints.delete(endpoint, by=alice, address="")
        assert not WebhookDelivery.objects.exists()
        healthy = endpoint_of(alice, url=f"{receiver.url}/200")
        fill(healthy, 1)
        ended(state="delivered")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_deleted_request_ends_its_delivery(alice: User, receiver: Receiver) -> None:
    endpoint_of(alice, url=f"{receiver.url}/200")
    request = completed(alice)
    outbox.fan_out()
    request.delete()
    with delivering():
        [delivery] = ended(state="failed")
    assert delivery.attempts[-1]["error"] == "request_deleted"
    assert receiver.received == []


def test_an_unreadable_secret_is_in_the_log_until_it_is_rotated(alice: User, receiver: Receiver, settings: Any) -> None:
    endpoint = endpoint_of(alice, url=f"{receiver.url}/200")
    settings.SECRET_KEY = "another-secret-key-that-is-long-enough-for-it"
    fill(endpoint, 1)
    with delivering():
        wait_until(lambda: WebhookDelivery.objects.filter(tries=1).exists(), what="the first result")
        assert WebhookDelivery.objects.get().attempts[0]["error"] == "secret_unreadable"
        secret = endpoints.rotate(endpoint, overlap=timedelta(hours=1), by=alice, address="")
        make_due()
        [came] = receiver.wait_for(1)
    standardwebhooks.Webhook(secret).verify(came.body, came.headers)


def test_an_old_key_of_the_fallbacks_reads_secrets(alice: User, receiver: Receiver, settings: Any) -> None:
    endpoint = endpoint_of(alice, url=f"{receiver.url}/200")
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another-secret-key-that-is-long-enough-for-it"
    assert signatures.decrypt(endpoint.secret) == SECRET


def test_what_did_not_end_within_four_days_fails(alice: User) -> None:
    fill(endpoint_of(alice), 3)
    WebhookDelivery.objects.update(expires_at=Now(), next_attempt_at=Now() + timedelta(hours=1))
    assert deliveries.end_expired() == 3
    assert {one.attempts[-1]["error"] for one in WebhookDelivery.objects.all()} == {"expired"}


def test_a_late_result_of_a_lost_lease_changes_nothing(alice: User) -> None:
    from datetime import UTC, datetime

    fill(endpoint_of(alice), 1)
    [first] = leases.take(room=10, suspect_room=5)
    assert leases.take(room=10, suspect_room=5) == []
    WebhookDelivery.objects.update(next_attempt_at=Now(), leased_until=Now())
    [second] = leases.take(room=10, suspect_room=5)
    leases.settle([leases.Result(leased=first, status=200, at=datetime.now(UTC))])
    assert WebhookDelivery.objects.get().state == DeliveryState.PENDING
    leases.settle([leases.Result(leased=second, status=200, at=datetime.now(UTC))])
    assert WebhookDelivery.objects.get().state == DeliveryState.DELIVERED


def test_old_deliveries_are_pruned(alice: User) -> None:
    fill(endpoint_of(alice), 3)
    WebhookDelivery.objects.update(state="delivered", next_attempt_at=None)
    assert sum(deliveries.delete_old()) == 0
    WebhookDelivery.objects.update(created_at=Now() - timedelta(days=31))
    assert sum(deliveries.delete_old()) == 3


def test_what_waits_too_long_for_a_deliverer_is_pruned(alice: User) -> None:
    fill(endpoint_of(alice), 2)
    WebhookDelivery.objects.update(created_at=Now() - timedelta(days=31), expires_at=Now() - timedelta(days=27))
    for age in (31, 1):
        WebhookEvent.objects.create(
            request_id="vga_1", sequence=1, event="request.completed", snapshot={}, at=Now() - timedelta(days=age)
        )
    assert sum(deliveries.delete_old()) == 2
    assert WebhookEvent.objects.count() == 1


def test_the_log_keeps_the_newest_twenty_attempts(alice: User, receiver: Receiver) -> None:
    endpoint = endpoint_of(alice, url=f"{receiver.url}/200")
    fill(endpoint, 1)
    WebhookDelivery.objects.update(attempts=[{"status": number} for number in range(25)])
    with delivering():
        [delivery] = ended(state="delivered")
    assert [one["status"] for one in delivery.attempts] == [*range(6, 25), 200]


def test_the_process_outlives_a_cut_of_its_connections(alice: User, receiver: Receiver) -> None:
    endpoint_of(alice, url=f"{receiver.url}/200")
    with delivering():
        completed(alice)
        receiver.wait_for(1)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        completed(alice)
        receiver.wait_for(2, seconds=15)


def test_a_body_that_cannot_be_made_delays_no_other(alice: User, receiver: Receiver) -> None:
    endpoint_of(alice, url=f"{receiver.url}/200", events=["request.completed"])
    faulty, good = completed(alice), completed(alice)
    outbox.fan_out()
    WebhookDelivery.objects.filter(request_id=faulty.pk).update(snapshot={})
    with delivering():
        [came] = receiver.wait_for(1)
        [delivery] = ended(state="delivered")
    assert came.id == delivery.pk
    assert delivery.request_id == good.pk
    assert WebhookDelivery.objects.get(request_id=faulty.pk).attempts[0]["error"] == "internal"


def test_one_owner_does_not_take_all_slots(alice: User, charlie: User) -> None:
    row = outbox.delivery(owner_id=alice.pk, endpoint_id=None, url="https://a", event="webhook.test", snapshot={})
    many = [{"id": f"{row['id']}{index}", "target": f"t{index}", "host": f"h{index}"} for index in range(100)]
    outbox.add([row | columns for columns in many])
    outbox.add([outbox.delivery(**_test_to(charlie))])
    taken = leases.take(room=100, suspect_room=50)
    assert Counter(one.owner_id for one in taken) == {alice.pk: leases.OF_OWNER, charlie.pk: 1}
    assert leases.take(room=100, suspect_room=50) == []


def _test_to(owner: User) -> dict[str, Any]:
    return {"owner_id": owner.pk, "endpoint_id": None, "url": "https://b", "event": "webhook.test", "snapshot": {}}


def test_a_delivery_that_was_made_during_a_move_goes_to_the_new_url(alice: User, receiver: Receiver) -> None:
    endpoint = endpoint_of(alice, url="https://former.example.org/")
    fill(endpoint, 1)
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(url=f"{receiver.url}/200")
    with delivering():
        receiver.wait_for(1)
        ended(state="delivered")
