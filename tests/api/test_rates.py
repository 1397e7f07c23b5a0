"""Rate limits of users and IP addresses."""

from __future__ import annotations

import json
import socket
import time
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from config import settings as configured
from generation.access.authentication import LONGEST_PASSWORD
from generation.access.rate_limits import NAME_FACTOR
from generation.models import GenerationRequest, IdempotencyKey
from generation.states import Status
from tests.api.helpers import (
    BATCH,
    NOTHING,
    SUBMIT,
    answer,
    assert_error,
    batch_body,
    body,
    client_for,
    post_json,
    stored_rows,
)
from tests.support.races import at_once
from tests.support.requests import in_status

TOKEN = "/api/token"
DAY = 24 * 3600
WRONG = "wrong"


@pytest.fixture(autouse=True)
def _counted_from_nothing(settings: Any) -> None:
    """Separate counters for each test, with a limit of three per day, so that no period ends during a test."""
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid.uuid4().hex}}
    settings.SUBMIT_RATE = settings.TOKEN_RATE = "3/d"
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def _submit(client: APIClient, *, at: str = "192.0.2.1", key: str | None = None, data: Any = None) -> Any:
    """Submit from this IP address."""
    headers: Any = {} if key is None else {"HTTP_IDEMPOTENCY_KEY": key}
    return client.post(SUBMIT, body() if data is None else data, "json", REMOTE_ADDR=at, **headers)


def _batch(client: APIClient, count: int) -> Any:
    return client.post(BATCH, batch_body(count), "json", REMOTE_ADDR="192.0.2.1")


def _left(client: APIClient) -> int:
    """Return how many more calls are accepted, and use them up."""
    statuses = [_submit(client).status_code for _ in range(12)]
    assert sorted(statuses) == statuses
    assert set(statuses) <= {200, 429}
    return statuses.count(200)


def _assert_limited(response: Any, *, limit: int = 3, remaining: int = 0) -> None:
    assert_error(response, 429, "rate_limited")
    assert response["RateLimit-Limit"] == str(limit)
    assert response["RateLimit-Remaining"] == str(remaining)
    assert response["RateLimit-Reset"] == response["Retry-After"]
    assert 1 <= int(response["Retry-After"]) <= DAY


def test_the_rates_are_those_of_the_contract() -> None:
    assert (configured.SUBMIT_RATE, configured.TOKEN_RATE) == ("100/15m", "10/m")


# --- Submits ----------------------------------------------------------------------------------------------------------


def test_a_user_has_a_submit_limit_over_all_addresses(api: APIClient) -> None:
    for number in range(3):
        answer(_submit(api, at=f"192.0.2.{number}"))
    _assert_limited(_submit(api, at="192.0.2.9"))
    assert stored_rows() == (3, 3, 3)


def test_an_address_has_a_submit_limit_over_all_users(api: APIClient, stranger: APIClient) -> None:
    answer(_submit(api))
    answer(_submit(api))
    answer(_submit(stranger))
    _assert_limited(_submit(stranger))
    _assert_limited(_submit(api))


def test_a_call_rejected_for_the_address_does_not_count_for_the_user(api: APIClient, stranger: APIClient) -> None:
    assert _left(api) == 3
    for _ in range(5):
        _assert_limited(_submit(stranger))
    for number in range(3):
        answer(_submit(stranger, at=f"198.51.100.{number}"))


def test_a_batch_counts_its_requests(api: APIClient, settings: Any) -> None:
    settings.SUBMIT_RATE = "10/d"
    answer(_batch(api, 7))
    _assert_limited(_batch(api, 4), limit=10, remaining=3)
    assert GenerationRequest.objects.count() == 7
    answer(_batch(api, 3))
    _assert_limited(_batch(api, 1), limit=10)
    _assert_limited(_submit(api), limit=10)


def test_the_first_batch_may_not_exceed_the_limit(api: APIClient) -> None:
    _assert_limited(_batch(api, 4), remaining=3)
    assert stored_rows() == NOTHING
    assert _left(api) == 3


@pytest.mark.parametrize(
    ("at", "data", "status"),
    [
        (SUBMIT, body(prompt="short"), 400),
        (BATCH, {"requests": [body(), body(prompt="short")]}, 400),
        (BATCH, batch_body(4), 429),
    ],
    ids=["bad submit", "bad batch", "large batch"],
)
def test_a_rejected_call_does_not_count(api: APIClient, at: str, data: Any, status: int) -> None:
    for _ in range(5):
        assert post_json(api, data, at=at).status_code == status
    assert _left(api) == 3


def test_a_repeated_call_with_its_key_is_not_limited(api: APIClient) -> None:
    """It creates nothing and is as cheap as a status; a client that lost the response to a large batch needs it."""
    first = _submit(api, key="one")
    for _ in range(5):
        assert _submit(api, key="one").content == first.content
        assert_error(_submit(api, key="one", data=body(priority="low")), 409)
    assert _left(api) == 2
    assert _submit(api, key="one").content == first.content


