"""Rules of every call: request id, security headers, CORS, error reports and metrics."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from tests.api.helpers import assert_error
from tests.support.collector import Collector
from tests.support.stack import ROOT, closed_port, wait_until

pytestmark = pytest.mark.django_db

_ASK = """
import django
from django.test import Client
django.setup()
from config.observability import start_reporting
start_reporting("web")
import json, os
answer = Client(raise_request_exception=False, **json.loads(os.environ["CLIENT"])).generic(
    os.environ["METHOD"], os.environ["AT"], b'{"canary": 1}', "application/json", **json.loads(os.environ["HEADERS"]))
print(json.dumps([answer.status_code, dict(answer.headers)]))
import sentry_sdk
sentry_sdk.flush(10)
"""


def asked(folder: Path, method: str, at: str, *, settings: Mapping[str, str], **headers: str) -> tuple[int, Any]:
    """Return status and headers of a response of a process with these settings."""
    import json

    given = {"PATH": os.environ["PATH"], "VAR_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "config.settings"}
    given |= {
        "DATABASE_URL": os.environ["DATABASE_URL"],
        "REDIS_URL": os.environ["REDIS_URL"],
        "SECRET_KEY": "k3y-" * 16,
    }
    given |= {"DEBUG": "false", "METHOD": method, "AT": at, "HEADERS": json.dumps(headers)}
    https = {"HTTP_X_FORWARDED_PROTO": "https", "HTTP_HOST": "127.0.0.1"}
    given |= {"CLIENT": json.dumps(https), **settings}
    done = subprocess.run(
        [sys.executable, "-c", _ASK], cwd=ROOT, env=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    status, answered = json.loads(done.stdout.splitlines()[-1])
    return status, {name.lower(): value for name, value in answered.items()}


def test_every_response_has_a_request_id(anonymous: APIClient) -> None:
    assert anonymous.get("/healthz", HTTP_X_REQUEST_ID="abc-1")["X-Request-ID"] == "abc-1"
    first, second = (anonymous.get("/nowhere")["X-Request-ID"] for _ in range(2))
    assert first != second
    assert len(first) == 32


def test_over_https_the_security_headers_are_sent(tmp_path: Path) -> None:
    settings = {"PUBLIC_BASE_URL": "https://images.example.org", "TRUSTED_PROXIES": "1"}
    status, headers = asked(tmp_path, "GET", "/sign-in", settings=settings)
    assert status == 200
    assert headers["strict-transport-security"] == "max-age=31536000"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    status, headers = asked(tmp_path, "GET", "/", settings=settings | {"CLIENT": '{"HTTP_HOST": "127.0.0.1"}'})
    assert (status, headers["location"]) == (301, "https://127.0.0.1/")


def test_only_allowed_origins_may_read_responses(tmp_path: Path) -> None:
    named = {"CORS_ALLOWED_ORIGINS": "https://studio.example.org"}
    at = "/api/visual-generation/queue/status"
    preflight = {"HTTP_ACCESS_CONTROL_REQUEST_METHOD": "POST", "HTTP_ACCESS_CONTROL_REQUEST_HEADERS": "authorization"}
    status, headers = asked(
        tmp_path, "OPTIONS", at, settings=named, HTTP_ORIGIN="https://studio.example.org", **preflight
    )
    assert status == 200
    assert headers["access-control-allow-origin"] == "https://studio.example.org"
    assert "access-control-allow-credentials" not in headers
    assert {"last-event-id", "range"} <= set(headers["access-control-allow-headers"].split(", "))
    for settings, origin in ((named, "https://evil.example.org"), ({}, "https://studio.example.org")):
        _, headers = asked(tmp_path, "GET", at, settings=settings, HTTP_ORIGIN=origin)
        assert "access-control-allow-origin" not in headers


def test_an_error_is_reported_without_the_clients_data(tmp_path: Path) -> None:
    with Collector() as collector:
        settings = {
            "SENTRY_DSN": collector.dsn,
            "DATABASE_URL": f"postgres://canary:canary@127.0.0.1:{closed_port()}/canary",
        }
        sent = {
            "HTTP_COOKIE": f"sessionid=canary{26 * 'x'}",
            "HTTP_X_REQUEST_ID": "call-1",
            "HTTP_AUTHORIZATION": "Bearer canary",
        }
        status, _ = asked(tmp_path, "GET", "/admin/?canary=1", settings=settings, **sent)
        assert status in {500, 503}
        reports = wait_until(collector.reports, what="a report")
    assert reports[0]["tags"]["http_request_id"] == "call-1"
    assert "OperationalError" in {value["type"] for value in reports[0]["exception"]["values"]}
    assert b"canary" not in collector.heard()


@pytest.mark.parametrize(
    ("debug", "token", "sent", "status"),
    [
        (True, "", "", 200),
        (False, "", "", 403),
        (False, "t0ken", "", 401),
        (False, "t0ken", "Bearer other", 401),
        (False, "t0ken", "Bearer t0ken", 200),
    ],
)
def test_metrics_need_the_configured_token(
    anonymous: APIClient, settings: Any, debug: bool, token: str, sent: str, status: int
) -> None:
    settings.DEBUG, settings.METRICS_TOKEN = debug, token
    response = anonymous.get("/metrics", HTTP_AUTHORIZATION=sent)
    assert response.status_code == status
    if status == 200:
        assert "vga_queue_depth{" in response.content.decode()
    else:
        assert_error(response, status)


def test_disabled_metrics_are_not_found(anonymous: APIClient, settings: Any) -> None:
    settings.ENABLE_METRICS = False
    assert_error(anonymous.get("/metrics"), 404, "not_found")
