"""Queue row → message, on a real Redis: what is sent, and what an unavailable Redis costs."""

from __future__ import annotations

import base64
import json
import time
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.contrib.auth.models import User
from django.db import transaction

from generation import caching
from generation.db.functions import Now
from generation.models import GenerationQueue
from generation.queue import broker, dispatch
from generation.reports import prometheus
from generation.requests import lifecycle
from generation.states import WEIGHTS
from tests.support.broker import lose_all_messages, messages
from tests.support.measured import worker
from tests.support.races import at_once
from tests.support.requests import back_in_queue, claimed, queued
from tests.support.stack import wait_until
from workers import dispatcher

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]


def unsent() -> None:
    """As if all had been submitted while there was no room."""
    GenerationQueue.objects.update(redispatch_at=None, dispatched_at=None, dispatch_count=0)
    lose_all_messages()


@pytest.mark.parametrize("priority", list(WEIGHTS))
def test_a_submit_sends_one_message_to_the_queue_of_its_priority(alice: User, priority: str) -> None:
    request = queued(alice, priority=priority)
    assert messages() == {priority: [request.pk]}


def test_a_message_carries_the_id_and_nothing_of_the_prompt(alice: User) -> None:
    queued(alice, prompt="a secret garden with a dragon")
    with current_app.connection_for_read() as connection:
        client: Any = connection.default_channel.client  # type: ignore[attr-defined]
        raw = client.lrange("normal", 0, -1)[0].decode()
    assert "secret" not in raw
    assert "secret" not in base64.b64decode(json.loads(raw)["body"]).decode()


def test_the_dispatcher_does_not_send_again_what_is_on_its_way(alice: User) -> None:
    queued(alice)
    assert dispatcher.run_once()["sent"] == 0


def test_a_message_that_got_lost_is_sent_again_once_it_is_overdue(alice: User) -> None:
    request = queued(alice)
    lose_all_messages()
    assert dispatcher.run_once()["sent"] == 0
    GenerationQueue.objects.update(redispatch_at=Now())
    assert dispatcher.run_once()["sent"] == 1
    assert messages() == {"normal": [request.pk]}
    assert GenerationQueue.objects.get().dispatch_count == 2
    assert dispatcher.run_once()["sent"] == 0


def test_a_retry_is_sent_when_it_is_due_and_not_before(alice: User) -> None:
    soon, later = claimed(alice, priority="urgent"), claimed(alice, priority="urgent")
    lose_all_messages()
    for claim in (soon, later):
        back_in_queue(claim, delay=timedelta(minutes=1))
    assert dispatcher.run_once()["sent"] == 0
    GenerationQueue.objects.filter(pk=soon.request.pk).update(available_at=Now())
    assert dispatcher.run_once()["sent"] == 1
    assert messages() == {"low": [soon.request.pk]}


def test_due_requests_are_sent_to_their_queue_by_age(alice: User) -> None:
    submitted = [queued(alice, priority=priority).pk for priority in ("low", "normal", "urgent", "high", "normal")]
    low, normal, urgent, high, second_normal = submitted
    unsent()
    assert dispatcher.run_once()["sent"] == 5
    assert messages() == {"urgent": [urgent], "high": [high], "normal": [normal, second_normal], "low": [low]}


def test_a_message_overdue_repeatedly_is_resent_less_and_less_often(alice: User) -> None:
    request = queued(alice)
    waits = []
    for _ in range(3):
        entry = GenerationQueue.objects.get(pk=request.pk)
        assert entry.redispatch_at is not None
        assert entry.dispatched_at is not None
        waits.append(round((entry.redispatch_at - entry.dispatched_at).total_seconds()))
        GenerationQueue.objects.update(redispatch_at=Now())
        dispatcher.run_once()
    assert waits == [30, 60, 120]


def test_a_submit_past_the_window_is_not_sent_until_there_is_capacity(alice: User, settings: Any) -> None:
    settings.DISPATCH_WINDOW = 3
    ids = [queued(alice).pk for _ in range(5)]
    assert messages() == {"normal": ids[:3]}
    assert dispatcher.run_once()["sent"] == 0
    lose_all_messages()
    assert dispatcher.run_once()["sent"] == 2
    assert messages() == {"normal": ids[3:]}


def test_a_queue_in_redis_holds_twice_what_the_live_workers_can_run(alice: User) -> None:
    for _ in range(6):
        queued(alice)
    assert len(messages()["normal"]) == 4
    worker("one", slots=2)
    worker("two", slots=3)
    caching.clear_all()
    for _ in range(10):
        queued(alice)
    assert len(messages()["normal"]) == 10


def test_a_full_queue_keeps_no_more_pressing_request_waiting(alice: User, settings: Any) -> None:
    settings.DISPATCH_WINDOW = 2
    for _ in range(4):
        queued(alice, priority="low")
    urgent = queued(alice, priority="urgent").pk
    assert messages()["urgent"] == [urgent]


def test_two_dispatchers_do_not_send_the_same_row(alice: User) -> None:
    worker("one", slots=20)
    ids = [queued(alice).pk for _ in range(40)]
    unsent()
    at_once(lambda: bool(dispatch.send_due()), lambda: bool(dispatch.send_due()))
    dispatch.send_due()
    sent = messages()["normal"]
    assert sent == ids


def test_a_sender_that_died_keeps_the_others_waiting_for_moments_only(alice: User, monkeypatch: Any) -> None:
    monkeypatch.setattr(broker, "_SENDER_LIFETIME", 0.1)
    queued(alice)
    unsent()
    assert broker.begin_sending("dead")
    assert not broker.begin_sending("another")
    assert dispatch.send_due() == 1


