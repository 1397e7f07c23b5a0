"""One writer of status: each outcome, what it leaves behind, and that a step whose guard fails changes nothing."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from generation.db import queries
from generation.db.functions import Now
from generation.models import GenerationAttempt, GenerationQueue, GenerationRequest, Pause, StatusChange
from generation.requests import lifecycle, permits
from generation.requests.claims import Claim, StaleClaimError
from generation.requests.transitions import apply_transition
from generation.states import ACTIVE, PauseScope, Reason, Status, Transition
from tests.support.queries import queries_of
from tests.support.requests import FAILURE, RESULT, back_in_queue, claimed, in_status, queued

pytestmark = pytest.mark.django_db


def history(request: GenerationRequest) -> list[str]:
    """The reasons, in order; fails where a sequence number is missing."""
    changes = list(StatusChange.objects.filter(request=request).order_by("sequence"))
    assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))
    for before, after in pairwise(changes):
        assert after.from_status == before.to_status
    request.refresh_from_db()
    assert (changes[-1].sequence, changes[-1].to_status) == (request.sequence, request.status)
    return [change.reason for change in changes]


def allowed(claim: Claim, **more: Any) -> bool:
    values: dict[str, Any] = {"provider": "clipart", "model": "", "prompt": "late", **more}
    try:
        return permits.begin_call(claim, deadline=timedelta(minutes=1), **values).granted
    except StaleClaimError:
        return False


def in_ledger(request: GenerationRequest) -> bool:
    return GenerationQueue.objects.filter(pk=request.pk).exists()


def test_a_submitted_request_has_a_queue_row_and_a_status_change(alice: User) -> None:
    request = queued(alice, priority="high")
    assert history(request) == ["submitted"]
    entry = GenerationQueue.objects.get(pk=request.pk)
    assert (entry.priority_weight, entry.dispatch_count) == (100, 1)
    assert entry.redispatch_at is not None
    assert StatusChange.objects.get(request=request).actor == alice


def test_a_claim_deletes_the_queue_row_and_opens_an_attempt(alice: User) -> None:
    claim = claimed(alice, worker="worker-7")
    request = claim.request
    assert history(request) == ["submitted", "claimed"]
    assert not in_ledger(request)
    assert (request.claims, request.attempts, request.worker) == (1, 1, "worker-7")
    assert GenerationRequest.objects.filter(
        pk=request.pk, lease_expires_at__gt=Now() + timedelta(seconds=25), started_at__lte=Now()
    ).exists()
    attempt = GenerationAttempt.objects.get(request=request)
    assert (attempt.claim, attempt.number, attempt.outcome) == (1, 1, "running")


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("empty_queues")
@pytest.mark.parametrize("paused", ["", "urgent"])
def test_a_claim_is_one_statement_whether_or_not_anything_is_paused(alice: User, paused: str) -> None:
    """With what follows a commit. A statement outside of a transaction is one by itself."""
    request = queued(alice, priority="normal")
    if paused:
        Pause.objects.create(scope=PauseScope.PRIORITY, value=paused)

    def claim() -> None:
        assert lifecycle.claim(request.pk, worker="worker-1")

    with CaptureQueriesContext(connection) as recorded:
        assert queries_of(claim) == [queries.CLAIM]
    assert [query["sql"] for query in recorded if query["sql"] in {"BEGIN", "COMMIT"}] == []
    assert history(request) == ["submitted", "claimed"]
    assert not in_ledger(request)
    assert GenerationAttempt.objects.filter(request=request, outcome="running").exists()


@pytest.mark.parametrize("status", [status for status in Status if status != Status.QUEUED])
def test_a_request_that_is_not_queued_cannot_be_claimed(alice: User, status: Status) -> None:
    request = in_status(alice, status)
    assert lifecycle.claim(request.pk, worker="late") is None


def test_an_unknown_id_cannot_be_claimed(db: None) -> None:
    assert lifecycle.claim("vga_0000000000_nobodyhasit", worker="worker-1") is None


def test_a_retry_cannot_be_claimed_before_it_is_due(alice: User) -> None:
    claim = claimed(alice)
    back_in_queue(claim, delay=timedelta(minutes=5))
    assert lifecycle.claim(claim.request.pk, worker="early") is None
    GenerationQueue.objects.filter(pk=claim.request.pk).update(available_at=Now())
    assert lifecycle.claim(claim.request.pk, worker="in-time") is not None


def test_a_retry_waits_behind_what_had_no_try_and_keeps_its_history(alice: User) -> None:
    claim = claimed(alice, priority="urgent")
    back_in_queue(claim, delay=timedelta(seconds=10))
    entry = GenerationQueue.objects.get(pk=claim.request.pk)
    assert (entry.priority_weight, entry.dispatched_at, entry.redispatch_at) == (1, None, None)
    assert history(claim.request) == ["submitted", "claimed", "retry"]
    assert claim.request.started_at is None
    attempt = GenerationAttempt.objects.get(request=claim.request)
    assert (attempt.outcome, attempt.error_code, attempt.error_message) == ("failed", "unavailable", FAILURE.message)
    assert attempt.finished_at is not None


def test_the_second_claim_has_a_number_of_its_own(alice: User) -> None:
    first = claimed(alice)
    back_in_queue(first)
    second = lifecycle.claim(first.request.pk, worker="worker-2")
    assert second is not None
    assert (second.number, second.request.attempts) == (2, 2)


def test_a_completed_request_has_its_result_and_no_lease(alice: User) -> None:
    claim = claimed(alice)
    assert lifecycle.complete(claim, result=RESULT, model="openmoji-17", provider_request_id="req-9")
    request = claim.request
    assert history(request) == ["submitted", "claimed", "completed"]
    assert request.result == RESULT
    assert (request.lease_expires_at, request.worker, request.error) == (None, "", None)
    attempt = GenerationAttempt.objects.get(request=request)
    assert (attempt.outcome, attempt.model, attempt.provider_request_id) == ("succeeded", "openmoji-17", "req-9")


def test_a_failed_request_says_why(alice: User) -> None:
    claim = claimed(alice)
    assert lifecycle.fail(claim, FAILURE)
    assert history(claim.request) == ["submitted", "claimed", "failed"]
    assert claim.request.error == {
        "message": "The provider is away",
        "code": "unavailable",
        "retryable": True,
        "provider": "clipart",
        "stage": None,
        "category": None,
    }
    assert StatusChange.objects.get(request=claim.request, reason="failed").error_code == "unavailable"


@pytest.mark.parametrize("status", [Status.QUEUED, Status.IN_PROGRESS])
def test_an_active_request_can_be_cancelled_once(alice: User, bob: User, status: Status) -> None:
    request = in_status(alice, status)
    assert lifecycle.cancel([request.pk], actor=bob)
    assert history(request)[-1] == "cancelled"
    assert not in_ledger(request)
    assert StatusChange.objects.get(request=request, reason="cancelled").actor == bob
    assert not GenerationAttempt.objects.filter(request=request, outcome="running").exists()
    assert not lifecycle.cancel([request.pk], actor=alice)


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELLED])
def test_an_ended_request_cannot_be_cancelled(alice: User, status: Status) -> None:
    request = in_status(alice, status)
    before = history(request)
    assert not lifecycle.cancel([request.pk], actor=alice)
    assert history(request) == before


def test_a_worker_whose_request_was_cancelled_changes_nothing(alice: User) -> None:
    claim = claimed(alice)
    lifecycle.cancel([claim.request.pk], actor=alice)
    before = history(claim.request)
    assert not allowed(claim)
    assert not lifecycle.complete(claim, result=RESULT, model="")
    assert not lifecycle.fail(claim, FAILURE)
    assert not lifecycle.retry_later(claim, FAILURE, delay=timedelta(0))
    assert history(claim.request) == before
    assert not in_ledger(claim.request)


def test_a_worker_with_a_stale_claim_changes_nothing(alice: User) -> None:
    late = claimed(alice)
    back_in_queue(late)
    present = lifecycle.claim(late.request.pk, worker="worker-2")
    assert present is not None
    before = history(late.request)
    assert not allowed(late)
    assert not lifecycle.complete(late, result=RESULT, model="")
    assert not lifecycle.fail(late, FAILURE)
    assert not lifecycle.retry_later(late, FAILURE, delay=timedelta(0))
    assert history(late.request) == before
    assert lifecycle.complete(present, result=RESULT, model="openmoji-17")


def test_the_sent_prompt_is_stored_with_the_attempt(alice: User) -> None:
    claim = claimed(alice)
    assert allowed(claim, model="openmoji-17", prompt="the very words")
    attempt = GenerationAttempt.objects.get(request=claim.request)
    assert (attempt.provider, attempt.model, attempt.prompt) == ("clipart", "openmoji-17", "the very words")


def test_a_heartbeat_extends_only_the_leases_that_this_worker_holds(alice: User) -> None:
    mine, lost, others = claimed(alice), claimed(alice), claimed(alice, worker="worker-2")
    lifecycle.cancel([lost.request.pk], actor=alice)
    GenerationRequest.objects.filter(status=Status.IN_PROGRESS).update(lease_expires_at=Now())
    keys = [(claim.request.pk, claim.number) for claim in (mine, lost, others)]
    assert permits.extend_leases(keys, worker="worker-1") == {(mine.request.pk, 1)}
    held = GenerationRequest.objects.filter(lease_expires_at__gt=Now() + timedelta(seconds=25))
    assert [request.pk for request in held] == [mine.request.pk]


def test_a_step_that_is_not_in_the_table_is_refused(alice: User) -> None:
    request = queued(alice)
    with pytest.raises(ValueError, match="there is no transition"):
        apply_transition([request.pk], Transition(Status.QUEUED, Status.COMPLETED, Reason.COMPLETED))


@pytest.mark.parametrize("status", list(Status))
def test_a_queue_row_exists_exactly_while_the_request_is_queued(alice: User, status: Status) -> None:
    assert in_ledger(in_status(alice, status)) == (status == Status.QUEUED)


@pytest.mark.parametrize("status", list(Status))
def test_a_request_has_an_end_exactly_when_it_is_not_active(alice: User, status: Status) -> None:
    assert (in_status(alice, status).completed_at is None) == (status in ACTIVE)


def test_first_come_first_served_by_the_clock_of_the_database(alice: User) -> None:
    ids = [queued(alice).pk for _ in range(5)]
    entries = GenerationQueue.objects.order_by("-priority_weight", "queued_at", "pk")
    assert [entry.pk for entry in entries] == ids
    assert not GenerationQueue.objects.exclude(queued_at=F("available_at")).exists()
