"""``notBefore``: requests that are submitted now and start later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generation.models import GenerationQueue, GenerationRequest
from generation.requests.representations import timestamp
from tests.api.helpers import BATCH, SUBMIT, address, answer, assert_error, body
from tests.support.measured import worker


def in_time(**delay: float) -> datetime:
    return datetime.now(UTC) + timedelta(**delay)


def submit(client: APIClient, not_before: Any) -> Any:
    return client.post(SUBMIT, body(notBefore=not_before), format="json")


def test_a_request_with_a_later_time_is_queued_without_a_position(api: APIClient) -> None:
    worker("one", slots=1)
    later = timestamp(in_time(hours=2))
    accepted = answer(submit(api, later))
    assert (accepted["status"], accepted["estimatedWaitTime"]) == ("queued", 2 * 3600)
    shown = answer(api.get(address("status", accepted["requestId"])))
    assert shown["notBefore"] == later
    assert (shown["queuePosition"], shown["estimatedWaitTime"]) == (None, 2 * 3600)


@pytest.mark.parametrize(
    "text", ["2020-01-01T00:00:00Z", "2020-01-01t00:00:00z", "2020-01-01T00:00:00+14:00", "0001-01-02T00:00:00Z"]
)
def test_a_time_that_is_over_starts_at_once(api: APIClient, text: str) -> None:
    worker("one", slots=1)
    accepted = answer(submit(api, text))
    assert accepted["estimatedWaitTime"]
    assert GenerationQueue.objects.get().priority_weight == 10


def test_without_a_time_the_status_has_none(api: APIClient) -> None:
    for not_before in (None,):
        accepted = answer(submit(api, not_before))
        assert answer(api.get(address("status", accepted["requestId"])))["notBefore"] is None


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("tomorrow", "invalid"),
        ("", "invalid"),
        (1_800_000_000, "invalid"),
        (True, "invalid"),
        (["2030-01-01T00:00:00Z"], "invalid"),
        ("2026-02-30T00:00:00Z", "invalid"),
        ("9999-12-31T23:59:59Z", "out_of_range"),
        ("9999-12-31T23:59:59-12:00", "overflow"),
        ("0001-01-01T00:00:00+14:00", "overflow"),
    ],
)
def test_an_invalid_time_is_refused(api: APIClient, value: Any, code: str) -> None:
    [error] = assert_error(submit(api, value), 400, "validation_error")["errors"]
    assert (error["path"], error["code"]) == ("notBefore", code)
    assert not GenerationRequest.objects.exists()


def test_a_time_may_be_30_days_ahead_and_not_more(api: APIClient) -> None:
    answer(submit(api, timestamp(in_time(days=30, minutes=-1))))
    [error] = assert_error(submit(api, timestamp(in_time(days=30, minutes=1))), 400, "validation_error")["errors"]
    assert error["code"] == "out_of_range"


def test_items_of_a_batch_may_have_their_own_times(api: APIClient) -> None:
    later = timestamp(in_time(hours=1))
    items = [body(), body(notBefore=later)]
    answer(api.post(BATCH, {"requests": items}, format="json"))
    weights = dict(GenerationRequest.objects.values_list("pk", "queue_entry__priority_weight"))
    assert sorted(weights.values()) == [0, 10]


def test_variations_share_the_time(api: APIClient) -> None:
    fields = body(notBefore=timestamp(in_time(hours=1)), variations=3)
    answer(api.post(SUBMIT, fields, format="json"))
    assert set(GenerationQueue.objects.values_list("priority_weight", flat=True)) == {0}


def test_a_repeated_call_with_another_time_is_another_call(api: APIClient) -> None:
    headers = {"Idempotency-Key": "once"}
    for hours, code in ((1, 200), (2, 409)):
        fields = body(notBefore=timestamp(in_time(hours=hours)))
        assert api.post(SUBMIT, fields, format="json", headers=headers).status_code == code


def test_a_later_request_can_be_cancelled_and_reordered(api: APIClient, alice: User) -> None:
    request_id = answer(submit(api, timestamp(in_time(hours=1))))["requestId"]
    changed = api.patch(address("requests", request_id), {"priority": "urgent"}, format="json")
    assert answer(changed)["priority"] == "urgent"
    assert GenerationQueue.objects.get().priority_weight == 0
    answer(api.delete(address("cancel", request_id)))
    assert not GenerationQueue.objects.exists()
