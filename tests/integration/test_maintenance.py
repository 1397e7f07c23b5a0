"""What the dispatcher repairs, row by row: it changes broken rows only."""

from __future__ import annotations

import io
import re
import threading
import time
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import OperationalError, connection, transaction

from generation import event_loop
from generation.db.functions import Now
from generation.models import GenerationAttempt, GenerationQueue, GenerationRequest, StatusChange, WorkerProcess
from generation.requests import lifecycle, maintenance, permits
from generation.requests.claims import Claim
from generation.states import ProcessKind, Status
from tests.support.batches import batch_of
from tests.support.races import at_once
from tests.support.requests import FAILURE, back_in_queue, claimed, expire, in_status, queued
from tests.support.stack import wait_until
from workers import dispatcher
from workers.database import Database

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]


def call(claim: Claim, *, billable: bool = True) -> None:
    """The provider was called."""
    deadline = timedelta(minutes=3)
    permits.begin_call(claim, provider="openai", model="m", prompt="p", deadline=deadline, billable=billable)


@pytest.mark.parametrize(
    "fault",
    ["SET LOCAL idle_in_transaction_session_timeout = '20ms'", "SET LOCAL transaction_read_only = on"],
    ids=["idle in transaction", "read-only"],
)
def test_an_end_that_the_database_refuses_for_now_is_written_again(alice: User, fault: str) -> None:
    claim = claimed(alice)
    faults = [fault]

    def fail() -> bool:
        with transaction.atomic():
            if faults:
                with connection.cursor() as cursor:
                    cursor.execute(faults.pop())
                time.sleep(0.1)  # as long as the fault takes to come about
            return lifecycle.fail(claim, FAILURE)

    database = Database(worker="worker-1", call_deadline=timedelta(minutes=1))
    assert event_loop.loop.submit(database.run(fail)).result(20)
    claim.request.refresh_from_db()
    assert claim.request.status == Status.FAILED


def test_a_valid_lease_is_not_rescued(alice: User) -> None:
    claim = claimed(alice)
    assert maintenance.rescue_expired() == 0
    claim.request.refresh_from_db()
    assert claim.request.status == Status.IN_PROGRESS


def test_a_request_of_a_lost_worker_is_requeued_and_the_attempt_counts(alice: User) -> None:
    lost, held = claimed(alice), claimed(alice)
    expire(lost)
    assert maintenance.rescue_expired() == 1
    lost.request.refresh_from_db()
    assert (lost.request.status, lost.request.attempts) == (Status.QUEUED, 1)
    assert GenerationQueue.objects.get(pk=lost.request.pk).priority_weight == 1
    attempt = GenerationAttempt.objects.get(request=lost.request)
    assert (attempt.outcome, attempt.error_code) == ("failed", "worker_lost")
    change = StatusChange.objects.get(request=lost.request, reason="lease_expired")
    assert (change.from_status, change.to_status) == ("in-progress", "queued")
    held.request.refresh_from_db()
    assert held.request.status == Status.IN_PROGRESS


def test_the_last_attempt_of_a_lost_worker_fails_the_request(alice: User) -> None:
    claim = claimed(alice, max_attempts=1)
    expire(claim)
    assert maintenance.rescue_expired() == 1
    claim.request.refresh_from_db()
    assert (claim.request.status, claim.request.error["code"]) == (Status.FAILED, "worker_lost")


def test_a_paid_call_without_an_answer_is_repeated_once_at_most(alice: User) -> None:
    first = claimed(alice, max_attempts=10)
    call(first)
    expire(first)
    maintenance.rescue_expired()
    second = lifecycle.claim(first.request.pk, worker="worker-2")
    assert second is not None
    call(second)
    expire(second)
    maintenance.rescue_expired()
    second.request.refresh_from_db()
    assert (second.request.status, second.request.error["code"]) == (Status.FAILED, "unknown_outcome")


def test_a_free_call_is_repeated_as_often_as_attempts_allow(alice: User) -> None:
    claim: Claim | None = claimed(alice, max_attempts=3)
    for attempt in (1, 2, 3):
        assert claim is not None
        assert claim.request.attempts == attempt
        call(claim, billable=False)
        expire(claim)
        maintenance.rescue_expired()
        request_id = claim.request.pk
        claim = lifecycle.claim(request_id, worker="worker-1")
    assert GenerationRequest.objects.get(pk=request_id).error["code"] == "worker_lost"


def test_a_call_of_a_lost_worker_keeps_its_place_until_its_deadline(alice: User) -> None:
    claim = claimed(alice)
    call(claim)
    expire(claim)
    maintenance.rescue_expired()
    assert GenerationAttempt.objects.filter(request=claim.request, call_deadline_at__gt=Now()).exists()


def test_two_dispatchers_rescue_a_request_once(alice: User) -> None:
    claims = [claimed(alice) for _ in range(20)]
    expire(*claims)
    at_once(lambda: bool(maintenance.rescue_expired()), lambda: bool(maintenance.rescue_expired()))
    for claim in claims:
        claim.request.refresh_from_db()
        assert (claim.request.status, claim.request.sequence) == (Status.QUEUED, 3)


