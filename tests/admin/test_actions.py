"""What staff do to requests: one, some, or all that match; by whom, with what result, and what is written down."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.test import Client
from rest_framework.test import APIClient

from generation.access import roles
from generation.db.functions import Now
from generation.models import Budget, BulkAction, GenerationQueue, GenerationRequest, StatusChange
from generation.requests import bulk_actions, lifecycle, services
from generation.requests.new_request import NewRequest
from generation.states import Status
from tests.admin.pages import ACT, BULK, REQUESTS, act, page_of, run_bulk, text, told
from tests.api.helpers import PREFIX
from tests.conftest import client_of
from tests.support.races import at_once
from tests.support.requests import back_in_queue, claimed, in_status, queued
from workers import dispatcher, tasks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]


def status_of(request: GenerationRequest) -> str:
    request.refresh_from_db()
    return request.status


def log_of(request_id: str) -> list[tuple[str, str]]:
    rows = LogEntry.objects.filter(object_id=request_id).order_by("pk")
    return [(row.user.get_username(), row.get_change_message()) for row in rows]


# --- One, or some ---


def test_an_operator_cancels_and_the_log_has_name_and_address(operator: Client, alice: User) -> None:
    request = queued(alice)
    assert "Cancel" in text(operator.get(page_of(request.pk)))
    assert "Yes, cancel 1 request" in text(operator.get(f"{ACT}?action=cancel&ids={request.pk}"))
    assert status_of(request) == Status.QUEUED
    assert "Cancelled 1 request." in told(operator, act(operator, "cancel", request.pk))
    assert status_of(request) == Status.CANCELLED
    assert log_of(request.pk) == [("operator", "Cancelled, from 127.0.0.1")]
    assert "Cancelled, from 127.0.0.1" in text(operator.get(page_of(request.pk)))
    last = StatusChange.objects.filter(request=request).latest("sequence")
    assert last.actor is not None
    assert last.actor.username == "operator"


@pytest.mark.parametrize(
    ("action", "possible"),
    [
        ("cancel", {Status.QUEUED, Status.IN_PROGRESS}),
        ("retry", {Status.FAILED, Status.CANCELLED}),
        ("requeue", {Status.QUEUED}),
        ("priority", {Status.QUEUED}),
    ],
)
def test_each_impossible_action_is_refused_with_its_reason(
    action: str, possible: set[Status], operator: Client, alice: User
) -> None:
    requests = {status: in_status(alice, status) for status in Status}
    unknown = "vga_1700000000000000_000000000000000000"
    ids = [*(one.pk for one in requests.values()), unknown]
    page = told(operator, act(operator, action, *ids, argument="urgent"))
    assert f"{len(possible)} request" in page
    for status, request in requests.items():
        assert (f"it is {status.label.lower()}: {request.pk}" in page) == (status not in possible)
        if status not in possible:
            assert status_of(request) == status
    assert f"there is no such request: {unknown}" in page


def test_the_priority_of_what_waits_is_changed(operator: Client, alice: User) -> None:
    request = queued(alice, priority="low")
    told(operator, act(operator, "priority", request.pk, argument="urgent"))
    request.refresh_from_db()
    assert request.priority == "urgent"
    assert GenerationQueue.objects.get().priority_weight == 1000
    assert log_of(request.pk) == [("operator", "Priority changed to urgent, from 127.0.0.1")]


@pytest.mark.parametrize("argument", ["", "soon", "1000"])
def test_a_priority_that_there_is_not_is_asked_for_again(argument: str, operator: Client, alice: User) -> None:
    request = queued(alice)
    answer = act(operator, "priority", request.pk, argument=argument)
    assert "Choose the new priority" in text(answer)
    request.refresh_from_db()
    assert request.priority == "normal"


def test_a_request_waiting_for_its_retry_is_requeued_at_once(operator: Client, alice: User) -> None:
    claim = claimed(alice)
    back_in_queue(claim, delay=timedelta(hours=1))
    told(operator, act(operator, "requeue", claim.request.pk))
    assert lifecycle.claim(claim.request.pk, worker="worker-2")


def test_a_retry_beyond_the_owners_budget_is_refused(operator: Client, alice: User) -> None:
    request = in_status(alice, Status.FAILED)
    GenerationRequest.objects.filter(pk=request.pk).update(estimated_cost=Decimal(1))
    Budget.objects.create(owner=alice, per_day=Decimal("0.5"))
    assert "budget of the day is used up" in told(operator, act(operator, "retry", request.pk))
    assert status_of(request) == Status.FAILED


def test_an_action_on_selected_rows_is_confirmed_first(operator: Client, alice: User) -> None:
    ids = [queued(alice).pk for _ in range(3)]
    body = {"action": "act_cancel", "_selected_action": ids[:2], "index": "0"}
    page = text(operator.post(f"{REQUESTS}?status=queued", body))
    assert "Yes, cancel 2 requests" in page
    assert GenerationRequest.objects.filter(status=Status.QUEUED).count() == 3


# --- Who may ---


@pytest.mark.parametrize("action", ["cancel", "retry", "requeue", "priority"])
def test_a_viewer_does_nothing_and_that_is_logged(
    action: str, viewer: Client, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    request = in_status(alice, Status.FAILED) if action == "retry" else queued(alice)
    before = status_of(request)
    with caplog.at_level(logging.WARNING):
        assert act(viewer, action, request.pk, argument="urgent").status_code == 403
        assert act(viewer, action, everything="1", argument="urgent").status_code == 403
        assert viewer.get(f"{ACT}?action={action}&ids={request.pk}").status_code == 403
        body = {"action": f"act_{action}", "_selected_action": [request.pk], "index": "0"}
        assert viewer.post(REQUESTS, body).status_code == 403
    assert status_of(request) == before
    assert not BulkAction.objects.exists()
    assert "refused" in caplog.text
    refused = LogEntry.objects.filter(change_message__startswith="Refused for want of a permission")
    assert refused.count() == 4
    assert f"action={action}" not in viewer.get(page_of(request.pk)).content.decode()


def test_a_post_without_a_token_of_the_page_is_refused(operator: Client, alice: User) -> None:
    request = queued(alice)
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = operator.cookies
    assert act(strict, "cancel", request.pk).status_code == 403
    assert status_of(request) == Status.QUEUED


@pytest.mark.parametrize(
    "body",
    [
        {"action": "delete"},
        {"action": ""},
        {"action": "cancel", "ids": "\0"},
        {"action": "cancel", "ids": ["vga_1"] * 501},
    ],
)
def test_crafted_posts_are_refused(body: dict[str, Any], operator: Client, alice: User) -> None:
    request = queued(alice)
    assert operator.post(ACT, body).status_code == 400
    assert operator.put(ACT).status_code == 405
    assert status_of(request) == Status.QUEUED


@pytest.fixture
def by_role(db: None) -> Callable[[str], APIClient]:
    """A caller of the API who is on the staff with this role."""

    def caller(role: str) -> APIClient:
        user = User.objects.create(username=f"api-{role}", is_staff=True)
        if role:
            user.groups.add(Group.objects.get(name=role))
        return client_of(user)

    return caller


@pytest.mark.parametrize(("role", "expected"), [("", 403), (roles.VIEWER, 403), (roles.OPERATOR, 200)])
def test_the_api_asks_for_the_same_permissions(
    role: str, expected: int, by_role: Callable[[str], APIClient], alice: User
) -> None:
    api = by_role(role)
    waiting, failed, batch = queued(alice), in_status(alice, Status.FAILED), _batch(alice)
    assert api.delete(f"{PREFIX}/cancel/{waiting.pk}").status_code == expected
    assert api.post(f"{PREFIX}/retry/{failed.pk}").status_code == expected
    assert api.delete(f"{PREFIX}/batch/{batch}").status_code == expected
    assert (status_of(waiting) == Status.CANCELLED) == (expected == 200)
    assert bool(log_of(waiting.pk)) == (expected == 200)
    own = queued(User.objects.get(username=f"api-{role}"))
    assert api.delete(f"{PREFIX}/cancel/{own.pk}").status_code == 200


# --- All that match ---


def test_all_that_match_are_done_in_steps_with_progress(
    operator: Client, alice: User, charlie: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_actions, "STEP", 3)
    mine = [queued(alice) for _ in range(7)]
    ended = in_status(alice, Status.FAILED)
    other = queued(charlie)
    body = {"action": "act_cancel", "select_across": "1", "_selected_action": [mine[0].pk], "index": "0"}
    assert "Yes, cancel 8 requests" in text(operator.post(f"{REQUESTS}?owner=alice", body))
    answer = act(operator, "cancel", everything="1", filter="owner=alice")
    made = BulkAction.objects.get()
    assert bulk_actions.advance(made.pk)
    later = queued(alice)  # it was not there when the action was confirmed
    page = text(operator.get(f"{BULK}{made.pk}/change/"))
    assert "running" in page
    assert "Stop" in page
    made = run_bulk(answer)
    assert (made.seen, made.done, made.refusals) == (8, 7, {"it is failed": 1})
    assert made.refused_ids == {"it is failed": [ended.pk]}
    assert made.finished_at is not None
    assert {status_of(one) for one in mine} == {Status.CANCELLED}
    assert status_of(other) == status_of(later) == Status.QUEUED
    page = text(operator.get(f"{BULK}{made.pk}/change/"))
    assert "1 skipped because it is failed" in page
    assert "100%" in page
    assert log_of(mine[0].pk) == [("operator", f"Cancelled with bulk action {made.pk}, from 127.0.0.1")]
    assert "Started: cancel of all with owner alice, from 127.0.0.1" in page


def test_the_task_advances_it_and_the_dispatcher_does_if_abandoned(operator: Client, alice: User) -> None:
    assert tasks.advance_bulk_action.name == bulk_actions.TASK
    requests = [queued(alice) for _ in range(3)]
    act(operator, "cancel", everything="1", filter="status=queued")
    tasks.advance_bulk_action(BulkAction.objects.get().pk)
    assert {status_of(one) for one in requests} == {Status.CANCELLED}
    act(operator, "retry", everything="1", filter="status=cancelled")
    assert dispatcher.run_once()["bulk"] == 0
    BulkAction.objects.update(advanced_at=Now() - timedelta(minutes=1))
    assert dispatcher.run_once()["bulk"] == 1
    assert {status_of(one) for one in requests} == {Status.QUEUED}
    assert not BulkAction.objects.filter(finished_at__isnull=True).exists()


def test_an_action_is_stopped(operator: Client, viewer: Client, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_actions, "STEP", 1)
    for _ in range(3):
        queued(alice)
    act(operator, "cancel", everything="1")
    made = BulkAction.objects.get()
    bulk_actions.advance(made.pk)
    assert viewer.post(f"{BULK}{made.pk}/stop/").status_code == 403
    assert "already changed stay changed" in told(operator, operator.post(f"{BULK}{made.pk}/stop/"))
    assert not bulk_actions.advance(made.pk)
    assert GenerationRequest.objects.filter(status=Status.CANCELLED).count() == 1
    assert "stopped by operator" in text(operator.get(f"{BULK}{made.pk}/change/"))


def test_a_stop_holds_whenever_it_comes(operator: Client, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_actions, "STEP", 1)
    user = User.objects.get(username="operator")
    for steps in range(3):
        requests = [queued(alice) for _ in range(3)]
        act(operator, "cancel", everything="1", filter="status=queued")
        row = BulkAction.objects.latest("pk")  # as a page has read it, before the steps that follow
        for _ in range(steps):
            assert bulk_actions.advance(row.pk)
        assert bulk_actions.stop(user=user, bulk=row)
        assert not bulk_actions.stop(user=user, bulk=row)
        assert not bulk_actions.advance(row.pk)
        row.refresh_from_db()
        assert (row.seen, row.done, row.error) == (steps, steps, "stopped by operator")
        assert sum(status_of(one) == Status.CANCELLED for one in requests) == steps
        services.act(user=user, action="cancel", request_ids=[one.pk for one in requests])


def test_a_stop_waits_for_the_step_that_is_under_way(
    operator: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_actions, "STEP", 2)
    requests = [queued(alice) for _ in range(4)]
    act(operator, "cancel", everything="1")
    row = BulkAction.objects.get()
    user = User.objects.get(username="operator")
    begun, stopping = threading.Event(), threading.Event()
    really = services.act

    def slowly(**arguments: Any) -> services.Outcome:
        if arguments["request_ids"]:
            begun.set()
            assert stopping.wait(20)
        return really(**arguments)

    def stop() -> bool:
        assert begun.wait(20)
        stopping.set()
        return bulk_actions.stop(user=user, bulk=row)

    monkeypatch.setattr(services, "act", slowly)
    at_once(lambda: bulk_actions.advance(row.pk), stop)
    row.refresh_from_db()
    cancelled = sum(status_of(one) == Status.CANCELLED for one in requests)
    assert (row.done, row.error) == (cancelled, "stopped by operator")
    assert cancelled in {0, 2}
    assert not bulk_actions.advance(row.pk)
    assert sum(status_of(one) == Status.CANCELLED for one in requests) == cancelled


def test_of_two_workers_one_does_a_step(operator: Client, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_actions, "STEP", 2)
    requests = [in_status(alice, Status.FAILED) for _ in range(8)]
    act(operator, "retry", everything="1", filter="status=failed")
    row = BulkAction.objects.get()
    for _ in range(8):
        at_once(lambda: bulk_actions.advance(row.pk), lambda: bulk_actions.advance(row.pk))
    while bulk_actions.advance(row.pk):
        pass
    row.refresh_from_db()
    assert (row.seen, row.done, row.refusals) == (8, 8, {})
    assert {status_of(one) for one in requests} == {Status.QUEUED}


def test_a_step_that_broke_off_is_done_again_and_counted_once(
    operator: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [queued(alice) for _ in range(3)]
    act(operator, "cancel", everything="1")
    row = BulkAction.objects.get()

    def break_off(*arguments: Any) -> bool:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(bulk_actions, "_record_step", break_off)
        with pytest.raises(RuntimeError, match="killed"):
            bulk_actions.advance(row.pk)
    assert {status_of(one) for one in requests} == {Status.QUEUED}
    BulkAction.objects.update(advanced_at=Now() - timedelta(minutes=1))
    assert dispatcher.run_once()["bulk"] == 1
    row.refresh_from_db()
    assert (row.seen, row.done, row.refusals) == (3, 3, {})
    assert {status_of(one) for one in requests} == {Status.CANCELLED}


def test_a_bulk_action_stops_when_its_actor_loses_the_permission(operator: Client, alice: User) -> None:
    request = queued(alice)
    act(operator, "cancel", everything="1")
    User.objects.get(username="operator").groups.clear()
    assert not bulk_actions.advance(BulkAction.objects.get().pk)
    assert status_of(request) == Status.QUEUED
    assert "may not do that any more" in BulkAction.objects.get().error


def test_nothing_matches(operator: Client, alice: User) -> None:
    queued(alice)
    assert "No request matches any more" in told(operator, act(operator, "cancel", everything="1", filter="q=zebra"))
    assert not BulkAction.objects.exists()


def _batch(owner: User) -> str:
    draft = NewRequest(type="cover", prompt="A dragon in a garden", priority="normal")
    batch, _ = services.submit_batch(owner=owner, drafts=[draft], priority="normal", max_concurrent=None)
    return batch.pk