def test_a_rate_limited_call_uses_up_no_key(api: APIClient, settings: Any) -> None:
    assert _left(api) == 3
    _assert_limited(_submit(api, key="one"))
    assert not IdempotencyKey.objects.exists()
    settings.SUBMIT_RATE = "9/d"
    assert "Idempotent-Replayed" not in _submit(api, key="one")


def test_a_retry_counts_as_a_submit(api: APIClient, alice: User, settings: Any) -> None:
    settings.SUBMIT_RATE = "2/15m"
    again = f"/api/visual-generation/retry/{in_status(alice, Status.FAILED).pk}"
    give_up = again.replace("/retry/", "/cancel/")
    for _ in range(2):
        assert api.post(again).status_code == 200
        assert api.delete(give_up).status_code == 200
    assert api.post(again).status_code == 429


def test_reads_and_cancels_are_not_limited(api: APIClient) -> None:
    request_id = answer(_submit(api))["requestId"]
    assert _left(api) == 2
    for _ in range(5):
        answer(api.get(f"/api/visual-generation/status/{request_id}"))
    answer(api.delete(f"/api/visual-generation/cancel/{request_id}"))


class Clock:
    """The clock of django-ratelimit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.time()
        self.step = 0.0
        monkeypatch.setattr("django_ratelimit.core.time", SimpleNamespace(time=self.read))

    def read(self) -> float:
        self.now += self.step
        return self.now


def test_calls_are_accepted_again_after_retry_after(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from other addresses, whose periods begin at other times."""
    clock = Clock(monkeypatch)
    for _ in range(2):
        statuses = [_submit(api, at=f"192.0.2.{number}").status_code for number in range(4)]
        assert statuses == [200, 200, 200, 429]
        clock.now += int(_submit(api)["Retry-After"]) + 1


