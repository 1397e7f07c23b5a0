"""``PATCH /requests/ID`` with a priority: an owner reorders queued requests."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from rest_framework.test import APIClient

from generation.access import roles
from generation.models import GenerationQueue, GenerationRequest
from generation.states import Priority, Status
from tests.api.helpers import UNKNOWN_ID, address, answer, assert_error, client_for
from tests.support.keys import key_client
from tests.support.requests import in_status, queued


def change(client: APIClient, request_id: str, priority: Any, **more: Any) -> Any:
    return client.patch(address("requests", request_id), {"priority": priority} | more, format="json")


@pytest.mark.parametrize("priority", Priority.values)
def test_an_owner_changes_the_priority_of_a_queued_request(api: APIClient, alice: User, priority: str) -> None:
    request = queued(alice, priority="normal")
    before = answer(api.get(address("status", request.pk)))
    after = answer(change(api, request.pk, priority))
    assert (after["priority"], after["status"], after["sequence"]) == (priority, "queued", before["sequence"])
    assert GenerationRequest.objects.get(pk=request.pk).priority == priority


def test_a_raised_request_stands_before_others(api: APIClient, alice: User, charlie: User) -> None:
    for _ in range(3):
        queued(charlie, priority="high")
    request = queued(alice, priority="low")
    assert answer(api.get(address("status", request.pk)))["queuePosition"] == 4
    answer(change(api, request.pk, "urgent"))
    assert answer(api.get(address("status", request.pk)))["queuePosition"] == 1


def test_the_entity_tag_changes_with_the_priority(api: APIClient, alice: User) -> None:
    request = queued(alice)
    tag = api.get(address("status", request.pk))["ETag"]
    answer(change(api, request.pk, "urgent"))
    response = api.get(address("status", request.pk), headers={"If-None-Match": tag})
    assert response.status_code == 200


@pytest.mark.parametrize("status", [one for one in Status if one != Status.QUEUED])
def test_only_a_queued_request_gets_another_priority(api: APIClient, alice: User, status: Status) -> None:
    request = in_status(alice, status)
    assert_error(change(api, request.pk, "urgent"), 409, "not_queued")
    assert GenerationRequest.objects.get(pk=request.pk).priority == "normal"


@pytest.mark.parametrize("priority", ["", "top", None, 1, True, ["urgent"], {}])
def test_an_unknown_priority_is_refused(api: APIClient, alice: User, priority: Any) -> None:
    request = queued(alice)
    [error] = assert_error(change(api, request.pk, priority), 400, "validation_error")["errors"]
    assert error["path"] == "priority"
    assert GenerationQueue.objects.get().priority_weight == 10


@pytest.mark.parametrize("more", [{"approval": "approved"}, {"note": "x"}, {"approval": None, "note": ""}])
def test_a_priority_and_a_decision_cannot_be_given_together(api: APIClient, alice: User, more: dict[str, Any]) -> None:
    [error] = assert_error(change(api, queued(alice).pk, "urgent", **more), 400, "validation_error")["errors"]
    assert error["code"] == "exactly_one"


def test_requests_of_others_are_unknown(api: APIClient, charlie: User) -> None:
    request = queued(charlie)
    foreign = change(api, request.pk, "urgent")
    assert foreign.content == change(api, UNKNOWN_ID, "urgent").content
    assert_error(foreign, 404, "not_found")
    assert GenerationQueue.objects.get().priority_weight == 10


def test_staff_need_the_permission_and_are_audited(alice: User, django_user_model: Any) -> None:
    request = queued(alice)
    staff = django_user_model.objects.create_user("sam", password="x", is_staff=True)
    client = client_for(staff)
    assert_error(change(client, request.pk, "urgent"), 403, "permission_denied")
    staff.groups.add(Group.objects.get(name=roles.OPERATOR))
    answer(change(client_for(User.objects.get(pk=staff.pk)), request.pk, "urgent"))
    assert "Priority changed to urgent" in str(LogEntry.objects.latest("pk").change_message)


def test_a_key_may_not_exceed_its_highest_priority(alice: User) -> None:
    request = queued(alice)
    client = key_client(alice, scopes=["requests:write", "requests:read"], max_priority="high")
    error = assert_error(change(client, request.pk, "urgent"), 403, "not_allowed")
    assert error["errors"][0]["path"] == "priority"
    answer(change(client, request.pk, "high"))


def test_a_key_without_the_scope_changes_nothing(alice: User) -> None:
    request = queued(alice)
    assert_error(change(key_client(alice, scopes=["requests:read"]), request.pk, "low"), 403, "scope_missing")
