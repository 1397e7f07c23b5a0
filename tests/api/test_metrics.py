"""GET /metrics: the last day, the last week by day, and the backlog."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import DurationField, ExpressionWrapper, F, Value
from rest_framework.test import APIClient

from generation import caching
from generation.db import counter_checks
from generation.db.functions import Now
from generation.models import GenerationAttempt, GenerationQueue, GenerationRequest, Spending, StatusChange
from generation.requests import lifecycle
from generation.requests.representations import timestamp
from generation.states import Status
from tests.api.helpers import PREFIX, answer
from tests.support.batches import batch_of
from tests.support.measured import ended
from tests.support.requests import RESULT, claimed, in_status, queued

EMPTY = {
    "requestsTotal": 0,
    "requestsCompleted": 0,
    "requestsFailed": 0,
    "averageGenerationTime": 0,
    "failureRate": 0,
    "queueLength": 0,
    "activeRequests": 0,
    "healthStatus": "healthy",
    "byDay": [],
    "backlog": {priority: {"count": 0, "oldest": None} for priority in ("urgent", "high", "normal", "low")},
}
#: Noon, so that tests give the same days at midnight.
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)


def _metrics(client: APIClient) -> dict[str, Any]:
    caching.clear_all()
    return answer(client.get(f"{PREFIX}/metrics"))


def _as_of(request: GenerationRequest, moment: datetime) -> None:
    """Shift all times of the request, so that it was submitted at ``at``."""
    age = F("created_at") - Value(moment)
    found = GenerationRequest.objects.filter(pk=request.pk)
    [moved] = found.annotate(age=ExpressionWrapper(age, DurationField())).values_list("age", flat=True)
    found.update(**{name: F(name) - moved for name in ("created_at", "started_at", "completed_at")})
    attempts = GenerationAttempt.objects.filter(request=request)
    attempts.update(started_at=F("started_at") - moved, finished_at=F("finished_at") - moved)
    StatusChange.objects.filter(request=request).update(at=F("at") - moved)
    counter_checks.differences(fix=True)


def test_an_empty_database_gives_all_keys(api: APIClient) -> None:
    found = _metrics(api)
    assert found == EMPTY
    assert list(found["backlog"]) == ["urgent", "high", "normal", "low"]


def test_the_last_day_counts_the_requests_of_all_users(api: APIClient, alice: User, charlie: User) -> None:
    for seconds in (2, 5):
        ended(charlie, lasted=seconds)
    ended(alice, lasted=100, failed=True)
    in_status(alice, Status.CANCELLED)
    queued(alice)
    claimed(charlie)
    found = _metrics(api)
    assert {name: found[name] for name in list(EMPTY)[:7]} == {
        "requestsTotal": 6,
        "requestsCompleted": 2,
        "requestsFailed": 1,
        "averageGenerationTime": 3.5,
        "failureRate": 0.1667,
        "queueLength": 1,
        "activeRequests": 1,
    }


@pytest.mark.parametrize(
    ("failed", "others", "expected"),
    [
        (0, 1, "healthy"),
        (1, 4, "healthy"),
        (1, 3, "warning"),
        (1, 1, "warning"),
        (2, 1, "critical"),
        (1, 0, "critical"),
    ],
)
def test_health_follows_the_failure_rate(api: APIClient, alice: User, failed: int, others: int, expected: str) -> None:
    for number in range(failed + others):
        ended(alice, lasted=1, failed=number < failed)
    found = _metrics(api)
    assert found["healthStatus"] == expected
    assert found["failureRate"] == round(failed / (failed + others), 4)


def test_a_long_queue_is_a_warning_unless_worse(api: APIClient, alice: User) -> None:
    batch_of(alice, 100)
    queued(alice)
    assert _metrics(api)["healthStatus"] == "warning"


def test_the_last_day_is_this_hour_and_the_23_before(api: APIClient, alice: User) -> None:
    this_hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    _as_of(ended(alice, lasted=3, failed=True), this_hour - timedelta(hours=23, minutes=1))
    _as_of(ended(alice, lasted=7), this_hour - timedelta(hours=23))
    found = _metrics(api)
    assert (found["requestsTotal"], found["requestsFailed"], found["averageGenerationTime"]) == (1, 0, 7)
    assert sum(day["totalRequests"] for day in found["byDay"]) == 2


def test_an_end_counts_when_it_happens(api: APIClient, alice: User) -> None:
    request = ended(alice, lasted=1, failed=True)
    old = NOON - timedelta(days=3)
    GenerationRequest.objects.filter(pk=request.pk).update(created_at=old)
    StatusChange.objects.filter(request=request, sequence=1).update(at=old)
    counter_checks.differences(fix=True)
    found = _metrics(api)
    assert (found["requestsTotal"], found["requestsFailed"], found["failureRate"]) == (0, 1, 1)
    assert [(day["totalRequests"], day["failedCount"]) for day in found["byDay"]] == [(0, 1), (1, 0)]


def test_the_seven_days_are_newest_first_with_their_own_counts(api: APIClient, alice: User) -> None:
    for days, (seconds, failed) in {1: (4, False), 2: (6, True), 6: (9, False), 8: (99, False)}.items():
        _as_of(ended(alice, lasted=seconds, failed=failed), NOON - timedelta(days=days))
    _as_of(ended(alice, lasted=8), NOON - timedelta(days=1, minutes=5))
    _as_of(in_status(alice, Status.CANCELLED), NOON - timedelta(days=1, minutes=6))
    assert _metrics(api)["byDay"] == [
        _day(1, total=3, average=6, failed=0),
        _day(2, total=1, average=0, failed=1),
        _day(6, total=1, average=9, failed=0),
    ]


def test_the_cost_of_a_day_is_the_sum_over_all_owners(api: APIClient, alice: User, charlie: User) -> None:
    _as_of(ended(alice, lasted=4), NOON - timedelta(days=1))
    for owner, ago, cost in ((alice, 1, "0.03"), (charlie, 1, "1.2001"), (charlie, 3, "2"), (alice, 8, "50")):
        Spending.objects.create(owner=owner, day=(NOON - timedelta(days=ago)).date(), calls=1, cost=cost)
    assert _metrics(api)["byDay"] == [
        _day(1, total=1, average=4, failed=0, cost=1.2301),
        _day(3, total=0, average=0, failed=0, cost=2),
    ]


def _day(ago: int, *, total: int, average: float, failed: int, cost: float = 0) -> dict[str, Any]:
    return {
        "date": (NOON - timedelta(days=ago)).date().isoformat(),
        "totalRequests": total,
        "averageProcessingTime": average,
        "failedCount": failed,
        "cost": cost,
    }


def test_the_backlog_has_the_oldest_of_each_priority(api: APIClient, alice: User) -> None:
    old = queued(alice, priority="high")
    GenerationQueue.objects.update(queued_at=Now() - timedelta(hours=2))
    queued(alice, priority="high")
    low = queued(alice, priority="low")
    found = _metrics(api)["backlog"]
    moments = {row.pk: timestamp(row.queued_at) for row in GenerationQueue.objects.all()}
    assert found == EMPTY["backlog"] | {  # type: ignore[operator]
        "high": {"count": 2, "oldest": moments[old.pk]},
        "low": {"count": 1, "oldest": moments[low.pk]},
    }


def test_a_weight_between_two_priorities_counts_for_the_lower_one(api: APIClient, alice: User) -> None:
    between, old = queued(alice), queued(alice)
    GenerationQueue.objects.filter(pk=between.pk).update(priority_weight=50)
    GenerationQueue.objects.filter(pk=old.pk).update(queued_at=Now() - timedelta(hours=2))
    moment = timestamp(GenerationQueue.objects.get(pk=old.pk).queued_at)
    assert _metrics(api)["backlog"]["normal"] == {"count": 2, "oldest": moment}


def test_a_failure_still_counts_after_a_manual_retry(api: APIClient, alice: User) -> None:
    request = ended(alice, lasted=1, failed=True)
    assert lifecycle.retry(request.pk, actor=alice)
    assert (_metrics(api)["failureRate"], _metrics(api)["requestsTotal"]) == (1, 1)
    claim = lifecycle.claim(request.pk, worker="worker-2")
    assert claim
    assert lifecycle.complete(claim, result=RESULT, model="m")
    assert (_metrics(api)["failureRate"], _metrics(api)["requestsCompleted"]) == (0.5, 1)


def test_all_users_see_the_same_metrics(api: APIClient, stranger: APIClient, alice: User) -> None:
    queued(alice)
    assert _metrics(api) == _metrics(stranger)
