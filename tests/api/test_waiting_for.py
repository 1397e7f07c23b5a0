"""``waitingFor``, ``possible`` and ``explain=true``: why a queued request waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generation import caching
from generation.db.functions import Now
from generation.models import GenerationQueue, GenerationRequest, Pause, ProviderModel, ProviderState, WorkerProcess
from generation.providers import circuit_breaker
from generation.queue import run_limits
from generation.requests import lifecycle
from generation.requests.representations import timestamp
from generation.states import ErrorCode, ProcessKind, WaitReason
from tests.api.helpers import SUBMIT, address, answer, assert_error, body
from tests.support.batches import batch_of
from tests.support.keys import key_client
from tests.support.measured import worker
from tests.support.requests import back_in_queue, claimed, queued


@pytest.fixture(autouse=True)
def _processes(db: None) -> None:
    worker("worker-1", slots=1)
    WorkerProcess.objects.create(name="dispatcher-1", kind=ProcessKind.DISPATCHER, slots=0)


def _shown(client: APIClient, request_id: str, query: str = "?explain=true") -> dict[str, Any]:
    caching.clear_all()
    return answer(client.get(address("status", request_id) + query))


def _reasons(shown: dict[str, Any]) -> list[str]:
    found = [reason["reason"] for reason in shown["reasons"]]
    assert shown["reasons"][0] == shown["waitingFor"]
    assert len(shown["explanation"]) > len(found)
    return found


# --- Each reason ------------------------------------------------------------------------------------------------------


def test_a_request_in_the_queue_says_what_is_ahead(staff: APIClient, alice: User, charlie: User) -> None:
    queued(charlie, priority="high")
    queued(charlie)
    request = queued(alice)
    queued(charlie, priority="low")
    shown = _shown(staff, request.pk)
    waits = {"reason": "queue", "ahead": 2, "aheadMorePressing": 1, "aheadOthers": 1, "slots": 1}
    assert shown["waitingFor"] == waits
    assert _reasons(shown) == ["queue"]
    assert shown["possible"] is True
    assert shown["explanation"][0] == (
        "2 requests are ahead of it, 1 with a higher priority and 1 of others who take turns; the workers do 1 at once."
    )
    assert shown["explanation"][-1] == "The position may rise when others submit requests, since owners take turns."


def test_the_first_request_is_the_next_in_the_queue(api: APIClient, alice: User) -> None:
    shown = _shown(api, queued(alice).pk)
    assert shown["explanation"][:2] == [
        "It is the next in the queue.",
        "It is expected to start now and to be done in about 30 to 60 seconds.",
    ]


@pytest.mark.parametrize(
    ("scope", "value", "sentence"),
    [
        ("everything", "", "Staff have paused all requests: the bill."),
        ("priority", "normal", "Staff have paused requests of priority normal: the bill."),
        ("type", "coloring-page", "Staff have paused requests of type coloring-page: the bill."),
        ("provider", "clipart", "Staff have paused the provider clipart, which this request needs: the bill."),
    ],
)
def test_a_paused_request_has_no_estimate(api: APIClient, alice: User, scope: str, value: str, sentence: str) -> None:
    request = queued(alice)
    Pause.objects.create(scope=scope, value=value, reason="the bill")
    shown = _shown(api, request.pk)
    assert shown["waitingFor"] == {"reason": "paused", "scope": scope, "value": value or None, "why": "the bill"}
    assert (shown["estimate"], shown["estimatedWaitTime"]) == (None, None)
    assert _reasons(shown) == ["paused", "queue"]
    assert shown["explanation"][0] == sentence


def test_another_pause_does_not_hold_a_request(api: APIClient, alice: User) -> None:
    request = queued(alice)
    Pause.objects.create(scope="type", value="cover")
    assert _reasons(_shown(api, request.pk)) == ["queue"]


def test_a_request_that_waits_for_an_image_says_for_which(api: APIClient, alice: User) -> None:
    source = claimed(alice).request
    references = [{"requestId": source.pk, "role": "character"}]
    page = api.post(SUBMIT, body(references=references), format="json").json()["requestId"]
    shown = _shown(api, page)
    assert shown["waitingFor"] == {"reason": "reference", "requestId": source.pk, "status": "in-progress"}
    assert (shown["queuePosition"], shown["estimate"]) == (None, None)
    assert shown["explanation"][0] == f"It waits for the image of {source.pk}, which is being generated."


def test_a_request_for_later_says_when_it_may_start(api: APIClient, alice: User) -> None:
    later = datetime.now(UTC) + timedelta(hours=3)
    request = queued(alice, not_before=later)
    shown = _shown(api, request.pk)
    assert shown["waitingFor"] == {"reason": "not_before", "until": timestamp(later)}
    assert 10_700 < shown["estimate"]["startP50"] <= 10_800
    assert "It is not to start before" in shown["explanation"][0]
    assert "in about 3 hours" in shown["explanation"][0]


def test_a_retry_says_when_and_why(api: APIClient, alice: User) -> None:
    claim = claimed(alice)
    back_in_queue(claim, delay=timedelta(seconds=40))
    shown = _shown(api, claim.request.pk)
    row = GenerationQueue.objects.get()
    assert shown["waitingFor"] == {
        "reason": "retry",
        "until": timestamp(row.available_at),
        "errorCode": ErrorCode.UNAVAILABLE,
    }
    assert 35 <= shown["estimate"]["startP50"] <= 40
    assert shown["explanation"][0].startswith(
        "Its last attempt failed (the provider is unreachable or has a server error). The next one is at "
    )


def test_a_retry_that_is_due_waits_for_its_turn_only(api: APIClient, alice: User) -> None:
    claim = claimed(alice)
    back_in_queue(claim)
    assert _reasons(_shown(api, claim.request.pk)) == ["queue"]


def test_a_batch_at_its_limit_says_so(api: APIClient, alice: User) -> None:
    WorkerProcess.objects.filter(name="worker-1").update(slots=50)
    _, ids = batch_of(alice, 4, limit=1)
    assert lifecycle.claim(ids[0], worker="worker-1")
    shown = [_shown(api, request_id) for request_id in ids[1:]]
    assert [one["waitingFor"] for one in shown] == [{"reason": "batch_limit", "running": 1, "max": 1}] * 3
    assert _reasons(shown[0]) == ["batch_limit", "queue"]
    assert [one["estimate"]["startP50"] for one in shown] == [30, 60, 90]  # not by the 50 slots of the worker
    assert shown[0]["explanation"][0] == "1 request is in progress in its batch, which allows 1 at once."


def test_a_key_at_its_limit_says_so(alice: User) -> None:
    client = key_client(alice, max_active=1)
    ids = [client.post(SUBMIT, body(), format="json").json()["requestId"] for _ in range(3)]
    run_limits.KEY.fill(GenerationRequest.objects.get(pk=ids[0]).api_key_id or "")
    assert lifecycle.claim(ids[0], worker="worker-1")
    shown = _shown(client, ids[2])
    assert shown["waitingFor"] == {"reason": "key_limit"}
    assert shown["estimate"]["startP50"] == 60
    assert "API key" in shown["explanation"][0]


def test_a_suspended_provider_says_until_when_and_why(api: APIClient, alice: User) -> None:
    request = queued(alice)
    circuit_breaker.failed("clipart", ErrorCode.RATE_LIMITED, wait=timedelta(seconds=50))
    until = ProviderState.objects.get(pk="clipart").open_until
    shown = _shown(api, request.pk)
    assert shown["waitingFor"] == {
        "reason": "provider_suspended",
        "provider": "clipart",
        "until": timestamp(until),
        "code": "rate_limited",
    }
    assert 45 <= shown["estimate"]["startP50"] <= 50
    assert shown["explanation"][0].startswith("The provider clipart is not called until ")


def test_a_provider_at_its_limit_says_until_when(api: APIClient, alice: User) -> None:
    ProviderState.objects.create(provider="clipart", max_concurrent=1)
    claim = claimed(alice)
    assert lifecycle.release(claim, delay=timedelta(seconds=20))
    shown = _shown(api, claim.request.pk)
    until = timestamp(GenerationQueue.objects.get().available_at)
    assert shown["waitingFor"] == {"reason": "provider_rate", "provider": "clipart", "until": until}
    assert _reasons(shown) == ["provider_rate", "queue"]


def test_the_limits_of_a_provider_lengthen_the_estimate(api: APIClient, alice: User) -> None:
    WorkerProcess.objects.filter(name="worker-1").update(slots=50)
    ids = [queued(alice).pk for _ in range(4)]
    assert _shown(api, ids[3])["estimate"]["startP50"] == 0
    state = ProviderState.objects.create(provider="clipart", max_concurrent=1)
    assert _shown(api, ids[3])["estimate"]["startP50"] == 90
    state.max_concurrent, state.calls, state.per_seconds = None, 1, 10
    state.save()
    assert _shown(api, ids[3])["estimate"]["startP50"] == 10  # three start at once, and one each 10 s


def test_without_a_worker_nothing_starts(api: APIClient, alice: User) -> None:
    WorkerProcess.objects.filter(kind=ProcessKind.WORKER).delete()
    shown = _shown(api, queued(alice).pk)
    assert shown["waitingFor"] == {"reason": "no_worker"}
    assert _reasons(shown) == ["no_worker", "queue"]
    assert (shown["estimate"], shown["estimatedWaitTime"]) == (None, None)
    assert shown["explanation"][-2] == "When it starts cannot be estimated while this is so."


def test_without_a_dispatcher_the_reason_says_so(api: APIClient, alice: User) -> None:
    WorkerProcess.objects.filter(kind=ProcessKind.DISPATCHER).delete()
    shown = _shown(api, queued(alice).pk)
    assert _reasons(shown) == ["no_dispatcher", "queue"]
    assert shown["estimate"] is not None


def test_a_request_that_no_model_can_do_is_not_possible(api: APIClient, alice: User) -> None:
    request = queued(alice)
    ProviderModel.objects.filter(provider="clipart").update(enabled=False, successor=None)
    shown = _shown(api, request.pk)
    assert (shown["possible"], shown["estimate"]) == (False, None)
    assert shown["explanation"][0] == "No enabled model of a configured provider can do what this request asks for."


# --- Together ---------------------------------------------------------------------------------------------------------


def test_reasons_are_in_the_order_of_the_contract(api: APIClient, alice: User) -> None:
    _, ids = batch_of(alice, 2, limit=1)
    claim = lifecycle.claim(ids[0], worker="worker-1")
    assert claim
    held = GenerationQueue.objects.filter(pk=ids[1])
    held.update(available_at=Now() + timedelta(minutes=1))
    GenerationRequest.objects.filter(pk=ids[1]).update(not_before=Now() + timedelta(minutes=1))
    Pause.objects.create(scope="everything")
    WorkerProcess.objects.all().delete()
    circuit_breaker.failed("clipart", ErrorCode.RATE_LIMITED, wait=timedelta(seconds=50))
    found = _reasons(_shown(api, ids[1]))
    assert found == [
        *("paused", "not_before", "retry", "batch_limit", "provider_suspended", "no_worker", "no_dispatcher", "queue"),
    ]
    assert found == sorted(found, key=WaitReason.values.index)


@pytest.mark.parametrize("query", ["", "?explain=false"])
def test_only_the_first_reason_is_shown_without_explain(api: APIClient, alice: User, query: str) -> None:
    shown = _shown(api, queued(alice).pk, query)
    assert shown["waitingFor"]["reason"] == "queue"
    assert {"explanation", "reasons"}.isdisjoint(shown)


def test_explain_is_ignored_once_a_request_runs(api: APIClient, alice: User) -> None:
    shown = _shown(api, claimed(alice).request.pk)
    assert {"explanation", "reasons", "waitingFor", "estimate", "possible"}.isdisjoint(shown)


@pytest.mark.parametrize("value", ["", "1", "yes", "TRUE"])
def test_a_bad_value_of_explain_is_rejected(api: APIClient, alice: User, value: str) -> None:
    assert_error(api.get(address("status", queued(alice).pk) + f"?explain={value}"), 400, "validation_error")


def test_another_owner_gets_no_explanation(stranger: APIClient, alice: User) -> None:
    assert_error(stranger.get(address("status", queued(alice).pk) + "?explain=true"), 404, "not_found")


def test_the_etag_changes_with_the_reason_and_the_estimate(api: APIClient, alice: User) -> None:
    request = queued(alice)
    url = address("status", request.pk)

    def changed(etag: str) -> str:
        caching.clear_all()
        response = api.get(url, headers={"If-None-Match": etag})
        assert response.status_code == 200
        assert api.get(url, headers={"If-None-Match": response["ETag"]}).status_code == 304
        return str(response["ETag"])

    etag = changed('"none"')
    assert api.get(f"{url}?explain=true", headers={"If-None-Match": etag}).status_code == 200
    Pause.objects.create(scope="everything")
    etag = changed(etag)
    Pause.objects.all().delete()
    claimed(alice, priority="urgent")  # the only slot
    etag = changed(etag)
    WorkerProcess.objects.filter(kind=ProcessKind.WORKER).update(slots=2)
    changed(etag)
