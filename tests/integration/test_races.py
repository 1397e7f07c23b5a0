"""Two writers at the same moment: one wins, and the history stays whole. Real connections, real transactions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from threading import Thread

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

from generation.db import counter_checks
from generation.models import GenerationAttempt, GenerationQueue, GenerationRequest, StatusChange
from generation.requests import lifecycle, permits
from generation.requests.claims import Claim
from generation.states import Status
from tests.support.length import lasting
from tests.support.races import at_once, waits_for_a_lock
from tests.support.requests import FAILURE, RESULT, back_in_queue, claimed, expire, queued
from tests.support.stack import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: Where two may win, the moment has to be met; where one outcome is sure, a few will do.
FEW_ROUNDS = 40
ROUNDS = int(lasting(200, full=500))


def assert_whole(request_id: str) -> GenerationRequest:
    request = GenerationRequest.objects.get(pk=request_id)
    sequences = StatusChange.objects.filter(request=request).order_by("sequence").values_list("sequence", flat=True)
    assert list(sequences) == list(range(1, request.sequence + 1))
    assert GenerationQueue.objects.filter(pk=request_id).exists() == (request.status == Status.QUEUED)
    running = GenerationAttempt.objects.filter(request=request, outcome="running").exists()
    assert running == (request.status == Status.IN_PROGRESS)
    return request


def test_one_of_four_workers_gets_the_request(alice: User) -> None:
    for _ in range(FEW_ROUNDS):
        request_id = queued(alice).pk
        got = at_once(*(lambda name=name: lifecycle.claim(request_id, worker=name) is not None for name in "abcd"))
        assert got.count(True) == 1
        assert assert_whole(request_id).claims == 1


def test_a_claim_that_waits_for_a_release_keeps_the_queue_consistent(alice: User) -> None:
    request_id = queued(alice).pk

    def claim_too() -> None:
        lifecycle.claim(request_id, worker="b")
        connection.close()

    second = Thread(target=claim_too)
    with transaction.atomic():
        first = lifecycle.claim(request_id, worker="a")
        assert first is not None
        lifecycle.release(first, delay=timedelta(0))
        second.start()
        second.join(0.5)  # by then it waits for the row
    second.join(20)
    assert_whole(request_id)


def test_a_cancel_and_a_claim_leave_one_story(alice: User) -> None:
    for _ in range(ROUNDS):
        request_id = queued(alice).pk
        _, cancelled = at_once(
            lambda: lifecycle.claim(request_id, worker="a") is not None,
            lambda: bool(lifecycle.cancel([request_id], actor=alice)),
        )
        assert cancelled
        assert assert_whole(request_id).status == Status.CANCELLED


def test_either_the_cancel_or_the_completion_wins(alice: User) -> None:
    for _ in range(ROUNDS):
        claim = claimed(alice)
        completed, cancelled = at_once(
            lambda: lifecycle.complete(claim, result=RESULT, model=""),
            lambda: bool(lifecycle.cancel([claim.request.pk], actor=alice)),
        )
        assert completed != cancelled
        assert assert_whole(claim.request.pk).status == (Status.COMPLETED if completed else Status.CANCELLED)


def test_a_cancel_is_not_lost_between_the_retry_and_the_queue(alice: User) -> None:
    for _ in range(ROUNDS):
        claim = claimed(alice)
        _, cancelled = at_once(
            lambda: lifecycle.retry_later(claim, FAILURE, delay=timedelta(0)),
            lambda: bool(lifecycle.cancel([claim.request.pk], actor=alice)),
        )
        assert cancelled
        assert assert_whole(claim.request.pk).status == Status.CANCELLED


def test_a_late_worker_and_the_present_one_cannot_both_complete(alice: User) -> None:
    for _ in range(FEW_ROUNDS):
        late = claimed(alice)
        back_in_queue(late)
        present = lifecycle.claim(late.request.pk, worker="b")
        assert present is not None
        results = at_once(
            lambda: lifecycle.complete(late, result=RESULT | {"seed": 1}, model=""),
            lambda: lifecycle.complete(present, result=RESULT | {"seed": 2}, model=""),
        )
        assert results == [False, True]
        assert assert_whole(late.request.pk).result["seed"] == 2


def test_a_cancel_is_counted_with_the_provider_that_is_being_called(alice: User) -> None:
    claim = claimed(alice)

    def cancel() -> None:
        lifecycle.cancel([claim.request.pk], actor=alice)
        connection.close()

    other = Thread(target=cancel)
    with transaction.atomic():
        noted = permits.begin_call(claim, provider="openai", model="m", prompt="p", deadline=timedelta(minutes=1))
        assert noted.granted
        other.start()
        wait_until(waits_for_a_lock)
    other.join(20)
    assert counter_checks.differences() == []


def test_two_cancels_are_one(alice: User) -> None:
    for _ in range(FEW_ROUNDS):
        request_id = claimed(alice).request.pk
        assert sorted(at_once(*[lambda: bool(lifecycle.cancel([request_id], actor=alice))] * 2)) == [False, True]
        assert assert_whole(request_id).sequence == 3


@pytest.mark.parametrize(
    "finish",
    [
        pytest.param(lambda claim: lifecycle.complete(claim, result=RESULT, model=""), id="completion"),
        pytest.param(lambda claim: lifecycle.retry_later(claim, FAILURE, delay=timedelta(0)), id="retry"),
        pytest.param(lambda claim: lifecycle.fail(claim, FAILURE), id="failure"),
    ],
)
def test_either_the_rescue_or_the_late_worker_wins(alice: User, finish: Callable[[Claim], bool]) -> None:
    for _ in range(ROUNDS):
        claim = claimed(alice)
        expire(claim)
        finished, rescued = at_once(lambda: finish(claim), lambda: lifecycle.rescue(claim.request.pk) is not None)
        assert finished != rescued
        assert assert_whole(claim.request.pk).sequence == 3


def test_a_rescue_does_not_overlook_a_call_that_is_being_noted(alice: User) -> None:
    """It would take the call for one that was never sent, and book nothing."""
    claim = claimed(alice)
    expire(claim)
    became: list[Status | None] = []

    def rescue() -> None:
        became.append(lifecycle.rescue(claim.request.pk))
        connection.close()

    with transaction.atomic():
        noted = permits.begin_call(
            claim, provider="openai", model="m", prompt="p", deadline=timedelta(minutes=1), estimate=Decimal("0.04")
        )
        assert noted.granted
        other = Thread(target=rescue)
        other.start()
        other.join(10)
        assert became == [None]
    assert lifecycle.rescue(claim.request.pk) == Status.QUEUED
    lost = claim.attempt().get()
    assert (lost.error_code, lost.booked_cost) == ("unknown_outcome", Decimal("0.04"))


def test_a_cancel_and_a_rescue_leave_it_cancelled(alice: User) -> None:
    for _ in range(FEW_ROUNDS):
        claim = claimed(alice)
        expire(claim)
        _, cancelled = at_once(
            lambda: lifecycle.rescue(claim.request.pk) is not None,
            lambda: bool(lifecycle.cancel([claim.request.pk], actor=alice)),
        )
        assert cancelled
        assert assert_whole(claim.request.pk).status == Status.CANCELLED
