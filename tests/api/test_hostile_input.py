"""Property tests: any input gets a response of the contract, and only accepted input is stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from generation.api.visible_length import visible_length
from generation.models import GenerationRequest
from tests.api.helpers import (
    NOTHING,
    OF_ONE_REQUEST,
    UNKNOWN_ID,
    address,
    assert_error,
    body,
    completed,
    post_bytes,
    stored_rows,
    token,
)

# The same examples in every run. Fixtures are shared by all examples of a test, and each example is rolled back.
repeatable = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=75,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(autouse=True)
def _long_transaction(db: None) -> None:
    """Let the transaction of the test last: between two examples Hypothesis may think for longer than a session of the
    product may be idle."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")


# --- JSON as text, to include values that Python objects cannot express -----------------------------------------------

_FIELDS = ["type", "prompt", "priority", "projectId", "pageId", "metadata", "another"]
_KEYS = [
    *("title", "imageStyle", "aspectRatio", "maxAttempts", "provider", "model", "quality", "seed", "negativePrompt"),
    *("outputFormat", "useCache", "another"),
]
_CHARACTERS = st.characters() | st.sampled_from(["\0", "\ud800", "\udfff", "\ufeff", "\u202e", "\U0010ffff"])
_STRINGS = st.text(_CHARACTERS, max_size=20) | st.sampled_from(
    ["x" * 10, "x" * 256, "x" * 1_001, "cover", "low", "1:1"]
)
_NUMBERS = (
    st.integers()
    | st.integers(min_value=-(10**400), max_value=10**400)
    | st.floats()
    | st.sampled_from([0, 1, 10, 2**63, 2**64, -(2**63)])
)
_SCALARS = (st.none() | st.booleans() | _NUMBERS | _STRINGS).map(json.dumps) | st.sampled_from(
    ["9" * 5_000, "1e999", "-1e400", "1E400000", "NaN", "-Infinity", r'"\ud83d"', r'"\u0000"']
)
_NAMES = (_STRINGS | st.sampled_from(_FIELDS + _KEYS)).map(json.dumps)


def _object(members: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{name}:{value}" for name, value in members) + "}"


def _deep(value: str, levels: int, opening: str) -> str:
    return opening * levels + value + ("]" if opening == "[" else "}") * levels


_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5).map(lambda values: f"[{','.join(values)}]")
        | st.lists(st.tuples(_NAMES, inner), max_size=5).map(_object)
    ),
    max_leaves=15,
) | st.builds(_deep, _SCALARS, st.integers(0, 30) | st.integers(0, 30_000), st.sampled_from(["[", '{"a":']))


@contextmanager
def _rolled_back() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def _submit(api: APIClient, data: bytes) -> None:
    """Assert that the call was accepted and is stored and shown, or was rejected and is not stored."""
    with _rolled_back():
        response = post_bytes(api, data)
        if response.status_code == 200:
            assert stored_rows() == (1, 1, 1)
            shown = api.get(address("status", response.json()["requestId"]))
            assert (shown.status_code, shown.json()["status"]) == (200, "queued")
        else:
            assert response.status_code in {400, 413}
            assert_error(response, response.status_code)
            assert stored_rows() == NOTHING


@repeatable
@given(_VALUES)
def test_any_json_as_the_body(api: APIClient, text: str) -> None:
    _submit(api, text.encode())


@repeatable
@given(st.lists(st.tuples(st.sampled_from(_FIELDS), _VALUES), min_size=1, max_size=3))
def test_any_json_as_a_field(api: APIClient, fields: list[tuple[str, str]]) -> None:
    members = {name: json.dumps(value) for name, value in body().items()} | dict(fields)
    _submit(api, _object([(json.dumps(name), value) for name, value in members.items()]).encode())


@repeatable
@given(st.lists(st.tuples(st.sampled_from(_KEYS).map(json.dumps) | _NAMES, _VALUES), max_size=4))
def test_any_json_in_metadata(api: APIClient, members: list[tuple[str, str]]) -> None:
    good = json.dumps(body())
    _submit(api, f'{good[:-1]}, "metadata": {_object(members)}}}'.encode())


