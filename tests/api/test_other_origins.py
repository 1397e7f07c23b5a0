"""Responses to pages of other origins, allowed in the settings or not."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from rest_framework.test import APIClient

from generation.requests import selectors
from tests.api.helpers import PREFIX, SUBMIT, UNKNOWN_ID, address, body, client_for, completed, post_json

STUDIO = "https://studio.example.org"
EXPOSED = {
    *("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after", "location", "etag"),
    *("idempotent-replayed", "x-request-id", "content-range", "accept-ranges"),
}


@pytest.fixture
def studio(alice: User, settings: Any) -> APIClient:
    """Alice's client, on a page of an allowed origin."""
    settings.CORS_ALLOWED_ORIGINS = [STUDIO]
    settings.MIDDLEWARE = [*settings.MIDDLEWARE[:1], "corsheaders.middleware.CorsMiddleware", *settings.MIDDLEWARE[1:]]
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid.uuid4().hex}}
    client = client_for(alice)
    client.defaults["HTTP_ORIGIN"] = STUDIO
    return client


def _assert_readable(response: Any, status: int) -> None:
    assert response.status_code == status
    assert response["Access-Control-Allow-Origin"] == STUDIO
    assert set(response["Access-Control-Expose-Headers"].lower().split(", ")) >= EXPOSED
    assert "Access-Control-Allow-Credentials" not in response
    assert "origin" in response["Vary"].lower()


def test_every_response_exposes_its_headers(studio: APIClient, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SUBMIT_RATE = "1/d"
    _assert_readable(post_json(studio, body()), 200)
    limited = post_json(studio, body())
    _assert_readable(limited, 429)
    assert {"Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"} <= set(limited.headers)
    _assert_readable(client_for(None).get(address("status", UNKNOWN_ID), HTTP_ORIGIN=STUDIO), 401)
    _assert_readable(studio.get(address("status", UNKNOWN_ID)), 404)
    _assert_readable(studio.delete(f"{PREFIX}/nonsense"), 404)
    _assert_readable(studio.get(SUBMIT), 405)

    def fail(*_: Any, **__: Any) -> None:
        raise OperationalError

    monkeypatch.setattr(selectors, "find_with_position", fail)
    _assert_readable(studio.get(address("status", UNKNOWN_ID)), 503)


def test_a_range_of_an_image_exposes_its_content_range(studio: APIClient, alice: User) -> None:
    part = studio.get(address("image", completed(alice).pk), HTTP_RANGE="bytes=0-9")
    _assert_readable(part, 206)
    assert part["Content-Range"].startswith("bytes 0-9/")


@pytest.mark.parametrize("at", ["/api/token", SUBMIT, f"{PREFIX}/cancel/{UNKNOWN_ID}"])
def test_a_preflight_needs_no_token(studio: APIClient, at: str) -> None:
    asked = {"HTTP_ACCESS_CONTROL_REQUEST_METHOD": "POST", "HTTP_ACCESS_CONTROL_REQUEST_HEADERS": "authorization"}
    response = APIClient(HTTP_ORIGIN=STUDIO).options(at, **asked)  # type: ignore[arg-type]
    _assert_readable(response, 200)
    allowed = set(response["Access-Control-Allow-Headers"].split(", "))
    assert {"authorization", "content-type", "idempotency-key", "if-none-match", "last-event-id", "range"} <= allowed


def test_an_origin_that_is_not_allowed_reads_nothing(studio: APIClient) -> None:
    for origin in ("https://evil.example", "http://studio.example.org", f"{STUDIO}.evil.example", "null"):
        response = studio.get(address("status", UNKNOWN_ID), HTTP_ORIGIN=origin)
        assert "Access-Control-Allow-Origin" not in response


def test_openais_sdk_in_a_browser_is_allowed(studio: APIClient) -> None:
    asked = {"Access-Control-Request-Method": "POST"}
    sent = ["authorization", "content-type", "x-stainless-retry-count", "x-stainless-lang", "x-stainless-timeout"]
    allowed = studio.options(
        "/v1/images/generations", headers=asked | {"Access-Control-Request-Headers": ",".join(sent)}
    )
    assert allowed["Access-Control-Allow-Origin"] == STUDIO
    assert set(sent) <= set(allowed["Access-Control-Allow-Headers"].split(", "))
    models = studio.get("/v1/models")
    _assert_readable(models, 200)
    assert "x-vga-request-ids" in models["Access-Control-Expose-Headers"]
