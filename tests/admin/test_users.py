"""Users with their usage, and the limits of those who edit them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from generation.access import roles
from generation.access.authentication import LONGEST_PASSWORD
from generation.models import Budget, BulkAction, GenerationRequest, Spending
from generation.providers import budgets
from generation.requests import bulk_actions, lifecycle
from generation.requests.new_request import NewRequest
from generation.states import Status
from tests.admin.pages import act, run_bulk, text, told
from tests.support.queries import queries_of
from tests.support.requests import claimed, in_status, queued

pytestmark = pytest.mark.django_db

USERS = "/admin/auth/user/"
DEACTIVATE = f"{USERS}deactivate/"


def _form(user: User, **more: Any) -> dict[str, Any]:
    body = {"username": user.username, "email": "", "first_name": "", "last_name": "", "is_active": "on"}
    return {**body, "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00", **more}


def test_users_are_listed_with_what_they_use(viewer: Client, alice: User) -> None:
    Spending.objects.create(owner=alice, day=budgets.today(), cost=Decimal("2.5"), calls=3)
    page = text(viewer.get(USERS))
    assert "alice" in page
    assert "$2.50" in page


def test_an_administrator_gives_roles_and_not_everything(administrator: Client, alice: User) -> None:
    operators = Group.objects.get(name=roles.OPERATOR)
    anything = Permission.objects.first()
    assert anything is not None
    more = {"is_staff": "on", "is_superuser": "on", "groups": [operators.pk], "user_permissions": [anything.pk]}
    assert administrator.post(f"{USERS}{alice.pk}/change/", _form(alice, **more)).status_code == 302
    alice.refresh_from_db()
    assert alice.is_staff
    assert list(alice.groups.all()) == [operators]
    assert not alice.is_superuser
    assert not alice.user_permissions.exists()


def test_an_administrator_does_not_become_a_superuser(administrator: Client) -> None:
    root = User.objects.create(username="root", is_staff=True, is_superuser=True)
    password = {"password1": "a-new-password-1", "password2": "a-new-password-1", "usable_password": "true"}
    assert administrator.post(f"{USERS}{root.pk}/password/", password).status_code == 403
    assert administrator.post(f"{USERS}{root.pk}/change/", _form(root, is_active="")).status_code == 403
    root.refresh_from_db()
    assert root.is_active
    assert not root.check_password("a-new-password-1")


# --- Privileges are limited to one's own ---


@pytest.fixture
def above(db: None) -> Group:
    """A group that may do what an administrator may not."""
    group = Group.objects.create(name="owners of everything")
    group.permissions.add(Permission.objects.get(codename="delete_user"))
    return group


def test_an_administrator_joins_no_group_that_may_do_more(administrator: Client, alice: User, above: Group) -> None:
    own = User.objects.get(username=roles.ADMINISTRATOR)
    for user in (own, alice):
        before = set(user.groups.all())
        kept = [group.pk for group in before]
        answer = administrator.post(f"{USERS}{user.pk}/change/", _form(user, is_staff="on", groups=[*kept, above.pk]))
        assert "not one of the available choices" in text(answer)
        assert set(user.groups.all()) == before
        assert "owners of everything" not in text(administrator.get(f"{USERS}{user.pk}/change/"))
    may = _form(own, is_staff="on", groups=list(Group.objects.exclude(pk=above.pk).values_list("pk", flat=True)))
    assert administrator.post(f"{USERS}{own.pk}/change/", may).status_code == 302


@pytest.mark.parametrize("how", ["group", "permission", "superuser", "inactive"])
def test_an_administrator_cannot_edit_a_user_with_more_permissions(
    administrator: Client, above: Group, how: str
) -> None:
    more = User.objects.create(username="more", is_staff=True, is_superuser=how == "superuser", email="a@b.c")
    if how == "permission":
        more.user_permissions.add(above.permissions.get())
    elif how != "superuser":
        more.groups.add(above)
    if how == "inactive":
        User.objects.filter(pk=more.pk).update(is_active=False)
    password = {"password1": "a-new-password-1", "password2": "a-new-password-1", "usable_password": "true"}
    assert administrator.post(f"{USERS}{more.pk}/password/", password).status_code == 403
    for changed in ({"username": "less"}, {"email": "me@b.c"}, {"is_active": ""}):
        assert administrator.post(f"{USERS}{more.pk}/change/", _form(more, **changed)).status_code == 403
    assert "You may not deactivate more" in told(administrator, administrator.post(DEACTIVATE, {"ids": more.pk}))
    again = User.objects.get(pk=more.pk)
    assert (again.username, again.email, again.password) == ("more", "a@b.c", more.password)
    assert again.is_active == (how != "inactive")


def test_an_editor_of_groups_cannot_grant_more_than_its_own(administrator: Client, above: Group) -> None:
    own = User.objects.get(username=roles.ADMINISTRATOR)
    own.user_permissions.add(*Permission.objects.filter(codename__in=["change_group", "add_group"]))
    beyond = above.permissions.get()
    mine = Permission.objects.get(codename="change_user")
    viewers = Group.objects.get(name=roles.VIEWER)
    for address in (f"/admin/auth/group/{viewers.pk}/change/", "/admin/auth/group/add/"):
        answer = administrator.post(address, {"name": "a group", "permissions": [beyond.pk]})
        assert "not one of the available choices" in text(answer)
    assert (
        administrator.post(f"/admin/auth/group/{above.pk}/change/", {"name": "x", "permissions": []}).status_code == 403
    )
    made = administrator.post("/admin/auth/group/add/", {"name": "a group", "permissions": [mine.pk]})
    assert made.status_code == 302


def test_a_superuser_gives_everything(client: Client, alice: User, above: Group) -> None:
    root = User.objects.create(username="root", is_staff=True, is_superuser=True)
    client.force_login(root)
    form = _form(alice, is_staff="on", is_superuser="on", groups=[above.pk])
    assert client.post(f"{USERS}{alice.pk}/change/", form).status_code == 302
    alice.refresh_from_db()
    assert alice.is_superuser
    assert list(alice.groups.all()) == [above]


# --- Deleting, deactivating, and what waits ---


@pytest.fixture
def superuser(client: Client) -> Client:
    """May do everything."""
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    return client


def test_deleting_a_user_with_requests_is_refused_with_the_reason_at_once(superuser: Client, alice: User) -> None:
    drafts = [NewRequest(type="cover", prompt="A dragon in a garden", priority="normal")] * 1_001
    lifecycle.submit(drafts, owner=alice)
    address = f"{USERS}{alice.pk}/delete/"
    statements = queries_of(lambda: superuser.get(address))
    assert len(statements) < 40
    assert not any("prompt" in statement for statement in statements)
    page = text(superuser.get(address))
    assert "more than 1,000 requests" in page
    assert "vga_" not in page
    assert "Deactivate alice instead" in page
    assert "more than 1,000" in text(superuser.post(address, {"post": "yes"}))
    selected = {"action": "delete_selected", "_selected_action": [alice.pk], "index": "0"}
    page = text(superuser.post(USERS, selected))
    assert "more than 1,000 requests" in page
    assert "Deactivate them instead" in page
    assert "more than 1,000" in text(superuser.post(USERS, {**selected, "post": "yes"}))
    assert User.objects.filter(pk=alice.pk).exists()


def test_the_audit_and_spending_of_a_deleted_user_stay(superuser: Client, operator: Client, alice: User) -> None:
    Spending.objects.create(owner=alice, day=budgets.today(), cost=Decimal("2.5"), calls=3)
    assert "1 spending, which the admin never deletes" in text(superuser.get(f"{USERS}{alice.pk}/delete/"))
    acted = User.objects.get(username=roles.OPERATOR)
    act(operator, "cancel", queued(alice).pk)
    assert "log entr" in text(superuser.get(f"{USERS}{acted.pk}/delete/"))
    assert "never deletes" in text(superuser.post(f"{USERS}{acted.pk}/delete/", {"post": "yes"}))
    assert LogEntry.objects.filter(user=acted).exists()


def test_a_user_without_a_trace_is_deleted(superuser: Client, charlie: User) -> None:
    charlie.groups.add(Group.objects.get(name=roles.VIEWER))
    Budget.objects.create(owner=charlie, per_day=1)
    page = text(superuser.get(f"{USERS}{charlie.pk}/delete/"))
    assert "Are you sure" in page
    assert superuser.post(f"{USERS}{charlie.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=charlie.pk).exists()


def test_a_group_with_many_users_is_told_by_their_number(superuser: Client) -> None:
    group = Group.objects.create(name="crowd")
    group.user_set.add(*User.objects.bulk_create(User(username=f"one-{number}") for number in range(30)))
    page = text(superuser.get(f"/admin/auth/group/{group.pk}/delete/"))
    assert "one-7" not in page
    assert "30" in page
    assert superuser.post(f"/admin/auth/group/{group.pk}/delete/", {"post": "yes"}).status_code == 302


def test_a_request_that_comes_meanwhile_stops_the_deletion(
    superuser: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued(alice)
    monkeypatch.setattr("generation.admin.deletion.look", lambda *_: ([], {}, set(), []))
    selected = {"action": "delete_selected", "_selected_action": [alice.pk], "index": "0", "post": "yes"}
    for address, body in ((f"{USERS}{alice.pk}/delete/", {"post": "yes"}), (USERS, selected)):
        assert "New dependent rows" in told(superuser, superuser.post(address, body))
    assert User.objects.filter(pk=alice.pk).exists()
    assert not LogEntry.objects.exists()  # a deletion that did not happen is not in the audit


def test_deactivating_a_user_offers_to_cancel_what_waits(administrator: Client, alice: User) -> None:
    waiting, running, ended = queued(alice), claimed(alice).request, in_status(alice, Status.FAILED)
    answer = administrator.post(f"{USERS}{alice.pk}/change/", _form(alice, is_active=""))
    page = told(administrator, answer)
    assert "2 requests by alice will continue" in page
    assert "Cancel this user’s requests" in page
    alice.refresh_from_db()
    assert not alice.is_active
    page = text(administrator.get(f"{DEACTIVATE}?ids={alice.pk}"))
    assert "Cancel the requests of alice" in page
    assert "2 requests queued or in progress" in page
    run_bulk(administrator.post(DEACTIVATE, {"ids": alice.pk, "cancel": "1"}))
    statuses = {one.pk: one.status for one in GenerationRequest.objects.all()}
    assert statuses == {waiting.pk: Status.CANCELLED, running.pk: Status.CANCELLED, ended.pk: Status.FAILED}


def test_selected_users_are_deactivated_with_or_without_their_queues(
    administrator: Client, alice: User, charlie: User
) -> None:
    requests = [queued(alice), queued(charlie)]
    selected = {"action": "deactivate_selected", "_selected_action": [alice.pk, charlie.pk], "index": "0"}
    answer = administrator.post(USERS, selected)
    assert "Deactivate 2 users" in told(administrator, answer)
    page = told(administrator, administrator.post(DEACTIVATE, {"ids": [alice.pk, charlie.pk]}))
    assert "Deactivated alice, charlie." in page
    assert page.count("Cancel this user’s requests") == 2
    assert not User.objects.filter(pk__in=[alice.pk, charlie.pk], is_active=True).exists()
    assert set(GenerationRequest.objects.values_list("status", flat=True)) == {Status.QUEUED}
    assert LogEntry.objects.filter(change_message__startswith="Deactivated").count() == 2
    administrator.post(DEACTIVATE, {"ids": [alice.pk, charlie.pk], "cancel": "1"})
    for row in BulkAction.objects.all():
        bulk_actions.advance(row.pk)
    assert set(GenerationRequest.objects.values_list("status", flat=True)) == {Status.CANCELLED}
    assert len(requests) == 2


def test_deactivating_takes_the_permission_and_spares_oneself(
    administrator: Client, operator: Client, viewer: Client, alice: User
) -> None:
    for client in (operator, viewer):
        assert client.get(f"{DEACTIVATE}?ids={alice.pk}").status_code == 403
        assert client.post(DEACTIVATE, {"ids": alice.pk, "cancel": "1"}).status_code == 403
    own = User.objects.get(username=roles.ADMINISTRATOR)
    assert "You may not deactivate administrator" in told(
        administrator, administrator.post(DEACTIVATE, {"ids": own.pk})
    )
    for ids in ("", "abc", "\0", "9" * 30, "-1", "999999"):
        assert "Select between 1 and" in told(administrator, administrator.get(DEACTIVATE, {"ids": ids}))
    assert administrator.put(DEACTIVATE).status_code == 405
    alice.refresh_from_db()
    assert alice.is_active


def test_an_operator_cannot_edit_users(operator: Client, alice: User) -> None:
    assert operator.post(f"{USERS}{alice.pk}/change/", _form(alice, is_staff="on")).status_code == 403
    assert operator.post("/admin/generation/budget/add/", {"owner": alice.pk, "per_day": "1"}).status_code == 403


@pytest.mark.parametrize("address", ["/admin/login/", "/sign-in"])
def test_a_password_beyond_the_bound_is_wrong_and_not_hashed(
    address: str, client: Client, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    encode = PBKDF2PasswordHasher.encode

    def counted(self: PBKDF2PasswordHasher, password: str, salt: str, iterations: int | None = None) -> str:
        hashed.append(password)
        return encode(self, password, salt, iterations)

    monkeypatch.setattr(PBKDF2PasswordHasher, "encode", counted)
    answer = client.post(address, {"username": "unknown-user", "password": "x" * (LONGEST_PASSWORD + 1)})
    assert answer.status_code == 200
    assert "password" in text(answer)
    assert hashed == []
    client.post(address, {"username": "unknown-user", "password": "x" * LONGEST_PASSWORD})
    assert len(hashed) == 1


def test_signing_in_is_limited(client: Client, settings: Any, db: None) -> None:
    settings.TOKEN_RATE = "3/h"
    body = {"username": "guesses-at-the-admin", "password": "wrong"}
    answers = [client.post("/admin/login/", body, REMOTE_ADDR="203.0.113.61").status_code for _ in range(5)]
    assert answers == [200, 200, 200, 429, 429]
