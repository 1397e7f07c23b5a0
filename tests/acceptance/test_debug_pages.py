"""Django's debug pages, as `make run` could send them: no page for a foreign host, and no credential in any page."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from urllib.parse import quote, urlsplit, urlunsplit

import httpx2
import pytest

from generation.telemetry.redaction import Redactor
from tests.support.databases import Database
from tests.support.stack import Stack, closed_port, prepared_stack, wait_until

#: Settings with a credential, by name. Each holds the word "canary".
CREDENTIALS = {
    "SECRET_KEY": "canary-of-the-key-" * 3,
    "JWT_SECRET": "canary-of-tokens-" * 3,
    "METRICS_TOKEN": "canary-of-metrics",
    "REDIS_URL": f"redis://:canary%24redis@127.0.0.1:{closed_port()}/0",
    "OPENAI_API_KEY": "sk-canary",
    "OPENAI_BASE_URL": "https://user:canary@gateway.example.org/v1",
    "STABILITY_API_KEY": "sk-canary-of-stability",
    "GOOGLE_API_KEY": "canary-of-google",
    "AWS_ACCESS_KEY_ID": "canary-of-aws",
    "AWS_SECRET_ACCESS_KEY": "canary-of-aws-secret",
    "SENTRY_DSN": "http://canary@127.0.0.1:1/1",
    "DEMO_PASSWORD": "canary",
    # Not ours: servers copy the whole environment into each request.
    "GITHUB_PAT": "canary-of-another-program",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Without Redis, and without the table of sessions, so that pages fail."""
    with prepared_stack(tmp_path_factory.mktemp("debug")) as stack:
        database = Database(stack.env["DATABASE_URL"])
        database.execute("ALTER TABLE django_session RENAME TO gone")
        database.execute("CREATE ROLE canary SUPERUSER LOGIN PASSWORD 'canary$db'")
        stack.env |= CREDENTIALS
        address = urlsplit(stack.env["DATABASE_URL"])
        credentials = f"canary:canary%24db@{address.netloc.rpartition('@')[2]}"
        stack.env["DATABASE_URL"] = urlunsplit(address._replace(netloc=credentials))
        stack.start("web", "realtime", DEBUG="true")
        for url in (stack.base_url, realtime(stack)):
            wait_until(lambda url=url: answers(url), what=url)  # type: ignore[misc]
        yield stack
        database.execute("DROP ROLE canary")


def realtime(stack: Stack) -> str:
    return f"http://127.0.0.1:{stack.realtime_port}"


def answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/healthz").status_code == 200
    except httpx2.TransportError:
        return False


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "a b", "[::2]", "127.0.0.1:x"])
def test_a_foreign_host_gets_json_from_web(stack: Stack, host: str) -> None:
    for path in ("/", "/sign-in", "/api/token", "/api/visual-generation/requests", "/admin/", "/nothing"):
        for accept in ("*/*", "text/html"):
            answer = httpx2.get(f"{stack.base_url}{path}", headers={"Host": host, "Accept": accept})
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_request"), path
            assert "canary" not in answer.text


@pytest.mark.parametrize("path", ["/api/visual-generation/events", "/ws/visual-generation", "/nothing", "/admin/"])
def test_a_foreign_host_gets_json_from_realtime(stack: Stack, path: str) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    headers = {"Host": "evil.example"} | (upgrade if path.startswith("/ws") else {})
    answer = httpx2.get(f"{realtime(stack)}{path}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
def test_no_debug_page_holds_a_credential(stack: Stack, accept: str) -> None:
    cookies = {"sessionid": "x" * 32}
    assert "canary" in stack.env["DATABASE_URL"]
    answer = httpx2.get(f"{stack.base_url}/", headers={"Accept": accept}, cookies=cookies, timeout=20)
    assert answer.status_code == 500
    assert "REDIS_URL" in answer.text  # it is the debug page
    assert "canary" not in answer.text


@pytest.mark.parametrize("path", ["/api/visual-generation/image/x", "/api/token", "/readyz", "/api/docs"])
def test_programs_get_json_whatever_fails(stack: Stack, path: str) -> None:
    for method in ("GET", "POST"):
        answer = httpx2.request(method, f"{stack.base_url}{path}", cookies={"sessionid": "x" * 32}, timeout=20)
        if answer.status_code >= 400:
            assert "text/html" not in answer.headers["Content-Type"], (method, path)
            assert isinstance(json.loads(answer.text), dict)
        assert "canary" not in answer.text


def test_no_log_holds_a_credential(stack: Stack) -> None:
    assert "canary" not in stack.log("web") + stack.log("realtime")


def test_a_credential_is_hidden_however_it_is_quoted() -> None:
    secret = "a<b>&'\"\\canary"
    redact = Redactor([secret])
    for form in (secret, repr(secret), html.escape(secret), html.escape(repr(secret)), quote(secret, safe="")):
        assert "canary" not in redact(f"x {form} y"), form
    told = redact("redis://:pw@h/0 http://u@h https://h/a@b rediss://h?db=1&password=pw&x=1")
    assert told == "redis://[hidden]@h/0 http://[hidden]@h https://h/a@b rediss://h?db=1&password=[hidden]&x=1"
