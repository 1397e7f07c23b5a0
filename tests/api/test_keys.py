"""The endpoints of API keys, and the validity of their secrets."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from rest_framework.test import APIClient

from generation.access import api_keys
from generation.caching import clear_all
from generation.models import ApiKey
from tests.api.helpers import PREFIX, SUBMIT, assert_error, assert_refused_field, body, client_for, post_json, shown
from tests.support.keys import client_with, key_of

KEYS = f"{PREFIX}/keys"
WANTED = {"name": "the printer", "scopes": ["requests:read", "requests:write"]}
STATUS = f"{PREFIX}/queue/status"


def made(client: APIClient, **more: Any) -> dict[str, Any]:
    response = post_json(client, WANTED | more, at=KEYS)
    assert response.status_code == 201, response.content
    assert response["Cache-Control"] == "no-store"
    key: dict[str, Any] = response.json()
    return key


def one(key: dict[str, Any], *more: str) -> str:
    return "/".join([KEYS, key["keyId"], *more])


def changed(client: APIClient, key: dict[str, Any], **values: Any) -> Any:
    return client.generic("PATCH", one(key), json.dumps(values), content_type="application/json")


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


def test_a_new_key_has_a_secret_with_a_checksum(api: APIClient) -> None:
    key = made(api)
    assert re.fullmatch(r"vgsk_[0-9A-Za-z]{8}_[0-9A-Za-z]{46}", key["key"])
    assert key["key"].startswith(f"{key['prefix']}_")
    assert key["prefix"] == f"vgsk_{key['keyId']}"
    assert api_keys.checksum(key["key"][:-6]) == key["key"][-6:]


def test_the_checksum_is_the_crc_of_the_text_in_base_62() -> None:
    assert api_keys.checksum("") == "000000"
    assert api_keys.checksum("123456789") == "3jZRME"  # 0xCBF43926, the check value of CRC-32


def test_the_database_has_the_digest_and_not_the_secret(api: APIClient) -> None:
    secret = made(api)["key"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT key::text FROM generation_api_keys AS key")
        [(row,)] = cursor.fetchall()
    assert secret not in row
    assert api_keys.digest(secret) in row
    assert secret[14:] not in str(list(LogEntry.objects.values()))


def test_a_key_is_shown_with_all_its_limits_but_without_its_secret(api: APIClient) -> None:
    limits = {
        "expiresAt": "2099-01-01T00:00:00.000Z",
        "rate": "10/m",
        "dailyBudgetUsd": 2.5,
        "maxActive": 3,
        "maxPriority": "high",
        "projectIds": ["dragons"],
        "models": ["openmoji-17"],
    }
    key = made(api, **limits)
    del key["key"]
    assert key == key | WANTED | limits
    assert key.keys() - limits.keys() == {
        "keyId", "prefix", "name", "scopes", "createdAt", "lastUsedAt", "lastUsedFrom", "previousUntil",
    }  # fmt: skip
    assert api.get(KEYS).json() == {"results": [key], "next": None, "previous": None}
    assert api.get(one(key)).json() == key


def test_the_list_begins_with_the_newest_key(api: APIClient) -> None:
    names = [made(api, name=name)["name"] for name in ("first", "second", "third")]
    assert [key["name"] for key in api.get(KEYS).json()["results"]] == names[::-1]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("name", "", "blank"),
        ("name", "n" * 101, "max_length"),
        ("name", 7, "invalid"),
        ("scopes", [], "empty"),
        ("scopes", "requests:read", "not_a_list"),
        ("expiresAt", "2001-01-01T00:00:00Z", "past"),
        ("expiresAt", 4_000_000_000, "invalid"),
        ("rate", "fast", "rate"),
        ("rate", "0/m", "rate"),
        ("rate", "5/0s", "rate"),
        ("dailyBudgetUsd", -1, "min_value"),
        ("dailyBudgetUsd", "5", "invalid"),
        ("dailyBudgetUsd", 1.001, "max_decimal_places"),
        ("dailyBudgetUsd", 2_000_000, "max_value"),
        ("maxActive", 0, "min_value"),
        ("maxActive", 1001, "max_value"),
        ("maxActive", True, "invalid"),
        ("maxPriority", "immediate", "invalid_choice"),
        ("projectIds", [], "empty"),
        ("projectIds", [f"p{index}" for index in range(101)], "max_length"),
        ("models", ["gpt-imagine"], "unknown"),
    ],
)
def test_a_bad_value_names_its_field(api: APIClient, field: str, value: Any, code: str) -> None:
    assert_refused_field(post_json(api, WANTED | {field: value}, at=KEYS), field, code)
    assert not ApiKey.objects.exists()


def test_a_name_in_a_list_counts_once(api: APIClient) -> None:
    key = made(api, scopes=["metrics", "metrics"], projectIds=["dragons", " dragons"])
    assert (key["scopes"], key["projectIds"]) == (["metrics"], ["dragons"])


def test_an_unknown_scope_names_its_place(api: APIClient) -> None:
    assert_refused_field(post_json(api, WANTED | {"scopes": ["everything"]}, at=KEYS), "scopes[0]", "invalid_choice")


def test_a_change_keeps_what_it_does_not_name(api: APIClient) -> None:
    key = made(api, rate="10/m", maxActive=3)
    answer = changed(api, key, name="the press", maxActive=None, dailyBudgetUsd=1)
    assert answer.status_code == 200, answer.content
    assert answer.json() == api.get(one(key)).json()
    assert [answer.json()[name] for name in ("name", "rate", "maxActive", "dailyBudgetUsd")] == [
        "the press", "10/m", None, 1.0,
    ]  # fmt: skip


def test_a_change_to_nothing_is_refused(api: APIClient) -> None:
    key = made(api)
    for values in ({"name": None}, {"scopes": None}):
        assert changed(api, key, **values).json()["name"] == WANTED["name"]
    assert_error(changed(api, key, scopes=[]), 400, "validation_error")


def test_a_rotated_key_has_two_secrets_for_the_overlap(api: APIClient, alice: User) -> None:
    key = made(api)
    response = post_json(api, {"overlapHours": 2}, at=one(key, "rotate"))
    assert response.status_code == 200, response.content
    new = response.json()
    assert new["key"] != key["key"]
    assert new["keyId"] == key["keyId"]
    assert timedelta(minutes=119) < datetime.fromisoformat(new["previousUntil"]) - datetime.now(UTC)
    for secret in (key["key"], new["key"]):
        assert client_with(secret).get(STATUS).status_code == 200
    ApiKey.objects.update(previous_until=datetime.now(UTC) - timedelta(seconds=1))
    clear_all()
    assert client_with(key["key"]).get(STATUS).status_code == 401
    assert client_with(new["key"]).get(STATUS).status_code == 200


def test_a_key_rotated_without_overlap_ends_its_secret_at_once(api: APIClient) -> None:
    key = made(api)
    client = client_with(key["key"])
    assert client.get(STATUS).status_code == 200
    new = post_json(api, {"overlapHours": 0}, at=one(key, "rotate")).json()
    assert new["previousUntil"] is None
    assert client.get(STATUS).status_code == 401


@pytest.mark.parametrize("hours", [-1, 73, "2", 1.5])
def test_an_overlap_is_at_most_three_days(api: APIClient, hours: Any) -> None:
    key = made(api)
    assert_error(post_json(api, {"overlapHours": hours}, at=one(key, "rotate")), 400, "validation_error")


def test_a_revoked_key_is_gone(api: APIClient) -> None:
    key = made(api)
    assert client_with(key["key"]).get(STATUS).status_code == 200
    response = api.delete(one(key))
    assert (response.status_code, response.content) == (204, b"")
    assert client_with(key["key"]).get(STATUS).status_code == 401
    assert api.get(KEYS).json()["results"] == []
    for again in (api.delete(one(key)), api.get(one(key)), post_json(api, {}, at=one(key, "rotate"))):
        assert_error(again, 404, "not_found")


def test_keys_of_others_are_as_unknown_ones(api: APIClient, stranger: APIClient, staff: APIClient) -> None:
    key = made(api)
    for other in (stranger, staff):
        assert other.get(KEYS).json()["results"] == []
        for method, at in (("get", one(key)), ("delete", one(key)), ("post", one(key, "rotate"))):
            unknown = at.replace(key["keyId"], "zzzzzzzz")
            assert shown(getattr(other, method)(at)) == shown(getattr(other, method)(unknown))
    assert ApiKey.objects.get().revoked_at is None


def test_the_51st_key_is_one_too_many(api: APIClient, alice: User) -> None:
    first = made(api)
    for _ in range(api_keys.MOST_KEYS - 1):
        key_of(alice)
    assert_error(post_json(api, WANTED, at=KEYS), 409, "too_many_keys")
    api.delete(one(first))
    made(api)


def test_no_key_may_see_or_change_keys(alice: User) -> None:
    key, secret = key_of(alice)
    client, at = client_with(secret), f"{KEYS}/{key.pk}"
    calls = [
        client.get(KEYS), post_json(client, WANTED, at=KEYS), client.get(at), client.delete(at),
        client.generic("PATCH", at, "{}", content_type="application/json"), post_json(client, {}, at=f"{at}/rotate"),
    ]  # fmt: skip
    for response in calls:
        assert_error(response, 403, "permission_denied")
    assert ApiKey.objects.get().revoked_at is None


def test_no_caller_sees_why_a_key_is_not_valid(alice: User, bob: User) -> None:
    _, revoked = key_of(alice)
    ApiKey.objects.update(revoked_at=datetime.now(UTC))
    _, expired = key_of(alice, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    _, of_inactive = key_of(bob)
    User.objects.filter(pk=bob.pk).update(is_active=False)
    unknown = api_keys.new_secret("aaaaaaaa")
    malformed = [unknown[:-1] + "!", f"{unknown}a", "vgsk_", "vgsk_é", unknown[:30]]
    answers = [
        shown(client_with(secret).get(STATUS)) for secret in (revoked, expired, of_inactive, unknown, *malformed)
    ]
    assert {answer[0] for answer in answers} == {401}
    assert all(answer == answers[0] for answer in answers)
    assert json.loads(answers[0][1])["code"] == "token_not_valid"


def test_each_invalid_key_costs_one_lookup(alice: User, django_assert_num_queries: Any) -> None:
    """So that the time tells no more than the answer."""
    _, revoked = key_of(alice)
    ApiKey.objects.update(revoked_at=datetime.now(UTC))
    unknown = api_keys.new_secret("aaaaaaaa")
    for secret in (revoked, unknown, unknown[:-1], "vgsk_"):
        client = client_with(secret)
        with django_assert_num_queries(1):
            assert client.get(STATUS).status_code == 401


def test_a_key_costs_one_lookup_for_two_seconds(alice: User, django_assert_num_queries: Any) -> None:
    _, secret = key_of(alice)
    with django_assert_num_queries(4):  # the lookup, and the use that is noted in a transaction
        assert api_keys.find(secret, address="") is not None
    clear_all()
    with django_assert_num_queries(1):
        assert api_keys.find(secret, address="") is not None
    with django_assert_num_queries(0):
        assert api_keys.find(secret, address="") is not None


def test_a_key_in_the_address_is_not_accepted(alice: User) -> None:
    _, secret = key_of(alice)
    for name in ("key", "api_key", "access_token", "token"):
        assert_error(client_for(None).get(STATUS, {name: secret}), 401, "not_authenticated")


def test_the_use_of_a_key_is_noted_once_a_minute(alice: User) -> None:
    key, secret = key_of(alice)
    client_with(secret).get(STATUS, REMOTE_ADDR="192.0.2.7")
    key.refresh_from_db()
    noted = key.last_used_at
    assert noted is not None
    assert key.last_used_from == "192.0.2.7"
    clear_all()
    client_with(secret).get(STATUS, REMOTE_ADDR="192.0.2.8")
    key.refresh_from_db()
    assert key.last_used_at == noted
    ApiKey.objects.update(last_used_at=noted - timedelta(minutes=2))
    clear_all()
    client_with(secret).get(STATUS, REMOTE_ADDR="192.0.2.8")
    key.refresh_from_db()
    assert key.last_used_from == "192.0.2.8"


def test_the_last_use_is_shown_to_the_minute(api: APIClient, alice: User) -> None:
    key, _ = key_of(alice)
    ApiKey.objects.update(last_used_at=datetime(2026, 11, 28, 10, 20, 30, 400_000, tzinfo=UTC))
    assert api.get(f"{KEYS}/{key.pk}").json()["lastUsedAt"] == "2026-11-28T10:20:00.000Z"


def test_making_changing_rotating_and_revoking_are_in_the_audit_log(api: APIClient) -> None:
    key = made(api)
    changed(api, key, name="the press")
    post_json(api, {}, at=one(key, "rotate"))
    api.delete(one(key))
    entries = LogEntry.objects.filter(object_id=key["keyId"]).order_by("pk")
    assert [entry.change_message.split(" ")[0] for entry in entries] == ["Made", "Changed", "Rotated", "Revoked"]
    assert all("127.0.0.1" in entry.change_message for entry in entries)


def test_an_idempotency_key_does_not_store_the_secret(api: APIClient) -> None:
    first, second = (
        api.generic(
            "POST", KEYS, json.dumps(WANTED), content_type="application/json", headers={"Idempotency-Key": "once"}
        ).json()["keyId"]
        for _ in range(2)
    )
    assert first != second


def test_a_submit_with_a_key_names_it(alice: User) -> None:
    key, secret = key_of(alice)
    response = post_json(client_with(secret), body(), at=SUBMIT)
    assert response.status_code == 200
    row = alice.generation_requests.get()
    assert row.api_key_id == key.pk
