"""The token endpoints: obtain, refresh and verify tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.utils import timezone
from rest_framework.test import APIClient
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from tests.api.helpers import address, assert_error, client_for, post_bytes, post_json, token
from tests.support.races import at_once
from tests.support.requests import queued

OBTAIN, REFRESH, VERIFY = "/api/token", "/api/token/refresh", "/api/token/verify"
PASSWORD = "  a friendly dragon, with spaces around  "


@pytest.fixture(autouse=True)
def _quick_hashes(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def dora(db: None) -> User:
    """A user with a password."""
    user: User = User.objects.create_user("dora", password=PASSWORD)
    return user


def _signed_in(client: APIClient) -> dict[str, str]:
    answer: dict[str, str] = post_json(client, {"username": "dora", "password": PASSWORD}, at=OBTAIN).json()
    return answer


def _works(client: APIClient, user: User, access: str) -> bool:
    response = client.get(address("status", queued(user).pk), HTTP_AUTHORIZATION=f"Bearer {access}")
    assert response.status_code in {200, 401}
    return bool(response.status_code == 200)


@pytest.mark.parametrize("slash", ["", "/"])
def test_name_and_password_give_a_token_that_works(anonymous: APIClient, dora: User, slash: str) -> None:
    response = post_json(anonymous, {"username": "dora", "password": PASSWORD}, at=OBTAIN + slash)
    assert response.status_code == 200
    assert response.json().keys() == {"access", "refresh"}
    assert _works(anonymous, dora, response.json()["access"])


@pytest.mark.parametrize(
    "credentials",
    [
        {"username": "dora", "password": "wrong"},
        {"username": "dora", "password": PASSWORD.strip()},
        {"username": "unknown", "password": PASSWORD},
        {"username": "dora' --", "password": PASSWORD},
    ],
    ids=["wrong password", "trimmed password", "unknown name", "SQL"],
)
def test_wrong_credentials_are_rejected_with_the_same_message(
    anonymous: APIClient, dora: User, credentials: dict[str, str]
) -> None:
    response = post_json(anonymous, credentials, at=OBTAIN)
    error = assert_error(response, 401, "no_active_account")
    assert error["error"] == "No active account found with the given credentials"
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_an_inactive_user_gets_no_token(anonymous: APIClient, dora: User) -> None:
    User.objects.update(is_active=False)
    response = post_json(anonymous, {"username": "dora", "password": PASSWORD}, at=OBTAIN)
    assert_error(response, 401, "no_active_account")


def test_a_bad_token_in_the_header_does_not_prevent_sign_in(anonymous: APIClient, dora: User) -> None:
    anonymous.credentials(HTTP_AUTHORIZATION="Bearer expired")
    assert _signed_in(anonymous).keys() == {"access", "refresh"}


ODD_VALUES: dict[str, Any] = {
    "nothing": None,
    "empty": "",
    "spaces": "   ",
    "a number": 7,
    "true": True,
    "a list": ["dora"],
    "an object": {"name": "dora"},
    "NUL": "a\0b",
    "half a surrogate pair": "\ud800",
    "five thousand characters": "x" * 5_000,
}


@pytest.mark.parametrize("odd", ODD_VALUES.values(), ids=ODD_VALUES.keys())
@pytest.mark.parametrize(("at", "field"), [(OBTAIN, "username"), (REFRESH, "refresh"), (VERIFY, "token")])
def test_an_invalid_value_is_rejected_with_its_path(anonymous: APIClient, at: str, field: str, odd: object) -> None:
    others = {"password": "secret"} if at == OBTAIN else {}
    error = assert_error(post_json(anonymous, {field: odd} | others, at=at), 400, "validation_error")
    assert [fault["path"] for fault in error["errors"]] == [field]


@pytest.mark.parametrize("odd", [value for name, value in ODD_VALUES.items() if name != "spaces"])
def test_an_invalid_password_is_rejected_with_its_path(anonymous: APIClient, dora: User, odd: object) -> None:
    error = assert_error(post_json(anonymous, {"username": "dora", "password": odd}, at=OBTAIN), 400)
    assert [fault["path"] for fault in error["errors"]] == ["password"]


@pytest.mark.parametrize("at", [OBTAIN, REFRESH, VERIFY])
@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"7", b'"dora"', b"{", b"[" * 20_000, b"\xff"])
def test_an_invalid_body_is_rejected(anonymous: APIClient, at: str, data: bytes) -> None:
    assert_error(post_bytes(anonymous, data, at=at), 400)


@pytest.mark.parametrize("at", [OBTAIN, REFRESH, VERIFY])
def test_a_form_is_rejected(anonymous: APIClient, at: str) -> None:
    response = post_bytes(anonymous, b"username=dora", "application/x-www-form-urlencoded", at=at)
    assert_error(response, 415, "unsupported_media_type")


# --- Refresh ----------------------------------------------------------------------------------------------------------


def test_a_refresh_token_gives_a_new_pair_once(anonymous: APIClient, dora: User) -> None:
    first = _signed_in(anonymous)
    second = post_json(anonymous, {"refresh": first["refresh"]}, at=REFRESH).json()
    assert second.keys() == {"access", "refresh"}
    assert _works(anonymous, dora, second["access"])
    assert_error(post_json(anonymous, {"refresh": first["refresh"]}, at=REFRESH), 401, "token_not_valid")
    assert post_json(anonymous, {"refresh": second["refresh"]}, at=REFRESH).status_code == 200


CLOCKS: dict[str, tuple[str, int]] = {
    "issued ahead": ("iat", 5),
    "valid from ahead": ("nbf", 5),
    "expired just now": ("exp", -5),
}


@pytest.mark.parametrize(("claim", "seconds"), CLOCKS.values(), ids=CLOCKS.keys())
def test_a_clock_skew_of_seconds_is_accepted(anonymous: APIClient, dora: User, claim: str, seconds: int) -> None:
    claims: dict[str, Any] = {claim: int(time.time()) + seconds}
    assert _works(anonymous, dora, token(dora, **claims))
    for kind in ("access", "refresh"):
        other = token(dora, token_type=kind, **claims)
        assert post_json(anonymous, {"token": other}, at=VERIFY).status_code == 200
    assert post_json(anonymous, {"refresh": other}, at=REFRESH).status_code == 200


@pytest.mark.parametrize(("claim", "seconds"), CLOCKS.values(), ids=CLOCKS.keys())
def test_a_clock_skew_of_a_minute_is_rejected(anonymous: APIClient, dora: User, claim: str, seconds: int) -> None:
    claims: dict[str, Any] = {claim: int(time.time()) + 12 * seconds}
    assert not _works(anonymous, dora, token(dora, **claims))
    other = token(dora, token_type="refresh", **claims)
    for at, field in ((VERIFY, "token"), (REFRESH, "refresh")):
        assert_error(post_json(anonymous, {field: other}, at=at), 401, "token_not_valid")


def test_a_used_refresh_token_stays_blacklisted_during_the_leeway(anonymous: APIClient, dora: User) -> None:
    used = token(dora, token_type="refresh", exp=int(time.time()) - 3)
    assert post_json(anonymous, {"refresh": used}, at=REFRESH).status_code == 200
    call_command("prune", stdout=StringIO())
    assert_error(post_json(anonymous, {"refresh": used}, at=REFRESH), 401, "token_not_valid")
    OutstandingToken.objects.update(expires_at=timezone.now() - timedelta(minutes=1))
    call_command("prune", stdout=StringIO())
    assert not OutstandingToken.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_of_many_concurrent_uses_of_a_refresh_token_one_succeeds() -> None:
    user = User.objects.create_user("dora", password=PASSWORD)
    for refresh in (
        str(RefreshToken.for_user(user)),
        token(user, token_type="refresh"),
    ):  # with and without a row of the issued token
        use = partial(post_json, client_for(None), {"refresh": refresh}, at=REFRESH)
        statuses: list[int] = []
        at_once(*[lambda use=use, statuses=statuses: statuses.append(use().status_code)] * 20)
        assert sorted(statuses) == [200] + [401] * 19
    assert BlacklistedToken.objects.count() == 2
    assert OutstandingToken.objects.count() == 4


def _from_before_a_new_password(user: User) -> str:
    old = token(user, token_type="refresh")
    user.set_password("another password, and long")
    user.save()
    return old


def _of_an_inactive_user(user: User) -> str:
    User.objects.update(is_active=False)
    return token(user, token_type="refresh")


def _of_a_deleted_user(user: User) -> str:
    old = token(user, token_type="refresh")
    user.delete()
    return old


def _with(**claims: Any) -> Callable[[User], str]:
    return lambda user: token(user, **{"token_type": "refresh"} | claims)


BAD_REFRESH_TOKENS: dict[str, Callable[[User], str]] = {
    "garbage": lambda user: "garbage",
    "access token": lambda user: str(AccessToken.for_user(user)),
    "expired": _with(exp=int(time.time()) - 60),
    "no exp": _with(exp=None),
    "wrong key": _with(key="another key of thirty-two bytes or more"),
    "wrong audience": _with(aud="another-service"),
    "no user id": _with(user_id=None),
    "user id is zero": _with(user_id=0),
    "user id is a word": _with(user_id="abc"),
    "user id is a list": _with(user_id=[1]),
    "user id is NUL": _with(user_id="\0"),
    "no jti": _with(jti=None),
    "changed password": _from_before_a_new_password,
    "inactive user": _of_an_inactive_user,
    "deleted user": _of_a_deleted_user,
}


@pytest.mark.parametrize("bad", BAD_REFRESH_TOKENS.values(), ids=BAD_REFRESH_TOKENS.keys())
def test_a_bad_refresh_token_is_rejected(anonymous: APIClient, dora: User, bad: Callable[[User], str]) -> None:
    response = post_json(anonymous, {"refresh": bad(dora)}, at=REFRESH)
    assert_error(response, 401, "token_not_valid")
    assert response.json()["error"] == "Invalid token"


# --- Verify -----------------------------------------------------------------------------------------------------------


def test_a_valid_token_is_verified(anonymous: APIClient, dora: User) -> None:
    for good in _signed_in(anonymous).values():
        response = post_json(anonymous, {"token": good}, at=VERIFY)
        assert (response.status_code, response.json()) == (200, {})


@pytest.mark.parametrize(
    "bad",
    [bad for name, bad in BAD_REFRESH_TOKENS.items() if name != "access token"],
    ids=[name for name in BAD_REFRESH_TOKENS if name != "access token"],
)
def test_an_invalid_token_is_not_verified(anonymous: APIClient, dora: User, bad: Callable[[User], str]) -> None:
    assert_error(post_json(anonymous, {"token": bad(dora)}, at=VERIFY), 401, "token_not_valid")


def test_a_used_refresh_token_is_not_verified(anonymous: APIClient, dora: User) -> None:
    used = str(RefreshToken.for_user(dora))
    assert post_json(anonymous, {"refresh": used}, at=REFRESH).status_code == 200
    assert_error(post_json(anonymous, {"token": used}, at=VERIFY), 401, "token_not_valid")


@pytest.mark.parametrize("jti", ["\0", "\ud800", "x" * 300, ""], ids=["NUL", "half a surrogate pair", "long", "empty"])
@pytest.mark.parametrize(("at", "field"), [(REFRESH, "refresh"), (VERIFY, "token")])
def test_a_token_with_an_odd_jti_causes_no_error(
    anonymous: APIClient, dora: User, at: str, field: str, jti: str
) -> None:
    response = post_json(anonymous, {field: token(dora, token_type="refresh", jti=jti)}, at=at)
    if response.status_code != 200:  # databases differ in the accepted strings
        assert_error(response, 401, "token_not_valid")
