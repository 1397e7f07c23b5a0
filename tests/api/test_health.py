"""GET /healthz and /readyz: liveness and readiness."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from generation.models import WorkerProcess
from tests.api.helpers import assert_error

pytestmark = pytest.mark.django_db

OK = {"database": "ok", "broker": "ok", "worker": "ok"}


@pytest.fixture
def worker(db: None) -> WorkerProcess:
    """A worker with a fresh heartbeat."""
    process: WorkerProcess = WorkerProcess.objects.create(name="worker-1", slots=5)
    return process


@pytest.mark.parametrize("at", ["/healthz", "/readyz"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_probes_need_no_token(anonymous: APIClient, worker: WorkerProcess, at: str, method: str) -> None:
    assert anonymous.generic(method, at).status_code == 200


def test_a_running_process_is_healthy_without_its_dependencies(anonymous: APIClient) -> None:
    response = anonymous.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_health_uses_no_database(anonymous: APIClient, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert anonymous.get("/healthz").status_code == 200


@pytest.mark.parametrize("at", ["/healthz", "/readyz"])
def test_a_bad_token_is_ignored(anonymous: APIClient, worker: WorkerProcess, at: str) -> None:
    assert anonymous.get(at, HTTP_AUTHORIZATION="Bearer garbage").status_code == 200


def test_it_is_ready_if_all_parts_are_up(anonymous: APIClient, worker: WorkerProcess) -> None:
    response = anonymous.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "ok", "checks": OK})


def test_without_a_worker_it_is_not_ready(anonymous: APIClient) -> None:
    response = anonymous.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"status": "unavailable", "checks": OK | {"worker": "missing"}}


@pytest.mark.parametrize(("silent_for", "status"), [(25, 200), (35, 503)], ids=["two heartbeats", "three heartbeats"])
def test_a_worker_that_missed_three_heartbeats_does_not_count(
    anonymous: APIClient, worker: WorkerProcess, silent_for: int, status: int
) -> None:
    WorkerProcess.objects.update(seen_at=timezone.now() - timedelta(seconds=silent_for))
    assert anonymous.get("/readyz").status_code == status


def test_one_live_worker_among_dead_ones_is_enough(anonymous: APIClient, worker: WorkerProcess) -> None:
    WorkerProcess.objects.create(name="worker-0", slots=5, seen_at=timezone.now() - timedelta(days=1))
    assert anonymous.get("/readyz").status_code == 200


@pytest.mark.usefixtures("no_broker")
def test_without_the_broker_it_is_not_ready(anonymous: APIClient, worker: WorkerProcess) -> None:
    response = anonymous.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"status": "unavailable", "checks": OK | {"broker": "unreachable"}}


@pytest.mark.usefixtures("no_broker")
def test_every_missing_part_is_named(anonymous: APIClient) -> None:
    checks = anonymous.get("/readyz").json()["checks"]
    assert {name for name, state in checks.items() if state != "ok"} == {"broker", "worker"}


HOSTS = ["10.42.8.201:8000", "[fd00::1]:8000", "web-5d9c", "evil.example", "a host?", "under_score", "\xff", ""]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("debug", [False, True], ids=["in production", "with DEBUG"])
def test_a_probe_may_name_any_host(
    anonymous: APIClient, worker: WorkerProcess, settings: Any, host: str, debug: bool
) -> None:
    settings.DEBUG = debug
    settings.METRICS_TOKEN = "a token of Prometheus"
    authorization = "Bearer a token of Prometheus"
    for at in ("/healthz", "/readyz", "/metrics"):
        for method in ("GET", "HEAD"):
            assert anonymous.generic(method, at, HTTP_HOST=host, HTTP_AUTHORIZATION=authorization).status_code == 200


@pytest.mark.parametrize("host", [host for host in HOSTS if host])
def test_other_paths_check_the_host(anonymous: APIClient, host: str) -> None:
    for at in ("/", "/api/visual-generation/queue/status", "/api/token", "/healthz/", "/sign-in", "/nonsense"):
        assert_error(anonymous.get(at, HTTP_HOST=host), 400, "bad_request")
    assert_error(anonymous.post("/healthz", HTTP_HOST=host), 400, "bad_request")


def test_a_read_only_database_is_not_ready(anonymous: APIClient, worker: WorkerProcess) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
    response = anonymous.get("/readyz")
    assert (response.status_code, response.json()["checks"]["database"]) == (503, "unreachable")


def test_health_has_no_paths_below_it(anonymous: APIClient) -> None:
    assert_error(anonymous.get("/healthz/x"), 404, "not_found")