@pytest.mark.parametrize(("weight", "after"), [(1, 10), (10, 100), (100, 1000)])
def test_a_request_is_promoted_one_step_after_ten_minutes(alice: User, weight: int, after: int) -> None:
    priority = {1: "low", 10: "normal", 100: "high"}[weight]
    long, short = queued(alice, priority=priority), queued(alice, priority=priority)
    GenerationQueue.objects.filter(pk=long.pk).update(weight_since=Now() - timedelta(minutes=10, seconds=1))
    done = dispatcher.run_once()
    assert (done["promoted"], done["sent"]) == (1, 1)
    assert GenerationQueue.objects.get(pk=long.pk).priority_weight == after
    assert GenerationQueue.objects.get(pk=short.pk).priority_weight == weight
    assert dispatcher.run_once()["promoted"] == 0


def test_the_most_pressing_has_nowhere_to_move_up_to(alice: User) -> None:
    request = queued(alice, priority="urgent")
    GenerationQueue.objects.update(weight_since=Now() - timedelta(hours=1))
    assert maintenance.promote_long_waiting() == 0
    assert GenerationQueue.objects.get(pk=request.pk).priority_weight == 1000


def test_a_retry_waits_for_its_time_before_its_waiting_counts(alice: User) -> None:
    claim = claimed(alice)
    back_in_queue(claim, delay=timedelta(minutes=5))
    entry = GenerationQueue.objects.get(pk=claim.request.pk)
    assert entry.weight_since == entry.available_at


def test_a_queued_request_without_a_queue_row_gets_one(alice: User) -> None:
    lost, whole = queued(alice, priority="high"), queued(alice)
    GenerationQueue.objects.filter(pk=lost.pk).delete()
    assert maintenance.restore_queue_rows() == 1
    assert GenerationQueue.objects.get(pk=lost.pk).priority_weight == 100
    assert GenerationQueue.objects.filter(pk=whole.pk).count() == 1
    assert maintenance.restore_queue_rows() == 0


def test_processes_that_are_long_gone_are_forgotten(db: None) -> None:
    WorkerProcess.objects.create(name="gone", slots=5, seen_at=Now() - timedelta(hours=2))
    WorkerProcess.objects.create(name="here", slots=5)
    assert maintenance.delete_dead_processes() == 1
    assert WorkerProcess.objects.get().name == "here"


def test_a_pass_over_a_healthy_house_changes_nothing(alice: User) -> None:
    for status in Status:
        in_status(alice, status)
    before = list(GenerationRequest.objects.order_by("pk").values())
    rows = list(GenerationQueue.objects.order_by("pk").values())
    done = dispatcher.run_once()
    assert done.pop("counted") > 0
    assert done.total() == 0
    assert dispatcher.run_once().total() == 0  # what was counted is folded once
    assert list(GenerationRequest.objects.order_by("pk").values()) == before
    assert list(GenerationQueue.objects.order_by("pk").values()) == rows


def test_without_a_broker_the_database_is_still_repaired(alice: User, no_broker: None) -> None:
    claim = claimed(alice)
    expire(claim)
    done = dispatcher.run_once()
    assert (done["rescued"], done["sent"]) == (1, 0)


@pytest.mark.parametrize("step", list(dispatcher.STEPS))
def test_a_step_that_fails_leaves_the_others_their_turn(
    alice: User, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail() -> int:
        raise OperationalError("the connection is gone")

    monkeypatch.setitem(dispatcher.STEPS, step, fail)
    claim, waits = claimed(alice), queued(alice, priority="low")
    expire(claim)
    GenerationQueue.objects.filter(pk=waits.pk).update(weight_since=Now() - timedelta(hours=1))
    WorkerProcess.objects.create(name="gone", slots=5, seen_at=Now() - timedelta(hours=2))
    done = dispatcher.run_once()
    nothing = dict.fromkeys(dispatcher.STEPS, 0)
    everything = nothing | {"rescued": 1, "promoted": 1, "forgotten": 1, "sent": 2}
    if step in {"rescued", "promoted"}:
        everything["sent"] -= 1
    assert (done.pop("counted", 0) > 0) == (step != "counted")
    assert done == {name: count for name, count in everything.items() if name not in {step, "counted"}}


def test_only_a_batch_with_an_unfilled_slot_is_filled(alice: User) -> None:
    (_, waiting), (_, busy) = batch_of(alice, 2, limit=1), batch_of(alice, 2, limit=1)
    GenerationQueue.objects.filter(pk__in=waiting).update(held=True, dispatched_at=None, redispatch_at=None)
    assert dispatcher.run_once()["filled"] == 1
    assert set(GenerationQueue.objects.filter(held=False).values_list("pk", flat=True)) == {waiting[0], busy[0]}
    assert dispatcher.run_once()["filled"] == 0


def test_one_pass_by_hand_says_what_it_did(alice: User) -> None:
    expire(claimed(alice))
    out = io.StringIO()
    call_command("dispatch", "--once", stdout=out)
    told, _, counted = out.getvalue().strip().rpartition(", corrected 0, counted ")
    first = "rescued 1, promoted 0, unnumbered 0, lost 0, overdue 0, unparked 0"
    assert told == f"{first}, filled 0, bulk 0, forgotten 0, sent 1"
    assert re.fullmatch(r"[1-9]\d*, measured 0", counted)


def test_a_dispatcher_reports_itself_and_works_until_it_is_told_to_stop(alice: User) -> None:
    claim = claimed(alice)
    expire(claim)
    stopping = threading.Event()

    def run() -> None:
        dispatcher.run_forever(stopping)
        connection.close()

    process = threading.Thread(target=run, daemon=True)
    process.start()
    wait_until(lambda: GenerationQueue.objects.filter(pk=claim.request.pk).exists(), what="a pass")
    stopping.set()
    process.join(10)
    assert not process.is_alive()
    assert WorkerProcess.objects.get().kind == ProcessKind.DISPATCHER
