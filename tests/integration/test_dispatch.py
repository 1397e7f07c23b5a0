"""Ledger → message, on a real Redis: what is sent, what is not lost, and what a Redis that is away costs."""

from __future__ import annotations

import base64
import json
import time
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.contrib.auth.models import User

from generation import dispatch, lifecycle
from generation.clock import Now
from generation.models import GenerationQueue
from generation.states import WEIGHTS
from tests.support.broker import lose_all_messages, messages
from tests.support.races import at_once
from tests.support.requests import back_in_queue, claimed, queued
from workers import dispatcher

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]


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
    assert dispatcher.run_once() == 0


def test_a_message_that_got_lost_is_sent_again_once_it_is_overdue(alice: User) -> None:
    request = queued(alice)
    lose_all_messages()
    assert dispatcher.run_once() == 0
    GenerationQueue.objects.update(redispatch_at=Now())
    assert dispatcher.run_once() == 1
    assert messages() == {"normal": [request.pk]}
    assert GenerationQueue.objects.get().dispatch_count == 2
    assert dispatcher.run_once() == 0


def test_a_retry_is_sent_when_it_is_due_and_not_before(alice: User) -> None:
    soon, later = claimed(alice, priority="urgent"), claimed(alice, priority="urgent")
    lose_all_messages()
    back_in_queue(soon)
    back_in_queue(later, delay=timedelta(minutes=1))
    assert dispatcher.run_once() == 1
    assert messages() == {"low": [soon.request.pk]}


def test_what_is_due_is_sent_by_weight_and_then_by_age(alice: User) -> None:
    submitted = [queued(alice, priority=priority).pk for priority in ("low", "normal", "urgent", "high", "normal")]
    low, normal, urgent, high, second_normal = submitted
    GenerationQueue.objects.update(redispatch_at=None, dispatched_at=None)
    assert [pk for pk, _ in dispatch.take_due(10)] == [urgent, high, normal, second_normal, low]


def test_a_full_window_sends_nothing(alice: User, settings: Any) -> None:
    settings.DISPATCH_WINDOW = 3
    for _ in range(5):
        queued(alice)
    GenerationQueue.objects.update(redispatch_at=Now())
    assert dispatcher.run_once() == 0
    lose_all_messages()
    assert dispatcher.run_once() == 3


def test_two_dispatchers_do_not_take_the_same_row(alice: User) -> None:
    ids = {queued(alice).pk for _ in range(40)}
    GenerationQueue.objects.update(redispatch_at=None, dispatched_at=None)
    taken: list[str] = []

    def take() -> bool:
        taken.extend(pk for pk, _ in dispatch.take_due(25))
        return True

    at_once(take, take)
    assert len(taken) == len(set(taken))
    taken.extend(pk for pk, _ in dispatch.take_due(25))
    assert set(taken) == ids


def test_a_submit_without_a_broker_is_quick_and_stays_due(alice: User, no_broker: None) -> None:
    started = time.monotonic()
    first, second = queued(alice), queued(alice)
    assert time.monotonic() - started < 2
    assert dispatcher.run_once() == 0
    assert set(GenerationQueue.objects.filter(redispatch_at__lte=Now()).values_list("pk", flat=True)) == {
        first.pk,
        second.pk,
    }


def test_the_dispatcher_catches_up_when_the_broker_is_back(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_closed_until", time.monotonic() + 60)
    request = queued(alice)
    assert messages() == {}
    monkeypatch.setattr(dispatch, "_closed_until", 0.0)
    assert dispatcher.run_once() == 1
    assert messages() == {"normal": [request.pk]}


def test_a_cancelled_request_is_not_sent(alice: User) -> None:
    request = queued(alice)
    lose_all_messages()
    lifecycle.cancel([request.pk], actor=alice)
    GenerationQueue.objects.update(redispatch_at=Now())
    assert dispatcher.run_once() == 0
