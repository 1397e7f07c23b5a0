"""Users and what they use, and the bounds of whoever may edit them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from generation import budgets, roles
from generation.authentication import LONGEST_PASSWORD
from generation.models import Spending
from tests.admin.pages import text

pytestmark = pytest.mark.django_db

USERS = "/admin/auth/user/"


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


def test_an_operator_edits_nobody(operator: Client, alice: User) -> None:
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
    answer = client.post(address, {"username": "nobody-there", "password": "x" * (LONGEST_PASSWORD + 1)})
    assert answer.status_code == 200
    assert "password" in text(answer)
    assert hashed == []
    client.post(address, {"username": "nobody-there", "password": "x" * LONGEST_PASSWORD})
    assert len(hashed) == 1


def test_signing_in_is_limited(client: Client, settings: Any, db: None) -> None:
    settings.TOKEN_RATE = "3/h"
    body = {"username": "whoever-tries-the-admin", "password": "wrong"}
    answers = [client.post("/admin/login/", body, REMOTE_ADDR="203.0.113.61").status_code for _ in range(5)]
    assert answers == [200, 200, 200, 429, 429]
