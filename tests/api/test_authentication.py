"""Validity of tokens. Each bad token is tried at a status, an image and a submit."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from generation.access.authentication import LEEWAY, BearerAuthentication
from tests.api.helpers import (
    NOTHING,
    OF_ONE_REQUEST,
    SUBMIT,
    UNKNOWN_ID,
    address,
    assert_error,
    body,
    post_bytes,
    post_json,
    stored_rows,
    token,
)
from tests.support.requests import queued
from tests.support.stack import wait_until


def _in_base64(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _unsigned(user: User) -> str:
    _, payload, _ = token(user).split(".")
    return f"{_in_base64({'alg': 'none', 'typ': 'JWT'})}.{payload}."


def _signed_with_an_empty_signature(user: User) -> str:
    return token(user).rpartition(".")[0] + "."


def _with_another_payload(user: User) -> str:
    header, _, signature = token(user).split(".")
    return ".".join([header, token(user, user_id=str(user.pk + 1)).split(".")[1], signature])


def _deep_header(user: User) -> str:
    return base64.urlsafe_b64encode(b"[" * 30_000).decode() + ".e30.x"


def _of_an_inactive_user(user: User) -> str:
    good = token(user)
    User.objects.filter(pk=user.pk).update(is_active=False)
    return good


def _of_a_deleted_user(user: User) -> str:
    good = token(user)
    user.delete()
    return good


def _from_before_a_new_password(user: User) -> str:
    good = token(user)
    user.set_password("a new one, and long")
    user.save()
    return good


def _refresh_token(user: User) -> str:
    return str(RefreshToken.for_user(user))


def _with(**claims: Any) -> Callable[[User], str]:
    return lambda user: token(user, **claims)


BAD_TOKENS: dict[str, Callable[[User], str]] = {
    "garbage": lambda user: "garbage",
    "two dots": lambda user: "a.b.c",
    "only dots": lambda user: "..",
    "not ASCII": lambda user: "\xff\xfe.\xe9.\xe9",
    "eight thousand characters": lambda user: "a" * 8_000,
    "a header nested without end": _deep_header,
    "wrong key": _with(key="another key of thirty-two bytes or more"),
    "wrong algorithm": _with(algorithm="HS512"),
    "alg none": _unsigned,
    "no signature": _signed_with_an_empty_signature,
    "another token's payload": _with_another_payload,
    "expired": _with(exp=int(time.time()) - 60),
    "no exp": _with(exp=None),
    "exp is a word": _with(exp="tomorrow"),
    "exp is beyond all calendars": _with(exp=10**18),
    "exp is infinite": _with(exp=float("inf")),
    "exp is a list": _with(exp=[]),
    "not yet valid": _with(nbf=int(time.time()) + 86_400),
    "issued in the future": _with(iat=int(time.time()) + 86_400),
    "iat is a list": _with(iat=[]),
    "wrong issuer": _with(iss="another-service"),
    "no issuer": _with(iss=None),
    "wrong audience": _with(aud="another-service"),
    "no audience": _with(aud=None),
    "audience is a number": _with(aud=7),
    "refresh token": _refresh_token,
    "token type refresh": _with(token_type="refresh"),
    "no token type": _with(token_type=None),
    "token type is a list": _with(token_type=["access"]),
    "no jti": _with(jti=None),
    "jti is a list": _with(jti=["x"]),
    "jti is a number": _with(jti=10**30),
    "jti is true": _with(jti=True),
    "no password hash": _with(hash_password=None),
    "password hash is a list": _with(hash_password=[]),
    "inactive user": _of_an_inactive_user,
    "deleted user": _of_a_deleted_user,
    "changed password": _from_before_a_new_password,
    "no user id": _with(user_id=None),
    "user id is a word": _with(user_id="abc"),
    "user id is empty": _with(user_id=""),
    "user id is a list": lambda user: token(user, user_id=[user.pk]),
    "user id is an object": lambda user: token(user, user_id={"pk": user.pk}),
    "user id is NUL": _with(user_id="\0"),
    "user id is half a surrogate pair": _with(user_id="\ud800"),
    "user id is huge": _with(user_id=10**30),
    "user id is huge, in a string": _with(user_id="1" * 5_000),
    "user id is negative": _with(user_id=-1),
    "user id is zero": _with(user_id=0),
    "user id is true": _with(user_id=True),
    "user id is false": _with(user_id=False),
    "user id is a fraction": lambda user: token(user, user_id=user.pk + 0.5),
    "user id is a float": lambda user: token(user, user_id=float(user.pk)),
    "user id is infinite": _with(user_id=float("inf")),
    "user id has a space": lambda user: token(user, user_id=f" {user.pk}"),
    "user id has a plus": lambda user: token(user, user_id=f"+{user.pk}"),
}


@pytest.mark.parametrize("bad", BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
def test_a_bad_token_is_rejected_everywhere(anonymous: APIClient, bad: Callable[[User], str]) -> None:
    # The primary key 1, which equals true and 1.0 in some databases.
    user = User.objects.create(pk=1, username="alice")
    credentials = f"Bearer {bad(user)}"
    for method, at in [("POST", SUBMIT), *((method, address(e, UNKNOWN_ID)) for e, method in OF_ONE_REQUEST.items())]:
        response = anonymous.generic(method, at, HTTP_AUTHORIZATION=credentials)
        assert response.status_code == 401, response.content
        assert response.json() == {"error": "Invalid token", "code": "token_not_valid"}
        assert response["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("user_id", [str, int], ids=["a string", "a number"])
def test_a_user_id_may_be_a_string_or_a_number(
    anonymous: APIClient, alice: User, user_id: Callable[[int], object]
) -> None:
    good = token(alice, user_id=user_id(alice.pk))
    assert anonymous.get(address("status", queued(alice).pk), HTTP_AUTHORIZATION=f"Bearer {good}").status_code == 200


@pytest.mark.parametrize("jti", ["a\0b", "", "x" * 5_000, "\ud800"])
def test_a_token_is_valid_with_any_jti(anonymous: APIClient, alice: User, jti: str) -> None:
    good = token(alice, jti=jti)
    assert anonymous.get(address("status", queued(alice).pk), HTTP_AUTHORIZATION=f"Bearer {good}").status_code == 200


def _revoked(user: User) -> None:
    user.set_password("a new one, and long")
    user.save()


@pytest.mark.parametrize(
    "shut_out",
    [
        lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
        lambda user: User.objects.filter(pk=user.pk).delete(),
        _revoked,
    ],
    ids=["inactive", "deleted", "changed password"],
)
def test_a_revoked_user_is_rejected_within_seconds(api: APIClient, alice: User, shut_out: Any) -> None:
    def answer() -> int:
        return api.get(address("status", UNKNOWN_ID)).status_code

    assert answer() == 404
    shut_out(alice)
    wait_until(lambda: answer() == 401, seconds=3, what="a refusal")


@pytest.mark.django_db(transaction=True)
def test_a_submit_of_a_just_deleted_user_is_rejected(api: APIClient, alice: User) -> None:
    assert api.get(address("status", UNKNOWN_ID)).status_code == 404
    User.objects.filter(pk=alice.pk).delete()
    assert_error(post_json(api, body()), 401, "token_not_valid")
    assert stored_rows() == NOTHING


def test_a_cached_token_expires_on_time(anonymous: APIClient, alice: User) -> None:
    expiry = int(time.time()) + 3
    expired = expiry - int(LEEWAY.total_seconds())
    anonymous.credentials(HTTP_AUTHORIZATION=f"Bearer {token(alice, exp=expired)}")

    def answer() -> tuple[int, float]:
        began = time.time()  # the token is checked after this, however long the response takes
        return anonymous.get(address("status", UNKNOWN_ID)).status_code, began

    assert answer()[0] == 404
    seen = [answer()]
    while seen[-1][0] == 404 and seen[-1][1] < expiry + 1:
        seen.append(answer())
    assert seen[-1][0] == 401
    assert len(seen) > 1
    assert all(at < expiry + 0.1 for status, at in seen if status == 404)


def test_calls_do_not_share_a_user_object(alice: User) -> None:
    """Each call gets its own user object, although the row is cached."""
    good: Any = AccessToken.for_user(alice)
    first, second = (BearerAuthentication().get_user(good) for _ in range(2))
    assert first == second
    assert first is not second


# --- The header -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_scheme_is_case_insensitive(anonymous: APIClient, alice: User, scheme: str) -> None:
    credentials = f"{scheme} {AccessToken.for_user(alice)}"
    assert anonymous.get(address("status", queued(alice).pk), HTTP_AUTHORIZATION=credentials).status_code == 200


@pytest.mark.parametrize("spaces", ["  ", " \t "])
def test_several_spaces_before_the_token_are_accepted(anonymous: APIClient, alice: User, spaces: str) -> None:
    credentials = f"Bearer{spaces}{AccessToken.for_user(alice)} "
    assert anonymous.get(address("status", queued(alice).pk), HTTP_AUTHORIZATION=credentials).status_code == 200


NO_TOKEN = {
    "empty": "",
    "spaces": "   ",
    "basic": "Basic YWxpY2U6c2VjcmV0",
    "digest": 'Digest username="alice"',
    "a bare word": "garbage",
    "another scheme that begins alike": "Bearers x",
    "not ASCII": "\xe9\xff",
    "NUL": "\0",
}


@pytest.mark.parametrize("header", NO_TOKEN.values(), ids=NO_TOKEN.keys())
def test_a_header_without_a_bearer_token_is_ignored(anonymous: APIClient, header: str) -> None:
    response = anonymous.get(address("status", UNKNOWN_ID), HTTP_AUTHORIZATION=header)
    assert response.status_code == 401
    assert response.json() == {"error": "Access denied", "code": "not_authenticated"}
    assert response["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header", ["Bearer", "bearer ", "Bearer a b", "Bearer a, Bearer b", "Bearer \xe9", "Bearer \0"]
)
def test_a_bearer_header_without_one_well_formed_token_is_rejected(anonymous: APIClient, header: str) -> None:
    response = anonymous.get(address("status", UNKNOWN_ID), HTTP_AUTHORIZATION=header)
    assert response.json() == {"error": "Invalid token", "code": "token_not_valid"}
    assert response.status_code == 401


@pytest.mark.parametrize("header", ["", "Bearer garbage"])
def test_the_token_is_checked_before_the_body(anonymous: APIClient, header: str) -> None:
    anonymous.credentials(HTTP_AUTHORIZATION=header)
    assert_error(post_bytes(anonymous, b"{"), 401)


def test_a_session_alone_does_not_submit(alice: User) -> None:
    session_alone = APIClient(enforce_csrf_checks=True)
    session_alone.force_login(alice)
    assert_error(post_json(session_alone, body()), 403, "permission_denied")
    assert stored_rows() == NOTHING
