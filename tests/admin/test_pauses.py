"""Pauses: a paused request does not start, clients are told, and a resume starts it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from generation import caching
from generation.models import GenerationBatch, GenerationQueue, Pause
from generation.providers import circuit_breaker
from generation.queue import broker, dispatch, pauses, run_limits
from generation.requests import lifecycle, permits
from generation.requests.claims import AttemptFailure, CallPermit, Claim
from generation.requests.new_request import NewRequest
from generation.states import WEIGHTS, Status
from tests.admin.pages import PAUSES, REQUESTS, text, told
from tests.api.helpers import PREFIX, body, post_json
from tests.support.measured import worker
from tests.support.requests import claimed, queued

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]


def pause(client: Client, scope: str, value: str = "", reason: str = "") -> str:
    return told(client, client.post(f"{PAUSES}pause/", {"scope": scope, "value": value, "reason": reason}))


def resume(client: Client, scope: str, value: str = "") -> str:
    return told(client, client.post(f"{PAUSES}resume/", {"scope": scope, "value": value}))


def messages() -> int:
    return broker.waiting_messages()


def take_messages() -> None:
    """As workers do who are then refused."""
    with current_app.connection_for_write() as broker:
        channel: Any = broker.default_channel
        channel.client.delete(*WEIGHTS)
    caching.clear_all()


@pytest.mark.parametrize(
    ("scope", "value", "stopped"),
    [("everything", "", {"cover", "urgent"}), ("type", "cover", {"cover"}), ("priority", "urgent", {"urgent"})],
)
def test_a_paused_request_is_not_claimed_and_a_resumed_one_is_sent(
    scope: str, value: str, stopped: set[str], operator: Client, alice: User
) -> None:
    requests = {"cover": queued(alice, type="cover"), "urgent": queued(alice, priority="urgent")}
    requests["other"] = queued(alice, type="illustration", priority="low")
    assert "Paused" in pause(operator, scope, value, "a look at the bill")
    take_messages()
    for name, request in requests.items():
        got = lifecycle.claim(request.pk, worker="worker-1")
        assert (got is None) == (name in stopped or scope == "everything"), name
    assert dispatch.send_due() == 0
    waiting = GenerationQueue.objects.count()
    assert "Resumed" in resume(operator, scope, value)
    assert messages() == waiting > 0
    for request in requests.values():
        request.refresh_from_db()
        if request.status == Status.QUEUED:
            assert lifecycle.claim(request.pk, worker="worker-1")


def test_a_request_submitted_during_a_pause_waits_in_the_queue(operator: Client, alice: User) -> None:
    pause(operator, "type", "cover")
    queued(alice, type="cover")
    queued(alice, type="illustration")
    assert messages() == 1
    assert dispatch.send_due() == 0
    resume(operator, "type", "cover")
    assert messages() == 2


def test_requests_that_are_not_paused_pass_those_that_are(operator: Client, alice: User, settings: Any) -> None:
    settings.DISPATCH_WINDOW = 2
    pause(operator, "type", "cover")
    for _ in range(6):
        queued(alice, type="cover")
    queued(alice, type="illustration")
    GenerationQueue.objects.update(dispatched_at=None, redispatch_at=None)
    take_messages()
    assert dispatch.send_due() == 1


def test_held_requests_of_a_batch_wait_for_the_resume(operator: Client, alice: User) -> None:
    batch = GenerationBatch.objects.create(id="vgb_1700000000000000_000000000", owner=alice, max_concurrent=1)
    draft = NewRequest(type="cover", prompt="A dragon in a garden", priority="normal")
    lifecycle.submit([draft] * 2, owner=alice, batch=batch)
    pause(operator, "type", "cover")
    lifecycle.cancel([GenerationQueue.objects.get(held=False).pk], actor=alice)
    assert run_limits.BATCH.to_fill(10) == []
    assert GenerationQueue.objects.get().held
    resume(operator, "type", "cover")
    assert run_limits.BATCH.to_fill(10) == [batch.pk]


def test_a_paused_provider_is_not_called_and_resuming_wakes_the_waiting(operator: Client, alice: User) -> None:
    claim = claimed(alice)
    pause(operator, "provider", "clipart")
    permit = _begin(claim)
    assert not permit.granted
    assert permit.provider_suspended
    assert circuit_breaker.is_open("clipart")
    assert lifecycle.release(claim, delay=permit.wait, waits_for="clipart")
    assert lifecycle.claim(claim.request.pk, worker="worker-1") is None
    resume(operator, "provider", "clipart")
    assert not circuit_breaker.is_open("clipart")
    again = lifecycle.claim(claim.request.pk, worker="worker-1")
    assert again is not None
    assert _begin(again).granted


def test_another_provider_is_not_asked_for_what_is_paused(operator: Client, alice: User) -> None:
    claim = claimed(alice, type="cover")
    pause(operator, "type", "cover")
    failure = AttemptFailure(message="away", code="unavailable", retryable=True, provider="openai")
    assert lifecycle.fall_back(claim, failure, uses_attempt=False) is None
    assert GenerationQueue.objects.get().request_id == claim.request.pk
    claim.request.refresh_from_db()
    assert claim.request.status == Status.QUEUED
    resume(operator, "type", "cover")
    assert lifecycle.claim(claim.request.pk, worker="worker-1")


def test_all_subscribers_are_told(operator: Client, viewer: Client, api: APIClient, alice: User) -> None:
    worker("one", slots=1)
    assert post_json(api, body()).json()["estimatedWaitTime"] > 0
    pause(operator, "everything", reason="the bill")
    answer = post_json(api, body()).json()
    assert answer["estimatedWaitTime"] is None
    shown = api.get(f"{PREFIX}/status/{answer['requestId']}").json()
    assert shown["estimatedWaitTime"] is None
    assert shown["queuePosition"] == 2
    caching.clear_all()
    paused = api.get(f"{PREFIX}/queue/status").json()["paused"]
    assert [(one["scope"], one["value"]) for one in paused] == [("everything", None)]
    for address in ("/admin/", REQUESTS, PAUSES, "/admin/auth/user/"):
        assert "everything since" in text(viewer.get(address)), address
    resume(operator, "everything")
    caching.clear_all()
    assert api.get(f"{PREFIX}/queue/status").json()["paused"] == []
    assert api.get(f"{PREFIX}/status/{answer['requestId']}").json()["estimatedWaitTime"] > 0
    page = text(viewer.get(PAUSES))
    assert "Paused everything, from 127.0.0.1" in page
    assert "Resumed everything, from 127.0.0.1" in page


def test_a_viewer_neither_pauses_nor_resumes(operator: Client, viewer: Client) -> None:
    assert viewer.post(f"{PAUSES}pause/", {"scope": "everything"}).status_code == 403
    assert not Pause.objects.exists()
    pause(operator, "everything")
    assert viewer.post(f"{PAUSES}resume/", {"scope": "everything"}).status_code == 403
    assert Pause.objects.exists()
    assert LogEntry.objects.filter(change_message__startswith="Refused", user__username="viewer").count() == 2
    assert "Resume</button>" not in viewer.get(PAUSES).content.decode()


@pytest.mark.parametrize(
    ("scope", "value"),
    [("everything", "all"), ("type", "poster"), ("priority", ""), ("provider", "unknown"), ("", ""), ("type", "\0")],
)
def test_an_unknown_scope_cannot_be_paused(scope: str, value: str, operator: Client) -> None:
    assert "This cannot be paused" in pause(operator, scope, value)
    assert not Pause.objects.exists()


def test_twice_is_once(operator: Client) -> None:
    pause(operator, "type", "cover")
    assert "Already paused" in pause(operator, "type", "cover")
    resume(operator, "type", "cover")
    assert "Already resumed" in resume(operator, "type", "cover")
    assert pauses.active() == []


def _begin(claim: Claim) -> CallPermit:
    return permits.begin_call(claim, provider="clipart", model="m", prompt="p", deadline=timedelta(seconds=60))
