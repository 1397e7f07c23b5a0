"""Statements in groups: together under load, and one faulty row fails alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, OperationalError, connection, transaction

from generation import event_loop
from generation.db.groups import Group, Lane
from generation.models import GenerationAttempt, GenerationRequest, StatusChange
from generation.requests import endings, lifecycle
from generation.requests.claims import AttemptFailure, Claim
from generation.states import Status
from tests.support.requests import claimed, queued
from workers.database import Database

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]


def database() -> Database:
    return Database(worker="worker-1", call_deadline=timedelta(minutes=1))


def all_at_once(*work: Any) -> list[Any]:
    """Await the coroutines together, and return their results or errors."""

    async def together() -> list[Any]:
        return await asyncio.gather(*work, return_exceptions=True)

    return event_loop.loop.submit(together()).result(30)


class Blocking:
    """A statement that notes its items, waits at the first one until it may go on, and refuses negative ones."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.started, self.may_go_on = threading.Event(), threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.groups.append(list(items))
        self.started.set()
        assert self.may_go_on.wait(10)
        if min(items) < 0:
            raise IntegrityError("a constraint")
        return [item * 2 for item in items]


def asked_during_a_statement(act: Blocking, items: Sequence[int]) -> list[int | None]:
    """Return the results of item 0, which a statement gets alone, and of these, which come while it runs."""
    group: Group[int, int] = Group(Lane("test"), act)
    with ThreadPoolExecutor(1 + len(items)) as callers:
        first = callers.submit(group.ask, 0)
        assert act.started.wait(10)
        others = [callers.submit(group.ask, item) for item in items]
        while len(group._waiting) < len(items):
            threading.Event().wait(0.01)
        act.may_go_on.set()
        return [future.result(10) for future in (first, *others)]


def test_items_that_come_during_a_statement_go_together_in_the_next() -> None:
    act = Blocking()
    assert asked_during_a_statement(act, [1, 2, 3, 4]) == [0, 2, 4, 6, 8]
    assert [sorted(items) for items in act.groups] == [[0], [1, 2, 3, 4]]


def test_a_statement_that_a_row_makes_fail_gives_the_others_no_results() -> None:
    assert asked_during_a_statement(Blocking(), [1, -1]) == [0, None, None]


def test_a_failure_is_raised_to_an_item_that_is_alone() -> None:
    def refuse(_: Sequence[int]) -> list[int]:
        raise IntegrityError("a constraint")

    group: Group[int, int] = Group(Lane("test"), refuse)
    with pytest.raises(IntegrityError):
        group.ask(1)


def test_a_result_that_is_missing_leaves_no_caller_waiting() -> None:
    group: Group[int, int] = Group(Lane("test"), lambda _: [])
    with pytest.raises(ValueError, match="0 results for 1 items"):
        group.ask(1)


@pytest.mark.parametrize("error", [OperationalError("the connection is lost"), SystemExit()])
def test_a_lost_connection_is_raised_to_all_and_the_lane_goes_on(error: BaseException) -> None:
    failures = [error]

    def act(items: Sequence[int]) -> list[int]:
        if failures:
            raise failures.pop()
        return list(items)

    group: Group[int, int] = Group(Lane("test"), act)
    with pytest.raises(type(error)):
        group.ask(1)
    assert group.ask(2) == 2


def test_a_lane_ends_when_idle_and_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generation.db.groups._IDLE_SECONDS", 0.01)
    lane = Lane("a lane of this test")
    group: Group[int, int] = Group(lane, list)
    for item in range(3):
        assert group.ask(item) == item
        for thread in threading.enumerate():
            if thread.name == "a lane of this test":
                thread.join(10)
                assert not thread.is_alive()


def test_a_cancelled_caller_leaves_the_group_intact() -> None:
    act = Blocking()
    group: Group[int, int] = Group(Lane("test"), act)

    async def scenario() -> int | None:
        cancelled = asyncio.create_task(group.ask_async(1))
        await asyncio.to_thread(act.started.wait, 10)
        other = asyncio.create_task(group.ask_async(2))
        await asyncio.sleep(0)
        cancelled.cancel()
        act.may_go_on.set()
        return await other

    assert event_loop.loop.submit(scenario()).result(20) == 4


def end_together(claims: Sequence[Claim], messages: Sequence[str]) -> list[Any]:
    to = database()
    failures = [
        AttemptFailure(message=message, code="unavailable", retryable=True, provider="clipart") for message in messages
    ]
    ends = [endings.failed(claim, failure) for claim, failure in zip(claims, failures, strict=True)]
    return all_at_once(*(to.end(ending) for ending in ends))


def test_an_end_that_the_database_refuses_fails_alone(alice: User) -> None:
    claims = [claimed(alice) for _ in range(50)]
    messages = ["a fault"] * 50
    messages[7] = "a text with \0, which PostgreSQL refuses"
    results = end_together(claims, messages)
    assert isinstance(results.pop(7), Exception)
    assert results == [True] * 49
    statuses = GenerationRequest.objects.values_list("status", flat=True)
    assert sorted(statuses) == sorted([Status.FAILED] * 49 + [Status.IN_PROGRESS])
    assert StatusChange.objects.filter(to_status=Status.FAILED).count() == 49


def test_ends_of_a_stale_and_a_valid_claim_of_a_request_do_not_mix(alice: User) -> None:
    stale = claimed(alice)
    lifecycle.release(stale)
    valid = lifecycle.claim(stale.request.pk, worker="worker-1")
    assert valid is not None
    assert end_together([stale, valid], ["of the stale claim", "of the valid claim"]) == [False, True]
    stale.request.refresh_from_db()
    assert stale.request.error["message"] == "of the valid claim"


def test_a_request_asked_for_twice_is_claimed_once(alice: User) -> None:
    request, to = queued(alice), database()
    claims = all_at_once(to.claim(request.pk), to.claim(request.pk), to.claim("vga_unknown"))
    assert sum(isinstance(claim, Claim) for claim in claims) == 1
    assert claims[2] is None
    assert GenerationAttempt.objects.count() == 1


def test_a_locked_request_delays_no_other(alice: User) -> None:
    locked, free = queued(alice), queued(alice)
    to = database()

    async def claim_both() -> tuple[Any, Any]:
        waiting = asyncio.create_task(to.claim(locked.pk))
        claim = await to.claim(free.pk)
        is_waiting = not waiting.done()
        await asyncio.to_thread(release.set)
        return claim, is_waiting and await waiting

    release, held = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            GenerationRequest.objects.select_for_update().get(pk=locked.pk)
            held.set()
            release.wait(10)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    first, second = event_loop.loop.submit(claim_both()).result(20)
    holder.join(10)
    assert isinstance(first, Claim)
    assert isinstance(second, Claim)


def test_the_spending_of_an_owner_is_added_up_in_a_group(alice: User, bob: User) -> None:
    claims = [claimed(owner) for owner in (alice, bob, alice)]
    to = database()
    result = {"image_key": "k", "thumbnail_key": "t", "content_type": "image/png", "width": 1, "height": 1}
    ends = [endings.completed(claim, result=result, model="m", cost="0.04") for claim in claims]
    assert all_at_once(*(to.end(ending) for ending in ends)) == [True] * 3
    with connection.cursor() as cursor:
        cursor.execute("SELECT calls, cost FROM generation_spending ORDER BY calls")
        assert [(calls, float(cost)) for calls, cost in cursor.fetchall()] == [(1, 0.04), (2, 0.08)]