def test_a_sender_that_took_too_long_leaves_the_turn_of_the_next_one(monkeypatch: Any) -> None:
    monkeypatch.setattr(broker, "_SENDER_LIFETIME", 0.05)
    assert broker.begin_sending("slow")
    monkeypatch.setattr(broker, "_SENDER_LIFETIME", 3.0)
    wait_until(lambda: broker.begin_sending("next"))
    broker.end_sending("slow")
    assert not broker.begin_sending("third")
    broker.end_sending("next")
    assert broker.begin_sending("third")
    broker.end_sending("third")


def test_a_new_request_does_not_pass_a_long_queue_when_a_message_was_taken(alice: User, charlie: User) -> None:
    worker("one", slots=2)
    first = [queued(alice).pk for _ in range(6)]
    assert messages()["normal"] == first[:4]
    with current_app.connection_for_write() as connection:
        client: Any = connection.default_channel.client  # type: ignore[attr-defined]
        client.rpop("normal")
    caching.clear_all()
    queued(alice)
    assert messages()["normal"] == first[1:5]


def test_a_submit_without_a_broker_is_quick_and_stays_due(alice: User, no_broker: None) -> None:
    started = time.monotonic()
    first, second = queued(alice), queued(alice)
    assert time.monotonic() - started < 2
    assert dispatcher.run_once()["sent"] == 0
    still_due = GenerationQueue.objects.filter(redispatch_at__isnull=True)
    assert set(still_due.values_list("pk", flat=True)) == {first.pk, second.pk}


def test_the_dispatcher_catches_up_when_the_broker_is_back(alice: User) -> None:
    broker.window.failed(OSError("away"))
    request = queued(alice)
    assert messages() == {}
    caching.clear_all()
    assert dispatcher.run_once()["sent"] == 1
    assert messages() == {"normal": [request.pk]}


def test_an_emptied_redis_is_noticed_and_all_that_was_in_it_is_sent_again(alice: User) -> None:
    worker("one", slots=20)
    ids = [queued(alice).pk for _ in range(5)]
    assert dispatcher.run_once()["lost"] == 0
    empty_redis()
    done = dispatcher.run_once()
    assert (done["lost"], done["sent"]) == (5, 5)
    assert sorted(messages()["normal"]) == sorted(ids)
    assert dispatcher.run_once()["lost"] == 0


def empty_redis() -> None:
    with current_app.connection_for_write() as connection:
        client: Any = connection.default_channel.client  # type: ignore[attr-defined]
        client.flushdb()
    caching.clear_all()


def test_a_dispatcher_that_ends_before_the_resend_leaves_it_to_the_next(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [queued(alice).pk for _ in range(3)]
    empty_redis()
    with monkeypatch.context() as patch:
        patch.setattr(dispatch, "mark_undelivered", ended)
        with pytest.raises(KeyboardInterrupt):
            dispatcher.run_once()
    assert dispatcher.run_once()["lost"] == 3
    assert sorted(messages()["normal"]) == sorted(ids)


def ended() -> int:
    raise KeyboardInterrupt


def test_a_redis_that_is_emptied_during_the_resend_is_noticed_again(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued(alice)
    empty_redis()
    forget_sent = dispatch.mark_undelivered

    def emptied_again() -> int:
        lost = forget_sent()
        empty_redis()
        return lost

    with monkeypatch.context() as patch:
        patch.setattr(dispatch, "mark_undelivered", emptied_again)
        assert dispatcher.run_once()["lost"] == 1
    empty_redis()
    assert dispatcher.run_once()["lost"] == 1


def test_marking_messages_as_lost_waits_for_no_other_transaction(alice: User) -> None:
    ids = [queued(alice).pk for _ in range(3)]
    GenerationQueue.objects.update(redispatch_at=Now() + timedelta(hours=1))
    with transaction.atomic():
        GenerationQueue.objects.select_for_update().get(pk=ids[1])  # it is being cancelled
        assert at_once(lambda: dispatch.mark_undelivered() == 2) == [True]
    assert set(GenerationQueue.objects.filter(redispatch_at__lte=Now()).values_list("pk", flat=True)) == {
        ids[0],
        ids[2],
    }


def test_messages_are_marked_as_lost_in_steps(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_BATCH_SIZE", 2)
    worker("one", slots=20)
    for _ in range(5):
        queued(alice)
    assert dispatch.mark_undelivered() == 5


def test_a_step_that_fails_in_whatever_way_leaves_the_others_their_turn(
    alice: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    request = queued(alice)
    unsent()
    monkeypatch.setitem(dispatcher.STEPS, "rescued", lambda: 1 // 0)
    assert dispatcher.run_once()["sent"] == 1
    assert messages() == {"normal": [request.pk]}
    assert "rescued failed" in caplog.text


def test_a_dispatcher_is_alive_until_its_passes_end_no_more(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.QUEUE_PROCESSING_INTERVAL = timedelta(seconds=3)
    now = time.monotonic()
    monkeypatch.setattr("workers.dispatcher.time.monotonic", lambda: now)
    liveness = dispatcher.Liveness()
    now += 125
    assert liveness()
    assert health(liveness) == "200 -"
    now += 2
    assert not liveness()
    assert health(liveness) == "503 -"
    liveness.note()
    assert liveness()


def health(liveness: dispatcher.Liveness) -> str:
    """The status of ``GET /healthz`` at the dispatcher's port."""
    answered: list[Any] = []
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/healthz"}
    start_response: Any = lambda *answer: answered.extend(answer)  # noqa: E731  its type is long
    prometheus.application(environ, start_response, is_alive=liveness)
    return str(answered[0])


def test_a_cancelled_request_is_not_sent(alice: User) -> None:
    request = queued(alice)
    unsent()
    lifecycle.cancel([request.pk], actor=alice)
    assert dispatcher.run_once()["sent"] == 0
