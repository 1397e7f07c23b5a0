"""``PATCH /requests/ID``: approve and reject the images of completed requests."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.db import IntegrityError, transaction
from rest_framework.test import APIClient

from generation.access import roles
from generation.models import GenerationRequest
from generation.requests import services
from generation.states import Status
from tests.api.helpers import REQUESTS, UNKNOWN_ID, address, answer, assert_error, client_for, completed
from tests.support.keys import key_client
from tests.support.races import at_once
from tests.support.requests import in_status, queued

PAGE = {"project_id": "book", "page_id": "page-1"}


def patch(client: APIClient, request_id: str, *, at: str = "", **fields: Any) -> Any:
    return client.patch(at or address("requests", request_id), fields, format="json")


def approve(client: APIClient, request: GenerationRequest, **fields: Any) -> dict[str, Any]:
    return answer(patch(client, request.pk, **{"approval": "approved"} | fields))


def decisions(*requests: GenerationRequest) -> list[tuple[str, str]]:
    rows = {row.pk: row for row in GenerationRequest.objects.filter(pk__in=[one.pk for one in requests])}
    return [(rows[one.pk].approval, rows[one.pk].approval_note) for one in requests]


# --- One image --------------------------------------------------------------------------------------------------------


def test_the_status_shows_the_decision_and_its_note(api: APIClient, alice: User) -> None:
    request = completed(alice)
    before = answer(api.get(address("status", request.pk)))
    assert (before["approval"], before["approvalNote"]) == (None, None)
    after = approve(api, request, note="The best one")
    assert (after["approval"], after["approvalNote"]) == ("approved", "The best one")
    assert (after["sequence"], after["status"]) == (before["sequence"], "completed")
    assert "imageData" not in after["result"]
    shown = answer(api.get(address("status", request.pk)))
    assert shown["approval"] == "approved"


def test_each_decision_replaces_the_last_one_and_its_note(api: APIClient, alice: User) -> None:
    request = completed(alice)
    approve(api, request, note="Good")
    assert answer(patch(api, request.pk, approval="rejected"))["approvalNote"] is None
    assert decisions(request) == [("rejected", "")]
    approve(api, request, note="After all")
    assert answer(patch(api, request.pk, approval=None))["approval"] is None
    assert decisions(request) == [("", "")]


def test_the_entity_tag_changes_with_the_decision(api: APIClient, alice: User) -> None:
    request = completed(alice)
    tags = set()
    for fields in ({"approval": None}, {"approval": "approved"}, {"approval": "approved", "note": "x"}):
        answer(patch(api, request.pk, **fields))
        tag = api.get(address("status", request.pk))["ETag"]
        unchanged = api.get(address("status", request.pk), headers={"If-None-Match": tag})
        assert unchanged.status_code == 304
        tags.add(tag)
    assert len(tags) == 3


@pytest.mark.parametrize("status", [one for one in Status if one != Status.COMPLETED])
def test_only_a_completed_request_can_be_approved(api: APIClient, alice: User, status: Status) -> None:
    request = in_status(alice, status)
    for approval in ("approved", "rejected", None):
        assert_error(patch(api, request.pk, approval=approval), 409, "not_completed")


def test_the_database_refuses_an_approval_without_an_image(alice: User) -> None:
    request = queued(alice)
    with pytest.raises(IntegrityError, match="request_approval_of_completed"), transaction.atomic():
        GenerationRequest.objects.filter(pk=request.pk).update(approval="approved")


@pytest.mark.parametrize(
    ("fields", "path", "code"),
    [
        ({}, "approval", "required"),
        ({"note": "x"}, "approval", "required"),
        ({"approval": "maybe"}, "approval", "invalid_choice"),
        ({"approval": ""}, "approval", "invalid_choice"),
        ({"approval": True}, "approval", "invalid_choice"),
        ({"approval": "approved", "note": "x" * 501}, "note", "max_length"),
        ({"approval": "approved", "note": 5}, "note", "invalid"),
        ({"approval": "approved", "note": "\0"}, "note", "null_characters_not_allowed"),
    ],
)
def test_an_invalid_decision_changes_nothing(
    api: APIClient, alice: User, fields: dict[str, Any], path: str, code: str
) -> None:
    request = completed(alice)
    [error] = assert_error(patch(api, request.pk, **fields), 400, "validation_error")["errors"]
    assert (error["path"], error["code"]) == (path, code)
    assert decisions(request) == [("", "")]


def test_a_note_may_have_500_characters(api: APIClient, alice: User) -> None:
    assert approve(api, completed(alice), note="x" * 500)["approvalNote"] == "x" * 500


# --- One image of a page ----------------------------------------------------------------------------------------------


def test_approving_one_image_of_a_page_clears_the_others(api: APIClient, alice: User) -> None:
    first, second, rejected, other = (completed(alice, **PAGE) for _ in range(4))
    elsewhere = completed(alice, project_id="book", page_id="page-2")
    approve(api, first, note="Good")
    approve(api, elsewhere)
    answer(patch(api, rejected.pk, approval="rejected", note="Six fingers"))
    approve(api, second)
    assert decisions(first, second, rejected, other) == [
        ("", ""),
        ("approved", ""),
        ("rejected", "Six fingers"),
        ("", ""),
    ]
    assert decisions(elsewhere) == [("approved", "")]


def test_without_a_page_any_number_may_be_approved(api: APIClient, alice: User) -> None:
    requests = [completed(alice, project_id="book") for _ in range(2)]
    for request in requests:
        approve(api, request)
    assert decisions(*requests) == [("approved", "")] * 2


def test_pages_of_two_owners_are_two_pages(api: APIClient, alice: User, charlie: User) -> None:
    hers, his = completed(alice, **PAGE), completed(charlie, **PAGE)
    approve(api, hers)
    approve(client_for(charlie), his)
    assert decisions(hers, his) == [("approved", "")] * 2


@pytest.mark.django_db(transaction=True)
def test_of_simultaneous_approvals_of_a_page_one_remains(alice: User) -> None:
    requests = [completed(alice, **PAGE) for _ in range(6)]

    def approving(request: GenerationRequest) -> bool:
        services.approve(user=alice, request=request, approval="approved")
        return True

    for _ in range(10):
        assert all(at_once(*(lambda one=one: approving(one) for one in requests)))
        assert [approval for approval, _ in decisions(*requests)].count("approved") == 1


@pytest.mark.django_db(transaction=True)
def test_approvals_of_two_images_in_turn_do_not_deadlock(alice: User) -> None:
    first, second = completed(alice, **PAGE), completed(alice, **PAGE)

    def approving(one: GenerationRequest) -> bool:
        for _ in range(20):
            services.approve(user=alice, request=one, approval="approved")
        return True

    assert all(at_once(lambda: approving(first), lambda: approving(second)))


def test_the_database_refuses_two_approved_images_of_a_page(api: APIClient, alice: User) -> None:
    first, second = completed(alice, **PAGE), completed(alice, **PAGE)
    approve(api, first)
    with pytest.raises(IntegrityError, match="request_one_approved_per_page"), transaction.atomic():
        GenerationRequest.objects.filter(pk=second.pk).update(approval="approved")


# --- Rights -----------------------------------------------------------------------------------------------------------


def test_the_request_of_another_user_is_not_found(stranger: APIClient, alice: User) -> None:
    request = completed(alice)
    theirs, unknown = patch(stranger, request.pk, approval="approved"), patch(stranger, UNKNOWN_ID, approval="approved")
    assert_error(theirs, 404, "not_found")
    assert theirs.content == unknown.content
    assert decisions(request) == [("", "")]


@pytest.mark.parametrize(("role", "status"), [("", 403), (roles.VIEWER, 403), (roles.OPERATOR, 200)])
def test_staff_need_the_permission_and_it_is_audited(alice: User, role: str, status: int) -> None:
    member = User.objects.create(username="staff", is_staff=True)
    if role:
        member.groups.add(Group.objects.get(name=role))
    request = completed(alice)
    assert patch(client_for(member), request.pk, approval="rejected").status_code == status
    [entry] = LogEntry.objects.filter(user=member)
    if status == 200:
        assert (entry.object_id, entry.change_message) == (request.pk, "Rejected, from 127.0.0.1")
    else:
        assert entry.change_message.startswith("Refused for want of a permission: approve or reject an image")
        assert decisions(request) == [("", "")]


def test_an_approval_by_staff_clears_the_owners_other_one(staff: APIClient, api: APIClient, alice: User) -> None:
    first, second = completed(alice, **PAGE), completed(alice, **PAGE)
    approve(api, first)
    approve(staff, second)
    assert decisions(first, second) == [("", ""), ("approved", "")]


@pytest.mark.django_db(transaction=True)
def test_an_api_key_needs_the_scope_and_the_project(alice: User) -> None:
    request = completed(alice, **PAGE)
    readonly = key_client(alice, scopes=["requests:read"])
    assert_error(patch(readonly, request.pk, approval="approved"), 403, "scope_missing")
    elsewhere = key_client(alice, allowed_projects=["another"])
    assert_error(patch(elsewhere, request.pk, approval="approved"), 404, "not_found")
    approve(key_client(alice, allowed_projects=["book"]), request)


# --- The list ---------------------------------------------------------------------------------------------------------


def test_the_list_is_filtered_by_the_decision(api: APIClient, alice: User, charlie: User) -> None:
    approved, rejected, undecided, waiting = completed(alice), completed(alice), completed(alice), queued(alice)
    approve(api, approved)
    answer(patch(api, rejected.pk, approval="rejected"))
    approve(client_for(charlie), completed(charlie))

    def listed(**query: str) -> list[str]:
        return [row["requestId"] for row in answer(api.get(REQUESTS, query))["results"]]

    assert listed(approval="approved") == [approved.pk]
    assert listed(approval="rejected") == [rejected.pk]
    assert listed(approval="none") == [waiting.pk, undecided.pk]
    assert listed(approval="none", status="completed") == [undecided.pk]
    for value in ("", "null", "Approved"):
        assert_error(api.get(REQUESTS, {"approval": value}), 400, "validation_error")
