"""Common rules of all endpoints: authentication, methods, ids and errors."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken

from generation.states import Status
from tests.api.helpers import (
    BATCH,
    NOTHING,
    OF_ONE_REQUEST,
    PREFIX,
    REQUESTS,
    SUBMIT,
    UNKNOWN_BATCH_ID,
    UNKNOWN_ID,
    address,
    assert_error,
    body,
    completed,
    post_json,
    shown,
    stored_rows,
)
from tests.support.requests import in_status, queued

ALLOWED = {
    SUBMIT: {"POST"},
    REQUESTS: {"GET"},
    BATCH: {"POST"},
    address("batch", UNKNOWN_BATCH_ID): {"GET", "DELETE"},
    address("retry", UNKNOWN_ID): {"POST"},
    address("queue", "status"): {"GET"},
    f"{PREFIX}/metrics": {"GET"},
    **{address(endpoint, UNKNOWN_ID): {method} for endpoint, method in OF_ONE_REQUEST.items()},
    "/api/token": {"POST"},
    "/api/token/refresh": {"POST"},
    "/api/token/verify": {"POST"},
    "/healthz": {"GET"},
    "/readyz": {"GET"},
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW")
WRONG = [(at, method) for at, allowed in ALLOWED.items() for method in METHODS if method not in allowed]


@pytest.mark.parametrize(("at", "method"), WRONG, ids=[f"{method} {at}" for at, method in WRONG])
def test_a_wrong_method_is_answered_with_the_allowed_ones(api: APIClient, at: str, method: str) -> None:
    response = api.generic(method, at)
    assert_error(response, 405, "method_not_allowed")
    allowed = set(response["Allow"].split(", "))
    assert allowed - {"HEAD", "OPTIONS"} == ALLOWED[at]
    assert method not in allowed


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("endpoint", OF_ONE_REQUEST)
def test_an_endpoint_of_one_request_works_with_and_without_a_slash(
    api: APIClient, alice: User, endpoint: str, slash: str
) -> None:
    request = queued(alice) if endpoint == "cancel" else completed(alice)
    assert api.generic(OF_ONE_REQUEST[endpoint], address(endpoint, request.pk) + slash).status_code == 200


def test_submit_works_with_a_slash(api: APIClient) -> None:
    assert post_json(api, body(), at=f"{SUBMIT}/").status_code == 200


# --- Anonymous calls --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "at"),
    [("POST", SUBMIT), *((method, address(endpoint, UNKNOWN_ID)) for endpoint, method in OF_ONE_REQUEST.items())],
)
def test_an_anonymous_call_is_rejected(anonymous: APIClient, method: str, at: str) -> None:
    response = anonymous.generic(method, at, "{}", content_type="application/json")
    assert response.status_code == 401
    assert response.json() == {"error": "Access denied", "code": "not_authenticated"}
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert stored_rows() == NOTHING


def test_an_anonymous_call_does_not_reveal_what_exists(anonymous: APIClient, alice: User) -> None:
    there = completed(alice)
    for endpoint, method in OF_ONE_REQUEST.items():
        known = anonymous.generic(method, address(endpoint, there.pk))
        unknown = anonymous.generic(method, address(endpoint, UNKNOWN_ID))
        assert (known.status_code, known.content) == (unknown.status_code, unknown.content)


# --- Foreign and unknown ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", Status.values)
@pytest.mark.parametrize("endpoint", OF_ONE_REQUEST)
def test_the_request_of_another_user_looks_like_an_unknown_one(
    stranger: APIClient, alice: User, endpoint: str, status: str
) -> None:
    request = completed(alice) if status == Status.COMPLETED else in_status(alice, Status(status))
    theirs = stranger.generic(OF_ONE_REQUEST[endpoint], address(endpoint, request.pk))
    never = stranger.generic(OF_ONE_REQUEST[endpoint], address(endpoint, UNKNOWN_ID))
    assert_error(theirs, 404, "not_found")
    assert shown(theirs) == shown(never)
    request.refresh_from_db()
    assert request.status == status


@pytest.mark.parametrize("query", ["imageData=maybe", "expires=1&signature=x", "format=xml"])
def test_no_query_tells_a_foreign_request_from_an_unknown_one(stranger: APIClient, alice: User, query: str) -> None:
    request = completed(alice)
    for endpoint, method in OF_ONE_REQUEST.items():
        theirs = stranger.generic(method, f"{address(endpoint, request.pk)}?{query}")
        never = stranger.generic(method, f"{address(endpoint, UNKNOWN_ID)}?{query}")
        assert shown(theirs) == shown(never)
        assert theirs.status_code == 404


ODD_IDS = {
    "a word": "nonsense",
    "NUL": "%00",
    "NUL at the end of an id": f"{UNKNOWN_ID}%00",
    "a line's end": f"{UNKNOWN_ID}%0A",
    "a space": "%20",
    "ten thousand characters": "a" * 10_000,
    "digits without end": f"vga_{'1' * 5_000}_abcdefghi",
    "letters of another alphabet": "%C3%BC%F0%9F%90%89",
    "digits of another alphabet": "vga_%D9%A1%D9%A2%D9%A3%D9%A1%D9%A2%D9%A3%D9%A1%D9%A2%D9%A3%D9%A1_abcdefghi",
    "bytes that are not UTF-8": "%FF%FE",
    "half a surrogate pair": "%ED%A0%80",
    "upper case": UNKNOWN_ID.upper(),
    "parents": "..",
    "a percent sign": "%25s%25n",
    "SQL": "'%20OR%201=1;--",
    "markup": "%3Cscript%3Ealert(1)%3C%5Cscript%3E",
    "a batch's id": UNKNOWN_ID.replace("vga", "vgb"),
}


@pytest.mark.parametrize("odd", ODD_IDS.values(), ids=ODD_IDS.keys())
@pytest.mark.parametrize("endpoint", OF_ONE_REQUEST)
def test_a_malformed_id_is_not_found(staff: APIClient, endpoint: str, odd: str) -> None:
    response = staff.generic(OF_ONE_REQUEST[endpoint], address(endpoint, odd))
    never = staff.generic(OF_ONE_REQUEST[endpoint], address(endpoint, UNKNOWN_ID))
    assert_error(response, 404, "not_found")
    assert response.content == never.content


@pytest.mark.parametrize("blank", ["%20", "%0A", "%C2%A0"])
@pytest.mark.parametrize("endpoint", OF_ONE_REQUEST)
def test_spaces_around_an_id_are_ignored(api: APIClient, alice: User, endpoint: str, blank: str) -> None:
    request = queued(alice) if endpoint == "cancel" else completed(alice)
    at = f"{PREFIX}/{endpoint}/{blank}{request.pk}{blank}"
    assert api.generic(OF_ONE_REQUEST[endpoint], at).status_code == 200


@pytest.mark.parametrize("tail", ["%00", "%E2%80%8B", ".gif", ".svg", "x"])
@pytest.mark.parametrize("endpoint", OF_ONE_REQUEST)
def test_an_id_with_a_suffix_is_not_found(api: APIClient, alice: User, endpoint: str, tail: str) -> None:
    request = queued(alice) if endpoint == "cancel" else completed(alice)
    response = api.generic(OF_ONE_REQUEST[endpoint], address(endpoint, request.pk) + tail)
    assert_error(response, 404, "not_found")
    assert api.get(address("status", request.pk)).json()["status"] == request.status


# --- Unknown paths and unexpected headers -----------------------------------------------------------------------------


UNKNOWN = [
    "/nonsense",
    "/api",
    PREFIX,
    f"{PREFIX}/nonsense",
    f"{PREFIX}/status",
    f"{PREFIX}/status/",
    f"{PREFIX}/status/a/b",
    f"{SUBMIT}%0A",
    f"{SUBMIT}//",
    f"{PREFIX}/status/..%2F..%2Fetc%2Fpasswd",
    "/%FF%FE%00",
    "/healthz/x",
    "/api/",
    "/api/nonsense",
    "/api/token/nonsense",
    "/api/token/refresh/nonsense",
    "/api/visual-generation-of-another-kind/submit",
    "/api//visual-generation/submit",
    f"{PREFIX}/submit/nonsense",
    f"{PREFIX}/%2e%2e/submit",
]


@pytest.mark.parametrize("debug", [False, True], ids=["in production", "with DEBUG"])
@pytest.mark.parametrize("at", UNKNOWN)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_path_is_answered_in_json(api: APIClient, settings: Any, at: str, method: str, debug: bool) -> None:
    settings.DEBUG = debug
    assert_error(api.generic(method, at), 404, "not_found")


@pytest.mark.parametrize("method", [*METHODS, "OPTIONS", "HEAD"])
@pytest.mark.parametrize("signed_in_by", ["nothing", "a token", "a session"])
def test_an_unknown_path_needs_no_csrf_token(alice: User, method: str, signed_in_by: str) -> None:
    client = APIClient(enforce_csrf_checks=True)
    if signed_in_by == "a token":
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {AccessToken.for_user(alice)}")
    elif signed_in_by == "a session":
        client.force_login(alice)
    for at in ("/api", "/api/token/nonsense", PREFIX, f"{PREFIX}/nonsense", "/nonsense"):
        for kind in ("application/json", "application/x-www-form-urlencoded", "multipart/form-data"):
            response = client.generic(method, at, "a=b", content_type=kind)
            if method == "HEAD":
                assert (response.status_code, response["Content-Type"]) == (404, "application/json")
            else:
                assert_error(response, 404, "not_found")


@pytest.mark.parametrize("at", ["/api/docs", "/api/schema"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
def test_the_descriptions_answer_a_wrong_method_in_json(db: None, at: str, method: str) -> None:
    response = APIClient(enforce_csrf_checks=True).generic(method, at)
    assert_error(response, 405, "method_not_allowed")
    assert {"GET", "HEAD"} <= set(response["Allow"].split(", "))


def test_a_foreign_host_is_rejected_in_json(api: APIClient) -> None:
    assert_error(api.get(address("status", UNKNOWN_ID), HTTP_HOST="evil.example"), 400, "bad_request")


@pytest.mark.parametrize("accept", ["text/html", "image/png", "application/xml", "*/*", "nonsense", "a/b;q=x", ""])
def test_responses_are_json_whatever_the_accept_header(api: APIClient, alice: User, accept: str) -> None:
    response = api.get(address("status", queued(alice).pk), HTTP_ACCEPT=accept)
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    assert_error(api.get(address("status", UNKNOWN_ID), HTTP_ACCEPT=accept), 404, "not_found")


@pytest.mark.parametrize("accept", ["image/png", "image/avif,image/webp", "text/html"])
def test_an_image_is_sent_whatever_the_accept_header(api: APIClient, alice: User, accept: str) -> None:
    response = api.get(address("image", completed(alice).pk), HTTP_ACCEPT=accept)
    assert response.status_code == 200
    assert response["Content-Type"] == "image/png"