@repeatable
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=10, max_size=1_000))
@example("\u3000" * 5 + "a dragon in a garden" + "\x85")
@example("\x1c" * 20)
def test_any_prompt_comes_back_without_surrounding_space(api: APIClient, prompt: str) -> None:
    with _rolled_back():
        response = post_bytes(api, json.dumps(body(prompt=prompt)).encode())
        assert response.status_code == (200 if visible_length(prompt) >= 10 else 400)
        if response.status_code == 200:
            assert api.get(address("status", response.json()["requestId"])).json()["prompt"] == prompt.strip()


@repeatable
@given(st.binary(max_size=200))
@example(b"\xff\xfe{\0}\0")
def test_any_bytes_as_the_body(api: APIClient, data: bytes) -> None:
    _submit(api, data)


@repeatable
@given(st.data())
def test_a_valid_body_with_changed_bytes(api: APIClient, data: st.DataObject) -> None:
    changed = bytearray(json.dumps(body(metadata={"seed": 7, "mine": [None, "é"]}), ensure_ascii=False).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    _submit(api, bytes(changed))


@repeatable
@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_any_content_type(api: APIClient, kind: str) -> None:
    with _rolled_back():
        response = post_bytes(api, b"{", kind)
        assert_error(response, response.status_code)
        assert response.status_code in {400, 415}


# --- Headers, ids and queries -----------------------------------------------------------------------------------------

_HEADER_TEXT = st.text(st.characters(max_codepoint=255), max_size=80)


@repeatable
@given(_HEADER_TEXT | _HEADER_TEXT.map(lambda text: f"Bearer {text}"))
def test_no_random_authorization_header_is_accepted(anonymous: APIClient, header: str) -> None:
    response = anonymous.get(address("status", UNKNOWN_ID), HTTP_AUTHORIZATION=header)
    assert_error(response, 401)
    assert response["WWW-Authenticate"].startswith("Bearer")


_CLAIMS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(_CHARACTERS, max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@repeatable
@given(
    st.dictionaries(
        st.sampled_from(
            ["user_id", "exp", "iat", "nbf", "jti", "iss", "aud", "sub", "token_type", "hash_password", "another"]
        ),
        _CLAIMS,
        min_size=1,
    )
)
def test_any_claims_are_accepted_or_rejected_without_an_error(
    anonymous: APIClient, alice: User, claims: dict[str, Any]
) -> None:
    with _rolled_back():
        credentials = f"Bearer {token(alice, **claims)}"
        response = anonymous.get(address("status", UNKNOWN_ID), HTTP_AUTHORIZATION=credentials)
        assert_error(response, response.status_code)
        assert response.status_code in {401, 404}
        if str(claims.get("user_id", alice.pk)) != str(alice.pk):
            assert response.status_code == 401


@repeatable
@given(
    st.sampled_from(sorted(OF_ONE_REQUEST)), st.binary(min_size=1, max_size=80) | st.text(max_size=40).map(str.encode)
)
def test_any_random_id_is_not_found(api: APIClient, endpoint: str, request_id: bytes) -> None:
    response = api.generic(OF_ONE_REQUEST[endpoint], address(endpoint, quote(request_id)))
    assert_error(response, 404, "not_found")


@pytest.fixture
def done(alice: User) -> GenerationRequest:
    """A completed request of Alice's."""
    return completed(alice)


_QUERY_TEXT = st.text(_CHARACTERS.filter(lambda character: not "\ud800" <= character <= "\udfff"), max_size=20)
_QUERIES = st.lists(
    st.tuples(st.sampled_from(["imageData", "expires", "signature", "format", "another"]), _QUERY_TEXT), max_size=4
).map(urlencode) | st.binary(max_size=40).map(quote)


@repeatable
@given(_QUERIES)
def test_any_query_on_a_status(api: APIClient, done: GenerationRequest, query: str) -> None:
    response = api.get(f"{address('status', done.pk)}?{query}")
    if response.status_code != 200:
        assert_error(response, 400, "validation_error")


@repeatable
@given(st.sampled_from(["image", "thumbnail"]), _QUERIES)
@example("image", "expires=%D9%A1&signature=%FF")
@example("image", f"expires={10**12 - 1}&signature=x")
def test_no_random_query_opens_an_image(anonymous: APIClient, done: GenerationRequest, kind: str, query: str) -> None:
    assert_error(anonymous.get(f"{address(kind, done.pk)}?{query}"), 401, "not_authenticated")
