"""API keys in the admin: all users' keys are seen and revoked, and no secret or digest is shown."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client

from generation.access import api_keys, roles
from generation.db.functions import Now
from generation.models import ApiKey
from tests.admin.pages import text, told
from tests.support.queries import queries_of

pytestmark = pytest.mark.django_db

KEYS = "/admin/generation/apikey/"
REVOKE = f"{KEYS}revoke/"


def make(owner: User, name: str, **columns: Any) -> ApiKey:
    """Make a key, and set columns that only time or use would set."""
    key, _ = api_keys.create(owner, {"name": name, "scopes": ["requests:read"]}, address="192.0.2.1")
    ApiKey.objects.filter(pk=key.pk).update(**columns)
    key.refresh_from_db()
    return key


def page_of(key: ApiKey) -> str:
    return f"{KEYS}{key.pk}/change/"


def names(client: Client, **query: str) -> set[str]:
    """The names of the keys that the list shows."""
    body = text(client.get(KEYS, query))
    return {key.name for key in ApiKey.objects.all() if key.name in body}


@pytest.fixture
def keys(alice: User, charlie: User) -> dict[str, ApiKey]:
    """A key in each state, by its name."""
    gone = User.objects.create(username="dora", is_active=False)
    found = [
        make(alice, "Importer"),
        make(alice, "Nightly-run", expires_at=Now() - timedelta(hours=1)),
        make(charlie, "Lost-laptop", revoked_at=Now()),
        make(gone, "Forgotten-script"),
    ]
    return {key.name: key for key in found}


def test_the_list_filters_by_state_and_owner(viewer: Client, keys: dict[str, ApiKey]) -> None:
    assert names(viewer) == set(keys)
    for query, expected in {
        ("state", "active"): {"Importer"},
        ("state", "expired"): {"Nightly-run"},
        ("state", "revoked"): {"Lost-laptop"},
        ("state", "owner deactivated"): {"Forgotten-script"},
        ("owner", "alice"): {"Importer", "Nightly-run"},
        ("owner", " charlie "): {"Lost-laptop"},
        ("owner", "unknown"): set(),
        ("q", "alice"): {"Importer", "Nightly-run"},
        ("q", "laptop"): {"Lost-laptop"},
        ("q", keys["Importer"].prefix): {"Importer"},
        ("q", keys["Importer"].pk): {"Importer"},
        ("q", "%"): set(),
    }.items():
        assert names(viewer, **dict([query])) == expected, query
    assert viewer.get(KEYS, {"unknown": "1"}).status_code == 302
    for query in (("q", "\0"), ("owner", "\0"), ("state", "\0")):
        assert viewer.get(KEYS, dict([query])).status_code in {200, 302}


def test_the_page_of_a_key_shows_its_limits_and_use(viewer: Client, alice: User) -> None:
    limits = {"rate": "20/m", "daily_budget": Decimal("2.5"), "max_active": 3, "max_priority": "high"}
    lists = {"allowed_models": ["gpt-image-2"], "allowed_projects": ["spring"], "last_used_from": "203.0.113.9"}
    until = Now() + timedelta(hours=3)
    key = make(alice, "Importer", **limits, **lists, last_used_at=Now(), previous_until=until)
    page = text(viewer.get(page_of(key)))
    used = f"{key.last_used_at:%Y-%m-%d %H:%M} UTC from 203.0.113.9"
    for shown in ("alice", key.prefix, "requests:read", "20/m", "$2.50", "High", "gpt-image-2", "spring", used):
        assert shown in page, shown
    assert "works until" in page
    assert f"Made the API key {key}, from 192.0.2.1" in page
    assert used in text(viewer.get(KEYS))
    assert viewer.get(f"{KEYS}00000000/change/").status_code == 302
    assert viewer.get(f"{KEYS}%00/change/").status_code == 302


def test_no_page_and_no_statement_reads_a_digest(operator: Client, keys: dict[str, ApiKey]) -> None:
    key = keys["Importer"]
    api_keys.rotate(key, overlap=timedelta(hours=1), by=key.owner, address="")
    key.refresh_from_db()
    addresses = [KEYS, page_of(key), f"{REVOKE}?ids={key.pk}", f"{KEYS}{key.pk}/history/"]
    for address in addresses:
        body = operator.get(address).content.decode()
        assert key.digest not in body
        assert str(key.previous_digest) not in body
    for address in addresses[:3]:
        assert not any('digest"' in statement for statement in queries_of(lambda at=address: operator.get(at)))  # type: ignore[misc]


def test_a_list_of_keys_costs_few_queries(viewer: Client, alice: User, charlie: User) -> None:
    make(alice, "Importer")
    few = queries_of(lambda: viewer.get(KEYS))
    for number in range(10):
        make(charlie, f"Plugin {number}")
    assert len(queries_of(lambda: viewer.get(KEYS))) == len(few)


def test_an_operator_revokes_a_key_after_a_confirmation(operator: Client, alice: User) -> None:
    key, secret = api_keys.create(alice, {"name": "Importer", "scopes": ["requests:read"]}, address="")
    assert api_keys.find(secret, address="") is not None
    assert f'href="{REVOKE}?ids={key.pk}"' in operator.get(page_of(key)).content.decode()
    assert "Revoke 1 key" in text(operator.get(f"{REVOKE}?ids={key.pk}"))
    assert api_keys.find(secret, address="") is not None
    assert "Revoked 1 key." in told(operator, operator.post(REVOKE, {"ids": key.pk}))
    assert api_keys.find(secret, address="") is None
    entry = LogEntry.objects.get(user__username=roles.OPERATOR)
    assert entry.get_change_message() == f"Revoked the API key {key}, from 127.0.0.1"
    page = operator.get(page_of(key)).content.decode()
    assert REVOKE not in page
    assert "Revoked the API key" in page
    assert "Skipped 1 key, already revoked." in told(operator, operator.post(REVOKE, {"ids": key.pk}))


def test_selected_keys_are_revoked_together(operator: Client, keys: dict[str, ApiKey]) -> None:
    chosen = [keys[name].pk for name in ("Importer", "Nightly-run", "Lost-laptop")]
    selected = {"action": "revoke_selected", "_selected_action": chosen, "index": "0"}
    page = told(operator, operator.post(KEYS, selected))
    assert "Revoke 3 keys" in page
    assert "Forgotten-script" not in page
    page = told(operator, operator.post(REVOKE, {"ids": chosen}))
    assert "Revoked 2 keys." in page
    assert "Skipped 1 key, already revoked." in page
    assert [key.name for key in ApiKey.objects.filter(revoked_at=None)] == ["Forgotten-script"]
    assert LogEntry.objects.filter(user__username=roles.OPERATOR).count() == 2


def test_a_viewer_cannot_revoke(viewer: Client, browser_of: Callable[..., Client], alice: User) -> None:
    key = make(alice, "Importer")
    assert REVOKE not in viewer.get(page_of(key)).content.decode()
    assert "revoke_selected" not in viewer.get(KEYS).content.decode()
    for client in (viewer, browser_of()):
        assert client.get(f"{REVOKE}?ids={key.pk}").status_code == 403
        assert client.post(REVOKE, {"ids": key.pk}).status_code == 403
    key.refresh_from_db()
    assert key.revoked_at is None
    refused = LogEntry.objects.filter(user__username=roles.VIEWER)
    assert refused.count() == 2
    assert f"revoke the API keys {key.pk}" in str(refused[0].get_change_message())


def test_keys_are_neither_added_changed_nor_deleted(client: Client, alice: User) -> None:
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    key = make(alice, "Importer")
    assert client.get(f"{KEYS}add/").status_code == 403
    assert client.post(page_of(key), {"name": "other"}).status_code == 405
    assert client.post(f"{KEYS}{key.pk}/delete/", {"post": "yes"}).status_code == 403
    selected = {"action": "delete_selected", "_selected_action": [key.pk], "index": "0", "post": "yes"}
    client.post(KEYS, selected)
    key.refresh_from_db()
    assert (key.name, key.revoked_at) == ("Importer", None)


def test_odd_selections_revoke_nothing(operator: Client, alice: User) -> None:
    key = make(alice, "Importer")
    for ids in ([], [""], ["\0"], ["unknown"], [str(number) for number in range(201)] + [key.pk]):
        assert "Select between 1 and 200 keys." in told(operator, operator.post(REVOKE, {"ids": ids}))
    assert operator.put(REVOKE).status_code == 405
    assert ApiKey.objects.filter(revoked_at=None).count() == 1


def test_the_page_of_a_user_leads_to_its_keys(viewer: Client, keys: dict[str, ApiKey]) -> None:
    owner = keys["Lost-laptop"].owner
    address = f"/admin/auth/user/{owner.pk}/keys"
    assert address in viewer.get(f"/admin/auth/user/{owner.pk}/change/").content.decode()
    answer = viewer.get(f"{address}/", follow=True)
    assert answer.redirect_chain[-1][0] == f"{KEYS}?owner=charlie"
    shown = text(answer)
    assert "Lost-laptop" in shown
    assert "Importer" not in shown
    assert viewer.get("/admin/auth/user/999999/keys/").status_code == 404


def test_names_of_keys_are_shown_as_text(operator: Client, alice: User) -> None:
    key = make(alice, '<script>alert("x")</script>')
    for address in (KEYS, page_of(key), f"{REVOKE}?ids={key.pk}", f"{KEYS}{key.pk}/history/"):
        assert '<script>alert("x")' not in operator.get(address).content.decode(), address
