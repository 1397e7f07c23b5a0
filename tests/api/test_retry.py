"""POST /retry: queue a failed or cancelled request again."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generation.models import GenerationAttempt, GenerationQueue, GenerationRequest, StatusChange
from generation.requests import lifecycle
from generation.states import Status
from tests.api.helpers import UNKNOWN_ID, address, answer, assert_error, client_for, completed, shown
from tests.support.broker import lose_all_messages, messages
from tests.support.measured import worker
from tests.support.races import at_once
from tests.support.requests import FAILURE, claimed, in_status, queued

RETRYABLE = [Status.FAILED, Status.CANCELLED]


def _retry(client: APIClient, request: GenerationRequest) -> Any:
    return client.post(address("retry", request.pk))


@pytest.mark.parametrize("status", RETRYABLE)
def test_it_is_queued_again_with_all_attempts_available(api: APIClient, alice: User, status: Status) -> None:
    worker("one", slots=1)
    request = in_status(alice, status)
    accepted = answer(_retry(api, request))
    assert accepted == {"success": True, "requestId": request.pk, "status": "queued", "estimatedWaitTime": 30}
    found = answer(api.get(address("status", request.pk)))
    assert (found["status"], found["progress"], found["error"], found["result"]) == ("queued", 0, None, None)
    metadata = found["metadata"]
    assert (metadata["attempts"], metadata["maxAttempts"]) == (0, 3)
    assert (metadata["startedAt"], metadata["completedAt"], metadata["generationTime"]) == (None, None, None)
    assert found["queuePosition"] == 1


def test_it_keeps_its_history_and_its_claim_count(api: APIClient, alice: User) -> None:
    request = in_status(alice, Status.FAILED)
    answer(_retry(api, request))
    again = lifecycle.claim(request.pk, worker="worker-2")
    assert again is not None
    assert (again.request.claims, again.request.attempts) == (2, 1)
    assert list(GenerationAttempt.objects.values_list("claim", "number", "outcome", "error_code")) == [
        (1, 1, "failed", "unavailable"),
        (2, 1, "running", ""),
    ]
    changes = StatusChange.objects.values_list("sequence", "from_status", "to_status", "reason", "actor")
    assert list(changes) == [
        (1, "", "queued", "submitted", alice.pk),
        (2, "queued", "in-progress", "claimed", None),
        (3, "in-progress", "failed", "failed", None),
        (4, "failed", "queued", "retried", alice.pk),
        (5, "queued", "in-progress", "claimed", None),
    ]


def test_all_attempts_are_available_again_after_exhaustion(api: APIClient, alice: User) -> None:
    claim = claimed(alice, max_attempts=1)
    assert lifecycle.fail(claim, FAILURE)
    answer(_retry(api, claim.request))
    again = lifecycle.claim(claim.request.pk, worker="worker-2")
    assert again is not None
    assert lifecycle.fail(again, FAILURE)
    answer(_retry(api, claim.request))


def test_a_worker_with_a_stale_claim_cannot_end_it(api: APIClient, alice: User) -> None:
    late = claimed(alice)
    answer(api.delete(address("cancel", late.request.pk)))
    answer(_retry(api, late.request))
    assert lifecycle.claim(late.request.pk, worker="worker-2")
    assert not lifecycle.fail(late, FAILURE)
    assert answer(api.get(address("status", late.request.pk)))["status"] == "in-progress"


def test_it_waits_at_its_own_priority_behind_older_requests(api: APIClient, alice: User) -> None:
    request = queued(alice, priority="high")
    assert lifecycle.cancel([request.pk], actor=alice)
    queued(alice, priority="high")
    queued(alice, priority="normal")
    answer(_retry(api, request))
    assert GenerationQueue.objects.get(pk=request.pk).priority_weight == 100
    assert answer(api.get(address("status", request.pk)))["queuePosition"] == 2


@pytest.mark.parametrize("status", [Status.QUEUED, Status.IN_PROGRESS, Status.COMPLETED])
def test_other_statuses_cannot_be_retried(api: APIClient, alice: User, status: Status) -> None:
    request = completed(alice) if status == Status.COMPLETED else in_status(alice, status)
    before = shown(api.get(address("status", request.pk)))
    assert_error(_retry(api, request), 409, "not_retryable")
    assert shown(api.get(address("status", request.pk))) == before
    assert StatusChange.objects.count() == request.sequence


def test_a_second_retry_finds_it_queued(api: APIClient, alice: User) -> None:
    request = in_status(alice, Status.FAILED)
    answer(_retry(api, request))
    assert_error(_retry(api, request), 409, "not_retryable")


@pytest.mark.parametrize("status", Status.values)
def test_the_request_of_another_user_looks_like_an_unknown_one(stranger: APIClient, alice: User, status: str) -> None:
    request = completed(alice) if status == Status.COMPLETED else in_status(alice, Status(status))
    theirs = _retry(stranger, request)
    assert_error(theirs, 404, "not_found")
    assert shown(theirs) == shown(stranger.post(address("retry", UNKNOWN_ID)))
    request.refresh_from_db()
    assert request.status == status


def test_a_retry_by_staff_is_recorded_in_the_history(staff: APIClient, alice: User, bob: User) -> None:
    answer(_retry(staff, in_status(alice, Status.FAILED)))
    assert StatusChange.objects.latest("pk").actor == bob


@pytest.mark.parametrize("data", ["{", "[" * 20_000, "\0"])
def test_a_body_on_a_retry_is_ignored(api: APIClient, alice: User, data: str) -> None:
    at = address("retry", in_status(alice, Status.FAILED).pk)
    assert api.generic("POST", at, data, content_type="application/json").status_code == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("empty_queues")
@pytest.mark.parametrize("status", RETRYABLE)
def test_one_message_is_sent_to_the_queue_of_its_priority(alice: User, status: Status) -> None:
    request = in_status(alice, status)
    lose_all_messages()
    answer(_retry(client_for(alice), request))
    assert messages() == {"normal": [request.pk]}
    assert not GenerationQueue.objects.get().held


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("empty_queues")
def test_several_concurrent_retries_are_one(alice: User) -> None:
    for _ in range(10):
        request = in_status(alice, Status.FAILED)
        lose_all_messages()
        won = at_once(*[lambda: _retry(client_for(alice), request).status_code == 200] * 4)
        assert won.count(True) == 1
        assert messages() == {"normal": [request.pk]}
        request.refresh_from_db()
        assert (request.status, request.sequence) == ("queued", 4)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("empty_queues")
def test_a_concurrent_retry_and_cancel_leave_a_consistent_history(alice: User) -> None:
    api = client_for(alice)
    for _ in range(10):
        request = in_status(alice, Status.FAILED)
        retried, cancelled = at_once(
            lambda: _retry(client_for(alice), request).status_code == 200,
            lambda: client_for(alice).delete(address("cancel", request.pk)).status_code == 200,
        )
        assert retried
        expected = "cancelled" if cancelled else "queued"
        assert answer(api.get(address("status", request.pk)))["status"] == expected
        assert GenerationQueue.objects.filter(pk=request.pk).exists() is not cancelled
