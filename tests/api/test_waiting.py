"""``queuePosition`` and ``estimatedWaitTime``: from queue, measured durations and worker slots."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generation import caching
from generation.db import queries
from generation.models import GenerationQueue, GenerationRequest
from generation.queue import figures
from generation.states import Status
from tests.api.helpers import PREFIX, address, answer, body, post_json
from tests.support.batches import batch_of
from tests.support.measured import ended, worker
from tests.support.queries import queries_of
from tests.support.requests import back_in_queue, claimed, in_status, queued


def _place(client: APIClient, request: GenerationRequest) -> tuple[int, int | None]:
    caching.clear_all()  # submits read the lengths of the queue before they add to them
    shown = answer(client.get(address("status", request.pk)))
    return shown["queuePosition"], shown["estimatedWaitTime"]


# --- The position -----------------------------------------------------------------------------------------------------


def test_the_position_is_by_priority_and_then_by_time(staff: APIClient, alice: User, charlie: User) -> None:
    low = queued(alice, priority="low")
    first, second = queued(alice), queued(charlie)
    urgent, high = queued(charlie, priority="urgent"), queued(alice, priority="high")
    expected = [urgent, high, first, second, low]
    assert [_place(staff, request)[0] for request in expected] == [1, 2, 3, 4, 5]


def test_a_cancelled_request_lets_the_others_move_up(api: APIClient, alice: User) -> None:
    first, second, third = queued(alice), queued(alice), queued(alice)
    answer(api.delete(address("cancel", first.pk)))
    assert [_place(api, request)[0] for request in (second, third)] == [1, 2]


def test_a_retry_is_behind_requests_without_an_attempt(api: APIClient, alice: User) -> None:
    claim = claimed(alice, priority="urgent")
    others = [queued(alice), queued(alice, priority="low")]
    back_in_queue(claim)
    assert [_place(api, request)[0] for request in (*others, claim.request)] == [1, 2, 3]


def test_a_request_held_back_by_its_batch_has_a_position(api: APIClient, alice: User) -> None:
    _, ids = batch_of(alice, 3, limit=1)
    requests = GenerationRequest.objects.in_bulk(ids)
    assert [_place(api, requests[request_id])[0] for request_id in ids] == [1, 2, 3]


@pytest.mark.parametrize("status", [Status.IN_PROGRESS, Status.FAILED, Status.CANCELLED])
def test_a_request_that_is_not_queued_has_no_position(api: APIClient, alice: User, status: Status) -> None:
    queued(alice)
    shown = answer(api.get(address("status", in_status(alice, status).pk)))
    assert {"queuePosition", "estimatedWaitTime"}.isdisjoint(shown)


# --- The estimate -----------------------------------------------------------------------------------------------------


def _estimate(client: APIClient, request: GenerationRequest) -> dict[str, Any]:
    caching.clear_all()
    return answer(client.get(address("status", request.pk)))["estimate"] or {}


def test_without_measurements_a_request_is_assumed_to_take_30_seconds(api: APIClient, alice: User) -> None:
    worker("one", slots=1)
    requests = [queued(alice) for _ in range(4)]
    assert [_place(api, request) for request in requests] == [(1, 30), (2, 60), (3, 90), (4, 120)]
    assert _estimate(api, requests[0]) == {
        "startP50": 0,
        "startP90": 0,
        "doneP50": 30,
        "doneP90": 60,
        "basis": "default",
    }


def test_without_a_worker_there_is_no_estimate(api: APIClient, alice: User) -> None:
    worker("silent", slots=100, seen=timedelta(seconds=31))
    assert _place(api, queued(alice)) == (1, None)
    assert answer(post_json(api, body()))["estimatedWaitTime"] is None


def test_free_slots_start_requests_at_once(api: APIClient, alice: User) -> None:
    worker("one", slots=5)
    worker("two", slots=3)
    requests = [queued(alice) for _ in range(10)]
    assert _place(api, requests[4]) == (5, 30)
    assert _place(api, requests[8]) == (9, 34)  # the first slot is free again after 30 s / 8
    assert _place(api, requests[9]) == (10, 38)


def test_running_requests_occupy_slots(api: APIClient, alice: User) -> None:
    worker("one", slots=2)
    claimed(alice), claimed(alice)
    assert _place(api, queued(alice)) == (1, 45)


def test_durations_are_those_of_the_type_once_there_are_enough(
    api: APIClient, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "ENOUGH", 2)
    worker("one", slots=5)
    for seconds in (5, 15):
        ended(alice, lasted=seconds, type="coloring-page")
    ended(alice, lasted=40, type="cover")
    page, cover = queued(alice, type="coloring-page"), queued(alice, type="cover")
    assert (_estimate(api, page)["doneP50"], _estimate(api, page)["basis"]) == (10, "measured")
    assert (_estimate(api, cover)["doneP50"], _estimate(api, cover)["basis"]) == (15, "default")  # of all three


def test_a_failed_attempt_occupies_a_slot_but_is_no_duration(api: APIClient, alice: User) -> None:
    worker("one", slots=1)
    ended(alice, lasted=10)
    ended(alice, lasted=50, failed=True)
    requests = [queued(alice), queued(alice)]
    assert [_place(api, request) for request in requests] == [(1, 10), (2, 40)]


@pytest.mark.parametrize("lasted", [0, 0.4])
def test_an_estimate_is_at_least_one_second(api: APIClient, alice: User, lasted: float) -> None:
    worker("one", slots=1)
    ended(alice, lasted=lasted)
    assert _place(api, queued(alice)) == (1, 1)


def test_a_submit_and_its_status_have_the_same_estimate(api: APIClient, alice: User) -> None:
    worker("one", slots=1)
    ended(alice, lasted=12)
    queued(alice, priority="high")
    accepted = answer(post_json(api, body()))
    assert accepted["estimatedWaitTime"] == 24
    assert _place(api, GenerationRequest.objects.get(pk=accepted["requestId"])) == (2, 24)


def test_the_wait_of_a_new_request_is_shown_by_priority(api: APIClient, alice: User) -> None:
    worker("one", slots=1)
    for priority in ("urgent", "normal", "normal"):
        queued(alice, priority=priority)
    caching.clear_all()
    found = answer(api.get(f"{PREFIX}/queue/status"))
    assert found["waitP50"] == {"urgent": 30, "high": 30, "normal": 90, "low": 90}
    assert all(found["waitP90"][priority] > wait for priority, wait in found["waitP50"].items())


# --- A long queue -----------------------------------------------------------------------------------------------------


HOUR = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _queued_at(alice: User, *seconds: float, priority: str = "normal") -> list[GenerationRequest]:
    """Return requests that were queued these numbers of seconds after a full minute."""
    requests = [queued(alice, priority=priority) for _ in seconds]
    for request, after in zip(requests, seconds, strict=True):
        GenerationQueue.objects.filter(pk=request.pk).update(queued_at=HOUR + timedelta(seconds=after))
    return requests


@pytest.mark.parametrize(
    ("seconds", "most_wrong"),
    [(range(0, 600, 60), 0), (range(0, 60, 6), 0), ([0, 20, 40, 600, 1_200, 7_200, 7_230, 14_000, 90_000, 90_005], 3)],
    ids=["at even intervals", "all in one minute", "with gaps"],
)
def test_a_position_past_the_counted_rows_is_estimated_by_minutes(
    api: APIClient,
    alice: User,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    seconds: Sequence[float],
    most_wrong: int,
) -> None:
    """Rows of a higher weight are ahead, and those of a lower weight do not count."""
    settings.FAIRNESS = "off"
    monkeypatch.setattr(queries, "COUNTED", 3)
    requests = _queued_at(alice, *seconds)
    _queued_at(alice, 700, 710, priority="urgent")
    _queued_at(alice, 0, 0, 0, priority="low")
    places = [_place(api, request)[0] for request in requests]
    assert places == sorted(places)
    assert all(abs(place - 2 - actual) <= most_wrong for actual, place in enumerate(places, start=1)), places


def test_the_newest_request_is_last(api: APIClient, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "COUNTED", 3)
    worker("one", slots=1)
    _queued_at(alice, *range(40))
    caching.clear_all()
    accepted = answer(post_json(api, body()))
    assert accepted["estimatedWaitTime"] in {20 * 60, 21 * 60}  # 1,200 or 1,230 s: whether it counts itself depends


def test_the_queries_of_a_position_do_not_grow_with_the_queue(api: APIClient, alice: User) -> None:
    first = queued(alice)

    def cost(request: GenerationRequest) -> int:
        caching.clear_all()
        caching.clear_all()
        return len(queries_of(lambda: _place(api, request)))

    alone = cost(first)
    batch_of(alice, 60)
    assert cost(queued(alice)) == alone


def test_the_data_for_estimates_is_cached(api: APIClient, alice: User, django_assert_num_queries: Any) -> None:
    request = queued(alice)
    _place(api, request)
    with django_assert_num_queries(1):  # the request with the rows ahead
        answer(api.get(address("status", request.pk)))
