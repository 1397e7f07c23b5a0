"""GET /queue/status: the current state of the queue."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from rest_framework.test import APIClient

from generation import caching
from generation.db import counter_checks
from generation.db.functions import Now
from generation.models import GenerationQueue, GenerationRequest
from generation.reports import statistics
from generation.requests import lifecycle
from generation.requests.representations import timestamp
from generation.states import Status
from tests.api.helpers import PREFIX, answer, assert_error
from tests.support.batches import batch_of
from tests.support.measured import ended, worker
from tests.support.queries import queries_of
from tests.support.requests import back_in_queue, claimed, in_status, queued

QUEUE_STATUS = f"{PREFIX}/queue/status"
EMPTY = {
    "queueLength": 0,
    "activeRequests": 0,
    "averageWaitTime": 0,
    "owners": 0,
    "queuedByPriority": {"urgent": 0, "high": 0, "normal": 0, "low": 0},
    "systemStatus": "healthy",
    "oldestQueuedAt": None,
    "workers": 0,
    "capacity": 0,
    "paused": [],
    "waitP50": {"urgent": None, "high": None, "normal": None, "low": None},
    "waitP90": {"urgent": None, "high": None, "normal": None, "low": None},
}


def _status(client: APIClient) -> dict[str, Any]:
    caching.clear_all()
    return answer(client.get(QUEUE_STATUS))


def test_an_empty_database_gives_an_empty_queue_with_all_keys(api: APIClient) -> None:
    found = _status(api)
    assert found == EMPTY
    assert list(found["queuedByPriority"]) == ["urgent", "high", "normal", "low"]


def test_queued_and_running_requests_are_counted(api: APIClient, alice: User, charlie: User) -> None:
    for status in (Status.FAILED, Status.CANCELLED):
        in_status(charlie, status)
    for priority, count in {"urgent": 1, "high": 2, "normal": 4, "low": 3}.items():
        for _ in range(count):
            queued(charlie, priority=priority)
    claimed(alice, priority="urgent")
    worker("one", slots=5)
    worker("two", slots=3)
    worker("silent", slots=7, seen=timedelta(seconds=31))
    found = _status(api)
    assert found["queuedByPriority"] == {"urgent": 1, "high": 2, "normal": 4, "low": 3}
    assert (found["queueLength"], found["activeRequests"]) == (10, 1)
    assert (found["workers"], found["capacity"]) == (2, 8)


def test_a_retry_counts_as_low_priority(api: APIClient, alice: User) -> None:
    back_in_queue(claimed(alice, priority="urgent"))
    assert _status(api)["queuedByPriority"] == {"urgent": 0, "high": 0, "normal": 0, "low": 1}


def test_requests_held_back_by_a_batch_limit_are_in_the_queue(api: APIClient, alice: User) -> None:
    batch_of(alice, 5, limit=1)
    assert _status(api)["queueLength"] == 5


def test_the_oldest_is_that_of_all_priorities(api: APIClient, alice: User) -> None:
    queued(alice, priority="urgent")
    old = queued(alice, priority="low")
    GenerationQueue.objects.filter(pk=old.pk).update(queued_at=Now() - timedelta(hours=1))
    assert _status(api)["oldestQueuedAt"] == timestamp(GenerationQueue.objects.get(pk=old.pk).queued_at)


# --- Average wait -----------------------------------------------------------------------------------------------------


def test_the_average_wait_is_of_first_starts_in_two_hours(api: APIClient, alice: User) -> None:
    ended(alice, lasted=5, waited=10)
    ended(alice, lasted=5, waited=20.5, failed=True)
    ended(alice, lasted=5, waited=999, ago=timedelta(hours=2))
    queued(alice)
    assert _status(api)["averageWaitTime"] == 15.25


def test_a_request_that_only_started_counts(api: APIClient, alice: User) -> None:
    claimed(alice)
    GenerationRequest.objects.update(created_at=Now() - timedelta(seconds=40))
    counter_checks.differences(fix=True)
    assert _status(api)["averageWaitTime"] == pytest.approx(40, abs=0.5)


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_later_start_of_the_same_request_does_not_count(api: APIClient, alice: User, *, by_hand: bool) -> None:
    if by_hand:
        request = ended(alice, lasted=5, waited=10, failed=True)
        assert lifecycle.retry(request.pk, actor=alice)
    else:
        claim = claimed(alice)
        request = claim.request
        GenerationRequest.objects.update(created_at=F("started_at") - timedelta(seconds=10))
        counter_checks.differences(fix=True)
        back_in_queue(claim)
    assert lifecycle.claim(request.pk, worker="worker-2")
    assert _status(api)["averageWaitTime"] == 10


# --- Health -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure_rate", "length", "expected"),
    [
        (0, 0, "healthy"),
        (0, 100, "healthy"),
        (0, 101, "warning"),
        (0.2, 100, "healthy"),
        (0.201, 0, "warning"),
        (0.5, 101, "warning"),
        (0.501, 0, "critical"),
        (1, 1_000, "critical"),
    ],
)
def test_health_follows_the_guides_limits(failure_rate: float, length: int, expected: str) -> None:
    assert statistics.health(failure_rate, length) == expected


@pytest.mark.parametrize(
    ("failed", "others", "expected"),
    [(0, 3, "healthy"), (1, 4, "healthy"), (1, 3, "warning"), (1, 1, "warning"), (2, 1, "critical")],
)
def test_the_status_is_that_of_the_last_day(
    api: APIClient, alice: User, failed: int, others: int, expected: str
) -> None:
    for number in range(failed + others):
        ended(alice, lasted=1, failed=number < failed)
    assert _status(api)["systemStatus"] == expected


def test_a_queue_of_more_than_a_hundred_is_a_warning(api: APIClient, alice: User) -> None:
    batch_of(alice, 100)
    assert _status(api)["systemStatus"] == "healthy"
    queued(alice)
    assert _status(api)["systemStatus"] == "warning"


# --- Permissions and number of queries --------------------------------------------------------------------------------


def test_all_users_see_the_same_queue(api: APIClient, stranger: APIClient, staff: APIClient, alice: User) -> None:
    queued(alice)
    claimed(alice)
    assert _status(api) == _status(stranger) == _status(staff)


@pytest.mark.parametrize("at", [QUEUE_STATUS, f"{PREFIX}/metrics"])
def test_an_anonymous_call_is_rejected(anonymous: APIClient, at: str) -> None:
    assert_error(anonymous.get(at), 401, "not_authenticated")


@pytest.mark.parametrize("at", [QUEUE_STATUS, f"{PREFIX}/metrics"])
def test_the_number_of_queries_does_not_depend_on_the_data(api: APIClient, alice: User, at: str) -> None:
    def cost() -> int:
        caching.clear_all()
        caching.clear_all()
        return len(queries_of(lambda: answer(api.get(at))))

    worker("one", slots=5)
    empty = cost()
    batch_of(alice, 60, priorities=["urgent", "low"])
    for status in (Status.FAILED, Status.CANCELLED, Status.IN_PROGRESS):
        in_status(alice, status)
    ended(alice, lasted=3)
    assert cost() == empty <= 12
