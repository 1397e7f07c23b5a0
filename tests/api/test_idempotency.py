"""The ``Idempotency-Key``: a repeated call is done once."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generation.db import queries
from generation.db.functions import Now
from generation.models import GenerationBatch, GenerationRequest, IdempotencyKey
from generation.requests import lifecycle
from tests.api.helpers import (
    BATCH,
    NOTHING,
    SUBMIT,
    answer,
    assert_error,
    batch_body,
    body,
    client_for,
    shown,
    stored_rows,
)
from tests.support.broker import messages
from tests.support.races import at_once

KEY = "3c9a5d0e-retry-1"
#: Calls that accept a key: path, body, and number of created requests.
CALLS = [(SUBMIT, body(), 1), (BATCH, batch_body(3, maxConcurrent=1), 3)]
calls = pytest.mark.parametrize(("at", "data", "made"), CALLS, ids=["submit", "batch"])


def _send(client: APIClient, data: Any = None, *, key: str = KEY, at: str = SUBMIT) -> Any:
    text: Any = data if isinstance(data, str) else json.dumps(body() if data is None else data)
    return client.generic("POST", at, text, content_type="application/json", HTTP_IDEMPOTENCY_KEY=key)


@calls
def test_a_repeated_call_gets_the_same_bytes_and_creates_nothing(api: APIClient, at: str, data: Any, made: int) -> None:
    first, second, third = (_send(api, data, at=at) for _ in range(3))
    assert first.status_code == 200
    assert "Idempotent-Replayed" not in first
    status, content, headers = shown(second)
    assert (status, content) == (200, first.content)
    assert headers == shown(first)[2] | {"Idempotent-Replayed": "true"}
    assert shown(third) == shown(second)
    assert stored_rows() == (made, made, made)


def test_the_first_response_is_replayed_whatever_happened_since(api: APIClient, alice: User) -> None:
    first = _send(api)
    assert lifecycle.cancel([first.json()["requestId"]], actor=alice)
    assert _send(api).content == first.content


def test_without_a_key_a_repeated_call_is_done_twice(api: APIClient) -> None:
    _send(api, key="one")
    for _ in range(2):
        assert api.post(SUBMIT, body(), "json").status_code == 200
    assert stored_rows() == (3, 3, 3)


@pytest.mark.parametrize(
    "again",
    [
        '{"prompt":"A friendly dragon playing in a garden","type":"coloring-page"}',
        ' { "type" : "coloring-page",\n "prompt" : "A friendly dragon playing in a g\\u0061rden" } ',
    ],
    ids=["other order", "other layout"],
)
def test_the_layout_of_the_json_does_not_matter(api: APIClient, again: str) -> None:
    assert _send(api, again).content == _send(api).content
    assert stored_rows() == (1, 1, 1)


def test_a_trailing_slash_makes_no_difference(api: APIClient) -> None:
    assert _send(api, at=f"{SUBMIT}/").content == _send(api).content


OTHER_BODIES = {
    "another prompt": body(prompt="A friendly dragon playing in a wood"),
    "a space in the prompt": body(prompt=body()["prompt"] + " "),
    "another priority": body(priority="low"),
    "the default in words": body(priority="normal"),
    "something unknown": body(mine=1),
    "a number": body(metadata={"mine": 1}),
}


@pytest.mark.parametrize("other", OTHER_BODIES.values(), ids=OTHER_BODIES.keys())
def test_another_body_with_the_key_is_rejected_and_the_first_is_kept(api: APIClient, other: dict[str, Any]) -> None:
    first = _send(api)
    assert_error(_send(api, other), 409, "idempotency_key_reused")
    assert stored_rows() == (1, 1, 1)
    assert _send(api).content == first.content


def test_different_numbers_are_different_bodies(api: APIClient) -> None:
    for value, status in ((1, 200), (1.0, 409), (True, 409), ("1", 409), (None, 409), (1, 200)):
        assert _send(api, body(metadata={"mine": value})).status_code == status


def test_a_key_of_a_submit_cannot_be_used_for_a_batch(api: APIClient) -> None:
    either = body() | batch_body(1)
    assert _send(api, either).status_code == 200
    assert_error(_send(api, either, at=BATCH), 409, "idempotency_key_reused")
    assert_error(_send(api, body(), at=BATCH), 400, "validation_error")
    assert not GenerationBatch.objects.exists()


@calls
def test_the_same_key_of_another_user_is_independent(
    api: APIClient, stranger: APIClient, at: str, data: Any, made: int
) -> None:
    hers, his = _send(api, data, at=at), _send(stranger, data, at=at)
    assert "Idempotent-Replayed" not in his
    assert hers.content != his.content
    assert _send(stranger, data, at=at).content == his.content
    assert GenerationRequest.objects.count() == 2 * made


def test_another_users_key_with_another_body_is_no_conflict(api: APIClient, staff: APIClient) -> None:
    _send(api)
    assert _send(staff, body(priority="low")).status_code == 200


@pytest.mark.parametrize(("age", "replayed"), [(timedelta(hours=23, minutes=59), True), (timedelta(hours=24), False)])
@pytest.mark.parametrize("other", [None, body(priority="low")], ids=["same body", "other body"])
def test_after_a_day_a_key_is_new(api: APIClient, age: timedelta, *, replayed: bool, other: Any) -> None:
    first = _send(api)
    IdempotencyKey.objects.update(created_at=Now() - age)
    again = _send(api, other)
    if not replayed:
        assert "Idempotent-Replayed" not in again
        assert answer(again)["requestId"] != first.json()["requestId"]
        assert _send(api, other).content == again.content
        assert IdempotencyKey.objects.count() == 1
    elif other:
        assert_error(again, 409, "idempotency_key_reused")
    else:
        assert again.content == first.content


GOOD_KEYS = ["x", "x" * 255, " with a space ", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "0"]
BAD_KEYS = {
    "empty": "",
    "256 characters": "x" * 256,
    "5,000 characters": "x" * 5_000,
    "not ASCII": "schlüssel",
    "bytes": "\xff\xfe",
    "a tab": "a\tb",
    "a line": "a\nb",
    "NUL": "a\0b",
    "delete": "a\x7fb",
}


@pytest.mark.parametrize("key", GOOD_KEYS, ids=["one", "255", "spaces", "signs", "zero"])
def test_a_key_may_be_any_printable_ascii(api: APIClient, key: str) -> None:
    assert _send(api, key=key).content == _send(api, key=key).content
    assert stored_rows() == (1, 1, 1)


@calls
@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_an_invalid_key_is_rejected(api: APIClient, at: str, data: Any, made: int, key: str) -> None:
    error = assert_error(_send(api, data, key=key, at=at), 400, "validation_error")
    assert [fault["path"] for fault in error["errors"]] == ["Idempotency-Key"]
    assert stored_rows() == NOTHING


@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_keys_are_case_sensitive(api: APIClient, case: Any) -> None:
    assert _send(api, key="Key").content != _send(api, key=case("Key")).content


@pytest.mark.parametrize(
    ("at", "bad", "good"),
    [
        (SUBMIT, body(prompt="short"), body()),
        (SUBMIT, "{", body()),
        (BATCH, {"requests": [body(), body(prompt="short")]}, batch_body(2)),
    ],
    ids=["submit", "no JSON", "batch"],
)
def test_a_rejected_call_uses_up_no_key(api: APIClient, at: str, bad: Any, good: Any) -> None:
    assert_error(_send(api, bad, at=at), 400)
    assert not IdempotencyKey.objects.exists()
    made = _send(api, good, at=at)
    assert made.status_code == 200
    assert "Idempotent-Replayed" not in made


@calls
def test_a_server_error_stores_nothing_and_uses_up_no_key(
    api: APIClient, monkeypatch: pytest.MonkeyPatch, at: str, data: Any, made: int
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(queries, "SUBMIT", queries.SUBMIT.replace("SELECT id, 1, ''", "SELECT id, -1, ''"))
        assert_error(_send(api, data, at=at), 500, "internal")
    assert stored_rows() == NOTHING
    assert not GenerationBatch.objects.exists()
    assert not IdempotencyKey.objects.exists()
    assert "Idempotent-Replayed" not in _send(api, data, at=at)
    assert stored_rows() == (made, made, made)


def test_an_invalid_body_with_a_used_key_is_no_conflict(api: APIClient) -> None:
    _send(api)
    assert_error(_send(api, body(prompt="short")), 400, "validation_error")


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("empty_queues")
@calls
def test_twenty_concurrent_calls_with_one_key_are_one(alice: User, at: str, data: Any, made: int) -> None:
    for turn in range(2):
        answers: list[Any] = []

        def send() -> bool:
            response = _send(client_for(alice), data, key=f"{KEY}{turn}", at=at)
            answers.append(response)
            return "Idempotent-Replayed" in response

        replayed = at_once(*[send] * 20)
        assert replayed.count(True) == 19
        assert {(response.status_code, response.content) for response in answers} == {(200, answers[0].content)}
        assert GenerationRequest.objects.count() == made * (turn + 1)
    assert sum(map(len, messages().values())) == 2  # the limit of the batch is one


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("empty_queues")
def test_of_two_concurrent_bodies_with_one_key_one_is_accepted(alice: User) -> None:
    for turn in range(5):

        def send(priority: str) -> bool:
            response = _send(client_for(alice), body(priority=priority), key=f"{KEY}{turn}")
            assert response.status_code in {200, 409}
            return bool(response.status_code == 200)

        assert at_once(lambda: send("low"), lambda: send("high")).count(True) == 1
        assert GenerationRequest.objects.count() == turn + 1
