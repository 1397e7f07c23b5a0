"""DELETE /cancel: which requests can be cancelled, by which users, and the resulting state."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generation.models import GenerationAttempt, GenerationQueue, StatusChange
from generation.requests import lifecycle
from generation.states import ACTIVE, TERMINAL, Status
from tests.api.helpers import UNKNOWN_ID, address, assert_error, completed
from tests.support.requests import RESULT, back_in_queue, claimed, in_status, queued

GONE = {"error": "Request not found or cannot be cancelled", "code": "not_found"}


@pytest.mark.parametrize("status", sorted(ACTIVE))
def test_an_active_request_is_cancelled_at_once(api: APIClient, alice: User, status: Status) -> None:
    request = in_status(alice, status)
    response = api.delete(address("cancel", request.pk))
    assert response.status_code == 200
    assert response.json() == {"success": True, "message": "Request cancelled successfully"}
    assert api.get(address("status", request.pk)).json()["status"] == "cancelled"
    assert not GenerationQueue.objects.exists()
    assert StatusChange.objects.last().actor == alice  # type: ignore[union-attr]


def test_a_request_that_waits_for_a_retry_is_cancelled(api: APIClient, alice: User) -> None:
    claim = claimed(alice)
    back_in_queue(claim)
    assert api.delete(address("cancel", claim.request.pk)).status_code == 200
    assert not GenerationQueue.objects.exists()


def test_a_result_after_the_cancel_is_discarded(api: APIClient, alice: User) -> None:
    claim = claimed(alice)
    assert api.delete(address("cancel", claim.request.pk)).status_code == 200
    assert not lifecycle.complete(claim, result=RESULT, model="openmoji-17")
    assert api.get(address("status", claim.request.pk)).json()["result"] is None
    assert GenerationAttempt.objects.get().outcome == "abandoned"


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_an_ended_request_cannot_be_cancelled(api: APIClient, alice: User, status: Status) -> None:
    request = completed(alice) if status == Status.COMPLETED else in_status(alice, status)
    response = api.delete(address("cancel", request.pk))
    assert_error(response, 404)
    assert response.json() == GONE
    assert api.get(address("status", request.pk)).json()["sequence"] == request.sequence


def test_cancelling_an_unknown_request_gives_the_same_error(api: APIClient) -> None:
    assert api.delete(address("cancel", UNKNOWN_ID)).json() == GONE


def test_a_second_cancel_finds_nothing_to_cancel(api: APIClient, alice: User) -> None:
    request = queued(alice)
    assert api.delete(address("cancel", request.pk)).status_code == 200
    assert api.delete(address("cancel", request.pk)).json() == GONE


def test_a_cancel_by_staff_is_recorded_in_the_history(staff: APIClient, alice: User, bob: User) -> None:
    assert staff.delete(address("cancel", queued(alice).pk)).status_code == 200
    assert StatusChange.objects.last().actor == bob  # type: ignore[union-attr]


@pytest.mark.parametrize("data", ["{", "[" * 20_000, "\0"])
def test_a_body_on_a_cancel_is_ignored(api: APIClient, alice: User, data: str) -> None:
    response = api.generic("DELETE", address("cancel", queued(alice).pk), data, content_type="application/json")
    assert response.status_code == 200