def test_a_late_correction_of_a_counter_does_not_raise_the_limit(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The period ends between the increment and its correction, which must not reduce the next period's counter."""
    clock = Clock(monkeypatch)
    clock.step = DAY
    assert _batch(api, 100).status_code == 429
    clock.step = 0
    clock.now -= DAY
    statuses = [_submit(api, at=f"192.0.2.{number}").status_code for number in range(4)]
    assert statuses == [200, 200, 200, 429]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("empty_queues")
def test_of_fifty_concurrent_calls_exactly_the_limit_passes(alice: User, settings: Any) -> None:
    settings.SUBMIT_RATE = "20/d"
    passed = at_once(*[lambda: _submit(client_for(alice)).status_code == 200] * 50)
    assert passed.count(True) == 20
    assert GenerationRequest.objects.count() == 20
    _assert_limited(_submit(client_for(alice)), limit=20)


# --- Tokens -----------------------------------------------------------------------------------------------------------


def _sign_in(client: APIClient, name: Any, *, at: str = "192.0.2.1", password: str = WRONG) -> Any:
    return client.post(TOKEN, {"username": name, "password": password}, "json", REMOTE_ADDR=at)


@pytest.fixture
def dora(db: None) -> User:
    """A user with a password."""
    user: User = User.objects.create_user("dora", password="secret")
    return user


def _sign_in_on_page(client: APIClient, name: str, *, at: str, password: str = WRONG, page: str = "/sign-in") -> int:
    """Return the status of the sign-in page's response: 302 after success."""
    answered = client.post(page, {"username": name, "password": password}, format="multipart", REMOTE_ADDR=at)
    return int(answered.status_code)


def test_another_address_cannot_lock_a_user_out(anonymous: APIClient, dora: User) -> None:
    User.objects.update(is_staff=True)
    for _ in range(12):
        _sign_in(anonymous, "dora")
    _assert_limited(_sign_in(anonymous, "dora", password="secret"))
    answer(_sign_in(anonymous, "dora", at="198.51.100.7", password="secret"))
    for page in ("/sign-in", "/admin/login/"):
        assert _sign_in_on_page(APIClient(), "dora", at="198.51.100.8", password="secret", page=page) == 302


def test_a_name_has_a_limit_over_all_addresses(anonymous: APIClient, dora: User) -> None:
    answer(_sign_in(anonymous, "dora", at="198.51.100.7", password="secret"))
    spellings = ["dora", "DORA", " dora\t", "\uff44ora", "Dora\u3000"]
    for number in range(3 * NAME_FACTOR):
        assert_error(_sign_in(anonymous, spellings[number % 5], at=f"192.0.2.{number}"), 401)
    _assert_limited(_sign_in(anonymous, "dora", at="192.0.2.99", password="secret"), limit=3 * NAME_FACTOR)
    assert _sign_in_on_page(APIClient(), "dora", at="192.0.2.99", password="secret") == 429
    assert _sign_in_on_page(APIClient(), "dora", at="192.0.2.99", password="secret", page="/admin/login/") == 429
    # An address from which the user has signed in before is still accepted.
    answer(_sign_in(anonymous, "dora", at="198.51.100.7", password="secret"))
    assert _sign_in_on_page(APIClient(), "dora", at="198.51.100.7", password="secret") == 302


def test_an_address_is_remembered_only_for_its_own_user(anonymous: APIClient, dora: User) -> None:
    User.objects.create_user("emil", password="secret")
    answer(_sign_in(anonymous, "emil", at="192.0.2.99", password="secret"))
    for number in range(3 * NAME_FACTOR):
        _sign_in(anonymous, "dora", at=f"192.0.2.{number}")
    _assert_limited(_sign_in(anonymous, "dora", at="192.0.2.99", password="secret"), limit=3 * NAME_FACTOR)


def test_a_right_password_does_not_count_for_the_name(anonymous: APIClient, dora: User) -> None:
    for number in range(3 * NAME_FACTOR + 5):
        answer(_sign_in(anonymous, "dora", at=f"192.0.2.{number}", password="secret"))
    assert _sign_in_on_page(APIClient(), "dora", at="198.51.100.1") == 200  # a wrong password, but not rate-limited


def test_a_too_long_password_does_not_make_an_address_remembered(anonymous: APIClient, dora: User) -> None:
    _sign_in_on_page(anonymous, "dora", at="192.0.2.99", password="x" * (LONGEST_PASSWORD + 1))
    for number in range(3 * NAME_FACTOR):
        _sign_in(anonymous, "dora", at=f"192.0.2.{number}")
    _assert_limited(_sign_in(anonymous, "dora", at="192.0.2.99", password="secret"), limit=3 * NAME_FACTOR)


def test_an_address_has_a_limit_over_all_names(anonymous: APIClient) -> None:
    for name in ("dora", "emil", "fanny"):
        assert_error(_sign_in(anonymous, name), 401)
    _assert_limited(_sign_in(anonymous, "gustav"))
    assert_error(_sign_in(anonymous, "gustav", at="192.0.2.2"), 401)


def test_successful_sign_ins_count_for_the_address(anonymous: APIClient) -> None:
    User.objects.create_user("dora", password="secret")
    for _ in range(3):
        answer(_sign_in(anonymous, "dora", password="secret"))
    _assert_limited(_sign_in(anonymous, "dora", password="secret"))


def test_an_invalid_body_does_not_lock_a_user_out(anonymous: APIClient) -> None:
    for name in ("", None, 7, ["dora"], "x" * 200, "\0"):
        assert_error(_sign_in(anonymous, name), 400)
    assert_error(_sign_in(anonymous, "dora"), 401)


def test_submits_and_tokens_have_separate_counters(api: APIClient, alice: User) -> None:
    assert _left(api) == 3
    assert_error(_sign_in(api, alice.username), 401)


# --- Client address ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxies", [0, 1])
def test_a_forged_header_does_not_raise_the_limit(anonymous: APIClient, settings: Any, proxies: int) -> None:
    settings.TRUSTED_PROXIES = proxies

    def sign_in(number: int) -> int:
        forged = f"203.0.113.{number}" + ", 198.51.100.1" * proxies
        text: Any = json.dumps({"username": f"name-{number}", "password": "wrong"})
        response = anonymous.generic("POST", TOKEN, text, "application/json", HTTP_X_FORWARDED_FOR=forged)
        return response.status_code

    assert [sign_in(number) for number in range(5)] == [401, 401, 401, 429, 429]


# --- Without Redis ----------------------------------------------------------------------------------------------------


@pytest.fixture
def no_cache(settings: Any) -> None:
    """A cache URL at which no server listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        unused = f"redis://127.0.0.1:{free.getsockname()[1]}/0"
    settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": unused}}


def test_without_redis_submits_are_quick_and_stay_limited(
    api: APIClient, no_cache: None, caplog: pytest.LogCaptureFixture
) -> None:
    started = time.monotonic()
    answer(_submit(api))
    answer(_batch(api, 2))
    _assert_limited(_batch(api, 1))
    _assert_limited(_submit(api))
    assert time.monotonic() - started < 3
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the cache is unavailable, rates are counted in this process"
    ]


def test_without_redis_sign_in_works_and_stays_limited(anonymous: APIClient, no_cache: None) -> None:
    for _ in range(3):
        assert_error(_sign_in(anonymous, "dora"), 401)
    _assert_limited(_sign_in(anonymous, "dora"))


def test_if_redis_fails_between_two_calls_the_process_counts_itself(
    api: APIClient, settings: Any, request: pytest.FixtureRequest
) -> None:
    answer(_submit(api))
    request.getfixturevalue("no_cache")
    assert 0 < _left(api) <= 3


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("empty_queues", "no_cache")
def test_without_redis_concurrent_calls_share_the_limit(alice: User) -> None:
    passed = at_once(*[lambda: _submit(client_for(alice)).status_code == 200] * 8)
    assert 1 <= passed.count(True) <= 3
