"""Calls of this site's pages to the API, with the session cookie and a CSRF token for changes."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from generation.states import Status
from tests.api.helpers import (
    NOTHING,
    SUBMIT,
    UNKNOWN_BATCH_ID,
    UNKNOWN_ID,
    address,
    assert_error,
    body,
    stored_rows,
)
from tests.support.requests import queued


@pytest.fixture
def page(alice: User) -> Client:
    """Alice's browser, with CSRF checks, which Django's test client disables by default."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    return client


def _token(client: Client) -> str:
    return str(client.get("/").context["csrf_token"])


def _send(client: Client, method: str, at: str, data: Any = None, **headers: str) -> Any:
    return client.generic(method, at, data or b"", content_type="application/json", **headers)  # type: ignore[arg-type]


CHANGES = [
    ("POST", SUBMIT),
    ("POST", "/api/visual-generation/batch"),
    ("DELETE", address("cancel", UNKNOWN_ID)),
    ("POST", address("retry", UNKNOWN_ID)),
    ("DELETE", f"/api/visual-generation/batch/{UNKNOWN_BATCH_ID}"),
]


@pytest.mark.parametrize(("method", "at"), CHANGES)
@pytest.mark.parametrize("token", ["", "x" * 64])
def test_nothing_changes_without_the_csrf_token(page: Client, method: str, at: str, token: str) -> None:
    _token(page)  # sets the cookie
    more = {"HTTP_X_CSRFTOKEN": token} if token else {}
    assert_error(_send(page, method, at, b"{}", **more), 403, "permission_denied")
    assert stored_rows() == NOTHING


def test_a_page_with_the_csrf_token_submits_and_cancels(page: Client) -> None:
    token = _token(page)
    answer = page.post(SUBMIT, body(), content_type="application/json", HTTP_X_CSRFTOKEN=token)
    assert answer.status_code == 200, answer.content
    at = address("cancel", answer.json()["requestId"])
    assert _send(page, "DELETE", at, HTTP_X_CSRFTOKEN=token).status_code == 200


def test_a_foreign_page_is_rejected_even_with_a_csrf_token(page: Client) -> None:
    more = {"HTTP_X_CSRFTOKEN": _token(page), "HTTP_ORIGIN": "https://elsewhere.example"}
    assert_error(_send(page, "POST", SUBMIT, b"{}", **more), 403, "permission_denied")


def test_a_session_sees_what_its_user_sees(page: Client, alice: User, charlie: User) -> None:
    mine, theirs = queued(alice), queued(charlie)
    assert page.get(address("status", mine.pk)).json()["status"] == Status.QUEUED
    assert_error(page.get(address("status", theirs.pk)), 404, "not_found")
    assert [one["requestId"] for one in page.get("/api/visual-generation/requests").json()["results"]] == [mine.pk]


def test_a_token_takes_precedence_over_the_session(page: Client) -> None:
    assert_error(page.get(address("status", UNKNOWN_ID), HTTP_AUTHORIZATION="Bearer x"), 401, "token_not_valid")


def test_an_ended_session_is_not_accepted(page: Client, alice: User) -> None:
    alice.set_password("another one")
    alice.save()
    response = page.get(address("status", UNKNOWN_ID))
    assert_error(response, 401, "not_authenticated")
    assert response["WWW-Authenticate"].startswith("Bearer")
