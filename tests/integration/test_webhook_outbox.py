"""Events of status changes, and the deliveries that the fan-out makes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import JSONField, Value

from generation.models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from generation.requests import lifecycle, services
from generation.requests.approval import decide
from generation.requests.new_request import NewRequest, Webhook
from generation.states import DEFAULT_WEBHOOK_EVENTS, WEBHOOK_EVENTS, Approval
from generation.webhooks import outbox
from tests.support.batches import start
from tests.support.requests import FAILURE, PROMPT, RESULT, claimed, in_status, queued
from tests.support.webhooks import endpoint_of

pytestmark = pytest.mark.django_db(transaction=True)

ALL = [str(event) for event in WEBHOOK_EVENTS]
ENDS = tuple(map(str, DEFAULT_WEBHOOK_EVENTS))
PER_CALL = Webhook(url="https://hooks.example.org/vga", events=ENDS)


def deliveries() -> list[WebhookDelivery]:
    while outbox.fan_out():
        pass
    return list(WebhookDelivery.objects.order_by("occurred_at", "sequence", "id"))


def events() -> list[str]:
    return [delivery.event for delivery in deliveries()]


def submit_batch(owner: User, count: int, webhook: Webhook | None = None) -> list[str]:
    drafts = [NewRequest(type="cover", prompt=PROMPT, priority="normal") for _ in range(count)]
    _, requests = services.submit_batch(
        owner=owner, drafts=drafts, priority="normal", max_concurrent=None, webhook=webhook
    )
    return [request.pk for request in requests]


def finish(request_id: str) -> None:
    assert lifecycle.complete(start(request_id), result=RESULT, model="openmoji-17")


def test_nothing_is_noted_without_a_target(alice: User, charlie: User) -> None:
    endpoint_of(charlie, events=ALL)
    endpoint_of(alice, events=ALL, enabled=False)
    for status in ("completed", "failed", "cancelled"):
        in_status(alice, status)  # type: ignore[arg-type]
    assert not WebhookEvent.objects.exists()


def test_an_endpoint_gets_the_events_that_it_names(alice: User) -> None:
    endpoint_of(alice, events=["request.started", "request.failed"])
    lifecycle.fail(claimed(alice), FAILURE)
    in_status(alice, "completed")  # type: ignore[arg-type]
    assert events() == ["request.started", "request.failed", "request.started"]


def test_each_path_to_an_end_is_noted_once(alice: User) -> None:
    endpoint_of(alice, events=list(ENDS))
    lifecycle.fail(claimed(alice), FAILURE)
    lifecycle.complete(claimed(alice), result=RESULT, model="openmoji-17")
    lifecycle.cancel([queued(alice).pk, claimed(alice).request.pk], actor=alice)
    assert sorted(events()) == ["request.cancelled", "request.cancelled", "request.completed", "request.failed"]


def test_a_snapshot_is_of_the_event_and_not_of_later_changes(alice: User) -> None:
    endpoint_of(alice, events=["request.started", "request.failed"])
    claim = claimed(alice)
    lifecycle.fail(claim, FAILURE)
    lifecycle.retry(claim.request.pk, actor=alice)
    started, failed = deliveries()
    assert (started.snapshot["status"], started.snapshot["sequence"], started.snapshot["error"]) == (
        "in-progress",
        2,
        None,
    )
    assert (failed.snapshot["status"], failed.snapshot["error"]["code"]) == ("failed", "unavailable")


def test_an_endpoint_of_a_project_gets_events_of_the_project(alice: User) -> None:
    endpoint = endpoint_of(alice, events=ALL, project_id="book-1")
    claimed(alice, project_id="book-1")
    claimed(alice, project_id="book-2")
    claimed(alice)
    [delivery] = deliveries()
    assert (delivery.endpoint, delivery.target) == (endpoint, endpoint.pk)


def test_a_request_with_a_webhook_has_deliveries_of_its_own(alice: User) -> None:
    claim = claimed(alice, webhook=PER_CALL)
    assert claim.request.webhook_events == list(ENDS)
    assert not WebhookEvent.objects.exists()  # it did not ask for request.started
    lifecycle.fail(claim, FAILURE)
    [delivery] = deliveries()
    assert (delivery.endpoint, delivery.url, delivery.host) == (None, PER_CALL.url, "hooks.example.org")
    assert delivery.target == f"{alice.pk} hooks.example.org"


def test_one_event_goes_to_every_target(alice: User) -> None:
    for _ in range(3):
        endpoint_of(alice, events=ALL)
    lifecycle.fail(claimed(alice, webhook=PER_CALL), FAILURE)
    assert events().count("request.failed") == 4


def test_an_approval_is_noted_and_a_rejection_is_not(alice: User) -> None:
    request = in_status(alice, "completed")  # type: ignore[arg-type]
    endpoint_of(alice, events=ALL)
    decide(request, approval=Approval.REJECTED, note="")
    decide(request, approval="", note="")
    decide(request, approval=Approval.APPROVED, note="fine")
    [delivery] = deliveries()
    assert (delivery.event, delivery.snapshot["approval_note"]) == ("request.approved", "fine")


def test_a_batch_webhook_gets_the_ends_of_each_request(alice: User) -> None:
    for request_id in submit_batch(alice, 2, PER_CALL):
        finish(request_id)
    assert events() == ["request.completed", "request.completed"]


def test_variations_have_one_webhook(alice: User) -> None:
    draft = NewRequest(type="cover", prompt=PROMPT, priority="normal", webhook=PER_CALL)
    batch, requests = services.submit_variations(owner=alice, draft=draft, count=3)
    assert (batch.webhook_url, {request.webhook_url for request in requests}) == (PER_CALL.url, {""})
    for request in requests:
        finish(request.pk)
    assert events() == ["request.completed"] * 3


@pytest.mark.parametrize("together", [True, False])
def test_a_batch_completes_once_with_its_last_end(alice: User, together: bool) -> None:
    ids = submit_batch(alice, 3, replace(PER_CALL, events=("batch.completed",)))
    for request_id in ids[:2]:
        finish(request_id)
    assert events() == []
    if together:
        lifecycle.cancel(ids, actor=alice)
    else:
        finish(ids[2])
    [delivery] = deliveries()
    assert (delivery.event, delivery.request_id, set(delivery.snapshot)) == ("batch.completed", "", set(ids))


def test_two_ends_that_are_fanned_out_apart_complete_a_batch_once(alice: User, monkeypatch: Any) -> None:
    endpoint_of(alice, events=["batch.completed"])
    for request_id in submit_batch(alice, 2):
        finish(request_id)
    monkeypatch.setattr(outbox, "STEP", 1)
    assert events() == ["batch.completed"]


def test_a_batch_whose_request_was_retried_completes_again(alice: User) -> None:
    ids = submit_batch(alice, 2, replace(PER_CALL, events=("batch.completed",)))
    finish(ids[0])
    lifecycle.fail(start(ids[1]), FAILURE)
    assert len(events()) == 1
    lifecycle.retry(ids[1], actor=alice)
    assert len(events()) == 1
    finish(ids[1])
    assert len(events()) == 2


def test_the_event_of_a_deleted_request_is_dropped(alice: User) -> None:
    endpoint_of(alice, events=ALL)
    claim = claimed(alice)
    claim.request.delete()
    assert deliveries() == []
    assert not WebhookEvent.objects.exists()


def test_a_repeated_approval_is_noted_once(alice: User) -> None:
    endpoint_of(alice, events=["request.approved"])
    request = in_status(alice, "completed")  # type: ignore[arg-type]
    for approval in (Approval.APPROVED, Approval.APPROVED, Approval.REJECTED, Approval.APPROVED):
        decide(request, approval=approval, note="")
    assert events() == ["request.approved", "request.approved"]


@pytest.mark.parametrize("written", [None, 1, "request.completed", {"request.completed": 1}])
def test_events_written_by_hand_keep_no_other_endpoint_from_its_own(alice: User, written: Any) -> None:
    odd, good = endpoint_of(alice, events=[]), endpoint_of(alice)
    WebhookEndpoint.objects.filter(pk=odd.pk).update(events=Value(written, JSONField()))
    in_status(alice, "completed")  # type: ignore[arg-type]
    assert [delivery.endpoint_id for delivery in deliveries()] == [good.pk]


def test_an_event_that_cannot_be_fanned_out_is_dropped_alone(
    alice: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint_of(alice)
    first, faulty, last = (in_status(alice, "completed").pk for _ in range(3))  # type: ignore[arg-type]
    make = outbox.delivery

    def broken(**values: Any) -> dict[str, Any]:
        return make(**values) | ({"event": None} if values["request_id"] == faulty else {})

    monkeypatch.setattr(outbox, "delivery", broken)
    assert {delivery.request_id for delivery in deliveries()} == {first, last}
    assert not WebhookEvent.objects.exists()
    assert f"request.completed of {faulty} is dropped" in caplog.text
