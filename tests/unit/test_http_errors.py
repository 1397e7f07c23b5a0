"""Errors over HTTP that mean the same for every vendor: pages, bodies of any kind, waits, broken connections."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import httpx2
import pytest

from workers.providers import google_errors, openai_errors, stability
from workers.providers.base import ProviderError
from workers.providers.http import connection_error, retry_after

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


def errors(status: int, content: bytes, headers: Mapping[str, str] | None = None) -> dict[str, ProviderError]:
    """The error of each vendor for one answer."""
    headers = headers or {}
    return {
        "OpenAI": openai_errors.status_error(status, headers, content, model="gpt-image-2"),
        "Google": google_errors.status_error(status, headers, content),
        "Stability": stability.status_error(status, headers, content, model="core"),
    }


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"<html>502</html>", b'"<html>502</html>"', b'""', b"\xff\xfe", b"[]", b"7", b"null", b"[" * 100_000),
        *(b'{"error": "x"}', b'{"error": {"code": ["x"], "param": {}}}', b'{"errors": 5, "name": []}'),
        b'{"error": {"details": 1, "status": [], "message": {}}}',
        b'{"error": {"details": [1, {"violations": 1, "fieldViolations": "x", "metadata": [], "reason": {}}]}}',
    ],
)
def test_a_body_of_any_kind_is_an_error_and_nothing_of_it_is_repeated(content: bytes) -> None:
    for vendor, found in errors(502, content).items():
        assert (found.code, found.message) == ("unavailable", f"{vendor} is not available at the moment (status 502)")
        assert found.detail == {"status": 502}


_PAGES = (
    *(b"<html>no</html>", b"<html>", b"blocked", b"", b"\xff\xfe\0", b"\xff\xfe", b"null", b"[]", b"[" * 100_000),
    b'{"errors": 5, "name": []}',
)


@pytest.mark.parametrize("page", _PAGES)
@pytest.mark.parametrize(
    ("status", "code", "scope"),
    [
        *((status, "invalid_request", "request") for status in (400, 401, 402, 403, 406, 422, 451)),
        *((status, "unavailable", "request") for status in (404, 405, 410)),
        *((status, "unavailable", "provider") for status in (500, 502, 503, 520)),
        *((status, "unknown_outcome", "provider") for status in (499, 504, 524)),
        (429, "rate_limited", "provider"),
    ],
)
def test_a_page_says_nothing_about_key_or_model(page: bytes, status: int, code: str, scope: str) -> None:
    for headers in ({}, {"content-type": "text/html"}):
        found = {(error.code, error.scope) for error in errors(status, page, headers).values()}
        assert found == {(code, scope)}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "abc", "retry-after": "7"}, 7.0),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:31 GMT"}, 31.0),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:31 -0000"}, 31.0),
        ({"retry-after": "Fri, 20 Nov 2026 11:00:00 GMT"}, None),
        ({"retry-after": "Fri, 99 Nov 2026 12:00:31 GMT"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "abc"}, None),
        ({"retry-after": "6m0s"}, None),
        ({"retry-after": "1e9"}, 1e9),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
    ],
)
def test_a_time_to_wait_is_read_in_each_of_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=NOW) == seconds


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (httpx2.ConnectError("x"), "unavailable"),
        (httpx2.ConnectTimeout("x"), "unavailable"),
        (httpx2.PoolTimeout("x"), "unavailable"),
        (httpx2.ProxyError("x"), "unavailable"),
        (httpx2.LocalProtocolError("Illegal header value b'Bearer sk-secret'"), "unavailable"),
        (httpx2.ReadError("x"), "unknown_outcome"),
        (httpx2.WriteError("x"), "unknown_outcome"),
        (httpx2.ReadTimeout("x"), "unknown_outcome"),
        (httpx2.RemoteProtocolError("x"), "unknown_outcome"),
        (None, "unknown_outcome"),
    ],
)
def test_the_outcome_is_unknown_once_something_may_have_been_sent(cause: Exception | None, code: str) -> None:
    found = connection_error("OpenAI", cause)
    assert found.code == code
    assert "sk-secret" not in str(found)
