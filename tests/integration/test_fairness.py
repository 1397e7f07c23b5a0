"""Turns between owners: who starts next, whatever each has queued."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from celery import current_app
from django.contrib.auth.models import User
from django.db import connection

from generation import caching
from generation.db import queries
from generation.db.functions import Now
from generation.models import ApiKey, GenerationQueue, GenerationRequest
from generation.queue import backlog, control, dispatch
from generation.queue.backlog import Span, share_before
from generation.queue.broker import BrokerUnavailable
from generation.requests import lifecycle, maintenance, positions
from generation.requests.claims import Claim
from generation.states import WEIGHTS
from tests.support.batches import batch_of
from tests.support.measured import worker
from tests.support.races import at_once
from tests.support.requests import RESULT, back_in_queue, claimed, queued
from workers import dispatcher

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]

#: The slots of the workers, and so half of the messages that may wait in Redis.
SLOTS = 3


@pytest.fixture
def people(db: None) -> list[User]:
    """Four owners."""
    return [User.objects.create(username=name) for name in ("ann", "ben", "cat", "dan")]


def _turns(owner: User, *, weight: int = 10) -> list[int]:
    rows = GenerationQueue.objects.filter(request__owner=owner, priority_weight=weight)
    return list(rows.order_by("turn").values_list("turn", flat=True))


def _next_message(queue: str = "normal") -> str | None:
    with current_app.connection_for_write() as broker:
        client: Any = broker.default_channel.client  # type: ignore[attr-defined]
        raw = client.rpop(queue)
    caching.clear_all()
    return None if raw is None else json.loads(base64.b64decode(json.loads(raw)["body"]))[0][0]


def _starts(count: int, *, running: list[Claim] | None = None) -> Iterator[Claim]:
    """Start so many requests in the order in which their messages come, and complete each when the slots are used."""
    running = [] if running is None else running
    for _ in range(count):
        while (request_id := _next_message()) is None:
            try:
                if not dispatch.send_due():
                    return
            except BrokerUnavailable:  # too slow on a busy machine; the next look asks it again
                continue
        claim = lifecycle.claim(request_id, worker="one")
        if claim is None:
            continue
        running.append(claim)
        if len(running) == SLOTS:
            assert lifecycle.complete(running.pop(0), result=RESULT, model="openmoji-17")
            with suppress(BrokerUnavailable):
                dispatch.send_due()
        yield claim


def _counts(claims: Iterator[Claim]) -> Counter[str]:
    return Counter(claim.request.owner.username for claim in claims)


def test_an_owner_with_one_request_is_next_whatever_another_has_queued(people: list[User]) -> None:
    ann, ben, *_ = people
    for _ in range(4):
        batch_of(ann, 100)
    request = queued(ben)
    assert request.ahead == 1
    position = positions.of_request(GenerationRequest.objects.get(pk=request.pk))
    assert position is not None
    assert position.position == 2


def test_a_batch_takes_consecutive_turns(people: list[User]) -> None:
    ann, ben, *_ = people
    _, ids = batch_of(ann, 5)
    assert _turns(ann) == [0, 1, 2, 3, 4]
    queued(ann)
    assert _turns(ann) == [0, 1, 2, 3, 4, 5]
    batch_of(ben, 3)
    assert _turns(ben) == [0, 1, 2]
    in_order = GenerationQueue.objects.filter(request__in=ids).order_by("turn").values_list("pk", flat=True)
    assert list(in_order) == ids


def test_a_new_owner_does_not_pass_the_front(people: list[User]) -> None:
    ann, ben, *_ = people
    _, ids = batch_of(ann, 10)
    for request_id in ids[:6]:
        assert lifecycle.claim(request_id, worker="one")
    queued(ben)
    assert _turns(ben) == [6]


@pytest.mark.parametrize("backlogs", [(120, 60, 60, 60), (200, 5, 40, 100), (60, 60, 60, 60), (300, 1, 0, 0)])
def test_each_owner_gets_its_share_of_the_starts(people: list[User], backlogs: tuple[int, ...]) -> None:
    """While all have something queued, each gets a k-th of the starts but for the messages that wait in Redis."""
    worker("one", slots=SLOTS)
    waiting = {owner: count for owner, count in zip(people, backlogs, strict=True) if count}
    for owner, count in waiting.items():  # one after the other: the first has filled Redis before the others come
        for start in range(0, count, 100):
            batch_of(owner, min(100, count - start))
    for owner, count in waiting.items():
        assert GenerationQueue.objects.filter(request__owner=owner).count() == count
    all_wait = min(waiting.values()) * len(waiting)
    started = _counts(_starts(all_wait))
    window = 2 * SLOTS
    for owner in waiting:
        assert started[owner.username] >= all_wait / len(waiting) - window, started


def test_an_owner_who_comes_later_gets_its_share_at_once(people: list[User]) -> None:
    worker("one", slots=SLOTS)
    ann, ben, cat, _ = people
    for _ in range(2):
        batch_of(ann, 100)
    running: list[Claim] = []
    assert _counts(_starts(50, running=running)) == {"ann": 50}
    batch_of(ben, 40)
    batch_of(cat, 40)
    started = _counts(_starts(60, running=running))
    assert min(started["ben"], started["cat"]) >= 20 - 2 * SLOTS, started
    assert started["ann"] >= 20 - 2 * SLOTS, started


def test_priority_stays_above_turns(people: list[User]) -> None:
    ann, ben, *_ = people
    for _ in range(20):
        queued(ann, priority="high")
    assert queued(ben).ahead == 20


def test_held_requests_in_front_let_no_new_owner_pass_another(people: list[User]) -> None:
    """A batch with a limit keeps rows at its old turns for long."""
    ann, ben, cat, _ = people
    _, held = batch_of(ann, 20, limit=1)
    _, ids = batch_of(ben, 40)
    for request_id in [held[0], *ids[:30]]:
        assert lifecycle.claim(request_id, worker="one")
    queued(cat)
    assert _turns(cat) == [30]


def test_held_requests_count_if_there_are_no_others(people: list[User]) -> None:
    ann, ben, *_ = people
    _, held = batch_of(ann, 20, limit=1)
    assert lifecycle.claim(held[0], worker="one")
    queued(ben)
    assert _turns(ben) == [1]


def test_delayed_requests_in_front_let_no_new_owner_pass_another(people: list[User]) -> None:
    ann, ben, cat, _ = people
    _, delayed = batch_of(ann, 5)
    _, ids = batch_of(ben, 20)
    GenerationQueue.objects.filter(pk__in=delayed).update(available_at=Now() + timedelta(hours=1))
    for request_id in ids[:10]:
        assert lifecycle.claim(request_id, worker="one")
    queued(cat)
    assert _turns(cat) == [10]


def test_a_retry_takes_a_new_turn_at_its_weight(people: list[User]) -> None:
    ann, ben, *_ = people
    for _ in range(3):
        queued(ann, priority="low")
    back_in_queue(claimed(ann))
    assert _turns(ann, weight=1) == [0, 1, 2, 3]
    back_in_queue(claimed(ben))
    assert _turns(ben, weight=1) == [0]


def test_a_retry_by_hand_takes_a_new_turn(people: list[User]) -> None:
    ann = people[0]
    request = queued(ann)
    lifecycle.cancel([request.pk], actor=ann)
    batch_of(ann, 3)
    assert lifecycle.retry(request.pk, actor=ann)
    assert _turns(ann) == [0, 1, 2, 3]


def test_a_promotion_takes_a_new_turn_at_the_higher_weight(people: list[User], settings: Any) -> None:
    ann, ben, *_ = people
    settings.PROMOTION_AFTER = timedelta(0)
    for _ in range(5):
        queued(ben, priority="urgent")
    for _ in range(3):
        queued(ann, priority="high")
    GenerationQueue.objects.filter(request__owner=ann).update(turn=100)
    assert maintenance.promote_long_waiting() == 3
    assert _turns(ann, weight=1000) == [0, 1, 2]


def test_a_change_of_priority_takes_a_new_turn(people: list[User]) -> None:
    ann = people[0]
    _, ids = batch_of(ann, 4)
    control.change_priority(ids[2:], "urgent")
    assert _turns(ann, weight=1000) == [0, 1]
    assert _turns(ann) == [0, 1]
    control.change_priority(ids[2:], "normal")
    assert _turns(ann) == [0, 1, 2, 3]


def test_a_requeue_keeps_the_turn(people: list[User]) -> None:
    ann = people[0]
    _, ids = batch_of(ann, 3)
    control.requeue(ids[:1])
    assert GenerationQueue.objects.get(pk=ids[0]).turn == 0


def test_a_restored_queue_row_takes_a_turn(people: list[User]) -> None:
    ann = people[0]
    _, ids = batch_of(ann, 3)
    GenerationQueue.objects.filter(pk=ids[0]).delete()
    assert maintenance.restore_queue_rows() == 1
    assert _turns(ann) == [1, 2, 3]


def test_two_submits_of_one_owner_at_once_are_both_numbered(people: list[User]) -> None:
    ann = people[0]
    at_once(lambda: bool(batch_of(ann, 20)), lambda: bool(batch_of(ann, 20)))
    turns = _turns(ann)
    assert len(turns) == 40
    assert all(later - earlier <= 1 for earlier, later in pairwise(turns))


# --- Settings ---------------------------------------------------------------------------------------------------------


def test_without_fairness_the_queue_is_in_the_order_of_submission(people: list[User], settings: Any) -> None:
    settings.FAIRNESS = "off"
    ann, ben, *_ = people
    batch_of(ann, 30)
    assert queued(ben).ahead == 30
    assert set(GenerationQueue.objects.values_list("turn", "fair_key")) == {(0, "")}
    assert backlog.owners() == 0


def test_requests_with_turns_are_not_passed_when_fairness_is_switched_off(people: list[User], settings: Any) -> None:
    ann, ben, *_ = people
    batch_of(ann, 10)
    settings.FAIRNESS = "off"
    assert dispatcher.run_once()["unnumbered"] == 10
    assert queued(ben).ahead == 10
    assert dispatcher.run_once()["unnumbered"] == 0


def test_requests_from_before_fairness_stand_in_front(people: list[User], settings: Any) -> None:
    """Processes of the version before insert rows without a key, and so without a turn."""
    settings.FAIRNESS = "off"
    ann, ben, *_ = people
    batch_of(ann, 10)
    settings.FAIRNESS = "owner"
    assert queued(ben).ahead == 10
    assert queued(ben).ahead == 11


@pytest.mark.parametrize(
    ("fairness", "first", "second", "other"),
    [
        ("project", {"project_id": "a"}, {"project_id": "a"}, {"project_id": "b"}),
        ("project", {}, {}, {"project_id": "b"}),
        (
            "endUser",
            {"metadata": {"endUser": "mia"}},
            {"metadata": {"endUser": "mia"}},
            {"metadata": {"endUser": "tom"}},
        ),
        ("endUser", {"project_id": "a"}, {"project_id": "b"}, {"metadata": {"endUser": "tom"}}),
    ],
)
def test_projects_or_end_users_of_an_owner_take_turns(
    people: list[User], settings: Any, fairness: str, first: Any, second: Any, other: Any
) -> None:
    settings.FAIRNESS = fairness
    ann, ben, *_ = people
    queued(ann, **first)
    queued(ann, **second)
    queued(ann, **other)
    queued(ben, **first)  # the same name of another owner
    assert _turns(ann) == [0, 0, 1]
    assert _turns(ben) == [0]


def test_an_end_user_of_any_text_is_a_bounded_key(people: list[User], settings: Any) -> None:
    settings.FAIRNESS = "endUser"
    for end_user in ("x" * 10_000, "\U0001f984" * 500, 7, ["a"], {"a": "b"}, True, None, ""):
        queued(people[0], metadata={"endUser": end_user})
    assert all(len(key) <= 64 for key in GenerationQueue.objects.values_list("fair_key", flat=True))


# --- Figures ----------------------------------------------------------------------------------------------------------


def test_the_owners_that_wait_are_counted(people: list[User], monkeypatch: pytest.MonkeyPatch) -> None:
    for owner in people[:3]:
        batch_of(owner, 3)
    assert backlog.owners() == 3
    caching.clear_all()
    monkeypatch.setattr(backlog, "_MOST_OWNERS", 2)
    assert backlog.owners() == 2


def test_owners_without_end_are_sampled(people: list[User], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "_SAMPLED_OWNERS", 2)
    for owner in people:
        batch_of(owner, 3)
    caching.clear_all()
    assert backlog.spans() == {10: [Span(0, 2), Span(0, 2)]}


@pytest.mark.parametrize(
    ("turn", "spans", "share"),
    [
        (0, [Span(0, 99)], 0.0),
        (50, [Span(0, 99)], 0.5),
        (99, [Span(0, 99)], 0.99),
        (500, [Span(0, 99)], 1.0),
        (5, [Span(5, 104), Span(0, 99)], (0 + 5 + 0.5) / 200),
        (0, [Span(0, 0)] * 1000, 0.4995),
        (0, [Span(3, 9)], 0.0),
    ],
)
def test_the_share_before_a_turn_is_that_of_the_owners_turns(turn: int, spans: list[Span], share: float) -> None:
    assert share_before(turn, spans) == pytest.approx(share)


def test_a_far_position_is_estimated_from_the_turns(people: list[User], monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, count in zip(people, (100, 40, 10, 1), strict=True):
        batch_of(owner, count)
    last = GenerationQueue.objects.filter(request__owner=people[0]).order_by("turn")[30]
    request = GenerationRequest.objects.get(pk=last.pk)
    exact = positions.of_request(request)
    monkeypatch.setattr(queries, "COUNTED", 5)
    caching.clear_all()
    estimated = positions.of_request(request)
    assert exact is not None
    assert estimated is not None
    assert exact.position == 31 + 30 + 10 + 1 - 0
    assert estimated.position
    assert exact.position
    assert abs(estimated.position - exact.position) <= 3


# --- A time before which nothing starts -------------------------------------------------------------------------------


def _later(owner: User, delay: timedelta, **more: Any) -> GenerationRequest:
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        now = cursor.fetchone()[0]
    return queued(owner, not_before=now + delay, **more)


def test_a_request_does_not_start_before_its_time(people: list[User]) -> None:
    ann, ben, *_ = people
    request = _later(ann, timedelta(seconds=1.5))
    found = positions.of_request(request)
    assert found
    assert found.position is None
    assert queued(ben).ahead == 0  # it is not counted
    for _ in range(2):
        dispatcher.run_once()
    assert lifecycle.claim(request.pk, worker="one") is None
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(1.6)")
    assert dispatcher.run_once()["unparked"] == 1
    assert _turns(ann) == [0]
    assert lifecycle.claim(request.pk, worker="one") is not None


@pytest.mark.parametrize("delay", [timedelta(0), timedelta(days=-3000)])
def test_a_time_that_is_over_delays_nothing(people: list[User], delay: timedelta) -> None:
    request = _later(people[0], delay)
    assert not request.is_parked
    assert lifecycle.claim(request.pk, worker="one") is not None


def test_a_request_whose_time_has_not_come_is_not_looked_at(people: list[User]) -> None:
    request = _later(people[0], timedelta(hours=1))
    control.requeue([request.pk])  # has the dispatcher look at it
    control.change_priority([request.pk], "urgent")
    for _ in range(3):
        assert dispatcher.run_once()["unparked"] == 0
    row = GenerationQueue.objects.get()
    assert (row.priority_weight, row.available_at) == (0, request.not_before)


def test_a_retry_waits_for_its_time_as_well(people: list[User]) -> None:
    ann = people[0]
    request = _later(ann, timedelta(hours=1))
    lifecycle.cancel([request.pk], actor=ann)
    retried = lifecycle.retry(request.pk, actor=ann)
    assert retried is not None
    assert retried.is_parked
    assert dispatcher.run_once()["unparked"] == 0


def test_a_restored_row_of_a_later_request_waits(people: list[User]) -> None:
    _later(people[0], timedelta(hours=1))
    GenerationQueue.objects.all().delete()
    assert maintenance.restore_queue_rows() == 1
    assert dispatcher.run_once()["unparked"] == 0


def test_the_limit_of_a_key_holds_when_the_time_comes(people: list[User]) -> None:
    ann = people[0]
    key = ApiKey.objects.create(id="abcdefgh", owner=ann, name="one at a time", digest="0" * 64, max_active=1)
    later = [_later(ann, timedelta(seconds=1)) for _ in range(3)]
    GenerationRequest.objects.filter(pk__in=[one.pk for one in later]).update(api_key=key)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(1.1)")
    assert dispatcher.run_once()["unparked"] == 3
    dispatcher.run_once()
    assert sum(lifecycle.claim(one.pk, worker="one") is not None for one in later) == 1


def test_every_weight_has_its_turns(people: list[User]) -> None:
    ann = people[0]
    for priority in WEIGHTS:
        queued(ann, priority=priority)
    assert {row.priority_weight: row.turn for row in GenerationQueue.objects.all()} == dict.fromkeys(
        WEIGHTS.values(), 0
    )
