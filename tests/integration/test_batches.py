"""The limit of a batch: held at the claim whatever happens at the same moment, and its places filled again."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Q

from generation.db.functions import Now
from generation.models import GenerationQueue, GenerationRequest, StatusChange
from generation.queue import run_limits
from generation.requests import lifecycle, permits, services
from generation.requests.claims import Claim
from generation.states import TERMINAL, Status
from tests.support.batches import batch_of, bring_to, running, start
from tests.support.broker import lose_all_messages, messages
from tests.support.races import at_once
from tests.support.requests import FAILURE, RESULT, queued
from workers import dispatcher

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]


def sent_by_dispatcher() -> int:
    """How many messages one pass of the dispatcher is the cause of."""
    done = dispatcher.run_once()
    return done["filled"] + done["sent"]


SENT = Q(held=False)


def _sent() -> list[str]:
    """The requests whose queue rows say that they were sent."""
    return list(GenerationQueue.objects.filter(SENT).order_by("pk").values_list("pk", flat=True))


def _complete(claim: Claim) -> bool:
    return lifecycle.complete(claim, result=RESULT, model="openmoji-17")


def _claims(ids: list[str]) -> list[Callable[[], bool]]:
    return [lambda one=one: lifecycle.claim(one, worker="worker-1") is not None for one in ids]  # type: ignore[misc]


@pytest.fixture(autouse=True)
def _no_hidden_errors(caplog: pytest.LogCaptureFixture) -> Any:
    """What fails after a commit is logged and nothing else."""
    yield
    assert [record.getMessage() for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []


# --- Never more than the limit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3])
def test_of_many_claims_at_once_as_many_win_as_there_are_places(alice: User, limit: int) -> None:
    for _ in range(10):
        batch, ids = batch_of(alice, 8, limit=limit)
        assert at_once(*_claims(ids)).count(True) == limit
        assert running(batch) == limit


def test_a_full_batch_does_not_stand_in_the_way_of_another(alice: User) -> None:
    _, [first, _] = batch_of(alice, 2, limit=1)
    start(first)
    _, [other] = batch_of(alice, 1, limit=1)
    start(other)
    start(queued(alice).pk)
    assert GenerationRequest.objects.filter(status=Status.IN_PROGRESS).count() == 3


def test_a_claim_that_finds_no_place_leaves_the_request_held_and_unsent(alice: User) -> None:
    _, [first, second] = batch_of(alice, 2, limit=1)
    start(first)
    GenerationQueue.objects.update(held=False, dispatched_at=Now(), redispatch_at=Now())
    assert lifecycle.claim(second, worker="worker-2") is None
    row = GenerationQueue.objects.get()
    assert (row.held, row.dispatched_at, row.redispatch_at) == (True, None, None)
    assert sent_by_dispatcher() == 0


def test_concurrent_workers_drain_a_batch_within_its_limit(alice: User) -> None:
    """Each attempt ends in its own way; what is to be tried again comes back into the batch."""
    limit = 3
    batch, ids = batch_of(alice, 18, limit=limit)
    endings: list[Callable[[Claim], Any]] = [
        _complete,
        lambda claim: lifecycle.fail(claim, FAILURE),
        lambda claim: lifecycle.retry_later(claim, FAILURE, delay=timedelta(0)),
        lambda claim: lifecycle.cancel([claim.request.pk], actor=alice),
    ]
    ends = itertools.cycle([*endings, _complete, *reversed(endings)])

    def work() -> bool:
        most = 0
        while left := list(GenerationQueue.objects.filter(SENT).values_list("pk", flat=True)):
            for request_id in left:
                if claim := lifecycle.claim(request_id, worker="worker"):
                    most = max(most, running(batch))
                    # The third failure is one too many.
                    ending = next(ends) if claim.request.attempts < claim.request.max_attempts else _complete
                    assert ending(claim)
        return most <= limit

    # A worker finds nothing sent while the others hold all the places, and leaves; the last one fills the next.
    rounds = 0
    while GenerationQueue.objects.exists() and (rounds := rounds + 1) < 20:
        assert all(at_once(*[work] * 5))
    assert set(GenerationRequest.objects.values_list("status", flat=True)) <= TERMINAL
    for request in GenerationRequest.objects.filter(pk__in=ids):
        sequences = StatusChange.objects.filter(request=request).values_list("sequence", flat=True)
        assert sorted(sequences) == list(range(1, request.sequence + 1))


# --- The next place ---------------------------------------------------------------------------------------------------

ENDINGS: dict[str, Callable[[Claim, User], Any]] = {
    "completed": lambda claim, user: _complete(claim),
    "failed": lambda claim, user: lifecycle.fail(claim, FAILURE),
    "cancelled": lambda claim, user: lifecycle.cancel([claim.request.pk], actor=user),
    "to be tried again": lambda claim, user: lifecycle.retry_later(claim, FAILURE, delay=timedelta(minutes=1)),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS.keys())
def test_one_that_ends_makes_room_for_the_next_and_for_no_more(alice: User, end: Callable[[Claim, User], Any]) -> None:
    _, [first, second, third] = batch_of(alice, 3, limit=1)
    claim = start(first)
    lose_all_messages()
    assert end(claim, alice)
    assert messages() == {"normal": [second]}
    assert _sent() == [second]
    assert GenerationQueue.objects.get(pk=third).held


def test_one_that_is_cancelled_before_it_starts_makes_room_too(alice: User) -> None:
    _, [first, second] = batch_of(alice, 2, limit=1)
    lose_all_messages()
    assert lifecycle.cancel([first], actor=alice)
    assert messages() == {"normal": [second]}


def test_the_most_pressing_goes_first(alice: User) -> None:
    _, ids = batch_of(alice, 4, limit=1, priorities=["low", "urgent", "normal", "urgent"])
    low, urgent, normal, second_urgent = ids
    order = []
    while sent := _sent():
        order += sent
        bring_to(sent[0], Status.COMPLETED, actor=alice)
    assert order == [urgent, second_urgent, normal, low]


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_one_that_is_retried_by_hand_waits_for_a_place(alice: User, status: Status) -> None:
    _, [first, second] = batch_of(alice, 2, limit=1)
    bring_to(first, status, actor=alice)
    running_one = start(second)
    lose_all_messages()
    assert lifecycle.retry(first, actor=alice)
    assert (messages(), _sent()) == ({}, [])
    assert lifecycle.claim(first, worker="worker-2") is None
    assert _complete(running_one)
    assert (messages(), _sent()) == ({"normal": [first]}, [first])


def test_one_that_is_retried_by_hand_with_a_place_free_is_sent_once(alice: User) -> None:
    _, [only] = batch_of(alice, 1, limit=1)
    bring_to(only, Status.FAILED, actor=alice)
    lose_all_messages()
    assert lifecycle.retry(only, actor=alice)
    assert messages() == {"normal": [only]}
    assert sent_by_dispatcher() == 0


def test_a_retry_that_is_due_is_sent_when_its_batch_has_a_place(alice: User) -> None:
    _, [first, second] = batch_of(alice, 2, limit=1)
    assert lifecycle.retry_later(start(first), FAILURE, delay=timedelta(minutes=1))
    other = start(second)
    GenerationQueue.objects.filter(pk=first).update(available_at=Now())
    lose_all_messages()
    assert sent_by_dispatcher() == 0
    assert _complete(other)
    assert messages() == {"low": [first]}


# --- What the dispatcher makes good -----------------------------------------------------------------------------------


def _as_after_a_crash(*ids: str) -> None:
    """The commit that freed the places was the last thing that happened."""
    GenerationQueue.objects.filter(pk__in=ids).update(held=True, dispatched_at=None, redispatch_at=None)
    lose_all_messages()


def test_an_unfilled_batch_is_filled(alice: User) -> None:
    _, ids = batch_of(alice, 4, limit=2)
    start(ids[0])
    _as_after_a_crash(*ids)
    assert sent_by_dispatcher() == 1
    assert messages() == {"normal": [ids[1]]}
    assert sent_by_dispatcher() == 0


def test_a_held_request_is_never_sent_by_the_dispatcher(alice: User) -> None:
    batch_of(alice, 5, limit=2)
    for _ in range(3):
        lose_all_messages()
        GenerationQueue.objects.filter(SENT).update(redispatch_at=Now())
        assert sent_by_dispatcher() == 2
    assert len(_sent()) == 2


def test_a_lost_message_of_a_batch_is_resent_without_another_slot(alice: User) -> None:
    _, [first, _] = batch_of(alice, 2, limit=1)
    lose_all_messages()
    GenerationQueue.objects.filter(pk=first).update(redispatch_at=Now())
    assert sent_by_dispatcher() == 1
    assert messages() == {"normal": [first]}


def test_full_batches_do_not_keep_the_dispatcher_from_one_with_a_place(alice: User, settings: Any) -> None:
    settings.DISPATCH_WINDOW = 2
    lonely, ids = batch_of(alice, 2, limit=1)
    for _ in range(6):
        batch_of(alice, 2, limit=1)
    _as_after_a_crash(*ids)
    assert run_limits.BATCH.to_fill(2) == [lonely.pk]
    assert dispatcher.run_once()["filled"] == 1
    assert ids[0] in _sent()


def test_concurrent_fills_of_a_batch_send_one_message_for_each_slot(alice: User) -> None:
    for _ in range(5):
        batch, ids = batch_of(alice, 6, limit=2)
        _as_after_a_crash(*ids)
        at_once(*[lambda: bool(run_limits.BATCH.fill(batch.pk))] * 4)
        assert messages() == {"normal": ids[:2]}


# --- Locks ------------------------------------------------------------------------------------------------------------


def test_a_batch_can_be_given_up_while_it_is_worked_on(alice: User) -> None:
    """Cancels, claims, ends, heartbeats and refills at the same moment: no deadlock, everything ends."""
    for _ in range(30):
        batch, ids = batch_of(alice, 12, limit=6)
        claims = [start(request_id) for request_id in reversed(ids[:4])]
        worked_on = [(claim.request.pk, claim.number) for claim in claims]
        at_once(
            lambda: services.cancel_batch(user=alice, batch=batch) > 0,
            lambda: bool(permits.extend_leases(worked_on, worker="worker-1")),
            lambda: _complete(claims[0]),
            lambda: lifecycle.retry_later(claims[1], FAILURE, delay=timedelta(0)),
            lambda: bool(run_limits.BATCH.fill(batch.pk)),
            *_claims(ids[4:7]),
        )
        services.cancel_batch(user=alice, batch=batch)
        statuses = list(GenerationRequest.objects.filter(batch=batch).values_list("status", flat=True))
        assert set(statuses) <= {Status.CANCELLED, Status.COMPLETED}
        assert statuses.count(Status.CANCELLED) >= 11
        assert not GenerationQueue.objects.exists()


def test_a_refill_does_not_wait_for_what_is_being_cancelled(alice: User) -> None:
    batch, ids = batch_of(alice, 4, limit=2)
    _as_after_a_crash(*ids)
    locked, filled = threading.Event(), threading.Event()

    def hold() -> bool:
        with transaction.atomic():
            list(GenerationQueue.objects.select_for_update().filter(pk=ids[0]))
            locked.set()
            return filled.wait(10)

    def fill() -> bool:
        assert locked.wait(10)
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '1s'")
                return run_limits.BATCH.fill(batch.pk) == 2
        finally:
            filled.set()

    assert at_once(hold, fill) == [True, True]
    assert messages() == {"normal": ids[1:3]}


def test_nothing_of_a_batch_that_is_given_up_starts_afterwards(alice: User) -> None:
    batch, ids = batch_of(alice, 5, limit=2)
    start(ids[0])
    lose_all_messages()
    assert services.cancel_batch(user=alice, batch=batch) == 5
    assert messages() == {}
    assert not any(step() for step in _claims(ids))
    assert sent_by_dispatcher() == 0
