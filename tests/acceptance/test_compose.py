"""The services of the compose file, each by its very command, behind nginx: one origin for everything."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import os
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from PIL import Image
from websockets.sync.client import connect

from generation.db import session_settings
from generation.db.session_settings import SETTINGS, Kind
from tests.fakes.control import FakeProvider
from tests.support import promtool
from tests.support.collector import Collector
from tests.support.composed import Composed, composed
from tests.support.stack import PASSWORD, wait_until
from tests.support.uploads import encoded

pytestmark = pytest.mark.long


#: What is told when something is wrong, and the alerts that then fire.
BROKEN: list[tuple[dict[str, str], set[str]]] = [
    ({'vga_up{server="database"': "0x60"}, {"DatabaseUnreachable"}),
    ({'vga_up{server="broker"': "0x60"}, {"BrokerUnreachable"}),
    ({'vga_processes{kind="worker"': "0x60"}, {"NoWorkers"}),
    ({'vga_processes{kind="dispatcher"': "0x60"}, {"NoDispatcher"}),
    ({'vga_queue_oldest_seconds{priority="low"': "0+60x60"}, {"QueueTooOld"}),
    ({'vga_request_transitions_total{reason="failed"': "0+10x60"}, {"ManyFail"}),
    ({'vga_provider_suspended{provider="openai"': "1x60"}, {"ProviderLeftAlone"}),
    ({'process_resident_memory_bytes{job="worker"': "700000000x60"}, {"WorkerMemory"}),
    ({'vga_request_transitions_total{reason="lease_expired",status="queued"': "0+1x60"}, {"WorkersDie"}),
    ({'vga_provider_call_seconds_bucket{le="+Inf"': "0+10x60"}, {"ProviderSlow"}),
    ({'vga_dispatcher_pass_seconds_bucket{le="+Inf"': "0+10x60"}, {"DispatcherSlow"}),
    ({'vga_processes{kind="deliverer"': "0x60"}, {"NoDeliverer"}),
    ({"vga_webhooks_pending": "0+100x60"}, {"WebhooksPileUp"}),
    ({'vga_webhook_deliveries_total{outcome="failed"': "0+10x60"}, {"WebhooksFail"}),
]
KEY = "sk-canary-of-a-deployment"
PROMPT = "A dragon whose canary sings in the garden"
MOST_MB = 700
REPLICAS = ("web", "web:2", "realtime", "worker", "dispatcher", "deliverer")


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.fixture(scope="module")
def stack(provider: FakeProvider, collector: Collector) -> Iterator[Composed]:
    settings = {
        "OPENAI_BASE_URL": provider.openai_url,
        "SUBMIT_RATE": "1000000/m",
        "TOKEN_RATE": "1000000/m",
        "RETRY_DELAY_MS": "200",
        "QUEUE_PROCESSING_INTERVAL": "500",
        "METRICS_COLLECTION_INTERVAL": "1000",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "SENTRY_DSN": collector.dsn,
    }
    promtool.found("nginx", "nginx-light")
    with composed(**settings) as stack:
        key = stack.secrets / "openai_api_key"
        key.chmod(0o644)
        key.write_text(KEY)
        migrated = stack.run("migrate")
        assert migrated.returncode == 0, migrated.stderr
        stack.make_people()
        static = stack.run("web", "python", "manage.py", "collectstatic", "--no-input", "-v0")
        assert static.returncode == 0, static.stderr
        stack.start(*REPLICAS)
        stack.wait_healthy(*REPLICAS)
        stack.start_proxy(web=("web", "web:2"))
        wait_until(lambda: httpx2.get(f"{stack.url}/readyz", timeout=10).status_code == 200, seconds=60)
        yield stack


@pytest.fixture
def alice(stack: Composed) -> Iterator[httpx2.Client]:
    with stack.client("alice") as client:
        yield client


def submit(client: httpx2.Client, **headers: str) -> httpx2.Response:
    answer = client.post("/submit", json={"type": "illustration", "prompt": PROMPT}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def finished(client: httpx2.Client, request_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        answer = client.get(f"/status/{request_id}?imageData=false")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found if found["status"] in {"completed", "failed"} else None

    found: dict[str, Any] = wait_until(look, seconds=40, what="an end")
    return found


def logged(stack: Composed, *names: str) -> list[dict[str, Any]]:
    """The lines of these processes, each of which is JSON."""
    return [json.loads(line) for name in names for line in stack.log(name).splitlines()]


def test_idle_it_takes_little_memory(stack: Composed) -> None:
    found = stack.memory_mb()
    spare = found.pop("web:2")
    print({name: round(mb) for name, mb in found.items()}, f"and {spare:.0f} for a second web")  # noqa: T201
    assert {"web", "realtime", "worker", "dispatcher", "deliverer", "postgres", "valkey", "proxy"} == set(found)
    assert min(found.values()) > 1
    assert sum(found.values()) < MOST_MB


def test_an_image_is_made_and_fetched_at_one_origin(stack: Composed, alice: httpx2.Client) -> None:
    done = finished(alice, submit(alice).json()["requestId"])
    assert done["status"] == "completed", done
    address = done["result"]["imageUrl"]
    assert address.startswith(f"{stack.url}/")
    assert httpx2.get(address).content.startswith(b"\x89PNG")


def test_nginx_sends_images_itself_with_the_headers_of_the_web_process(stack: Composed, alice: httpx2.Client) -> None:
    address = finished(alice, submit(alice).json()["requestId"])["result"]["imageUrl"]
    theirs = httpx2.get(address)
    ours = httpx2.get(address, headers={"Range": "bytes=0-"})
    assert (theirs.status_code, ours.status_code) == (200, 206)
    assert theirs.content == ours.content
    assert "Last-Modified" in theirs.headers  # of the file, of which we say nothing
    own = {"date", "x-request-id", "connection", "server", "content-range", "accept-ranges", "content-length", "allow"}
    said = {name: value for name, value in ours.headers.items() if name not in own}
    assert said.items() <= theirs.headers.items()
    assert httpx2.get(address, headers={"If-None-Match": theirs.headers["ETag"]}).status_code == 304
    assert httpx2.head(address).headers["Content-Length"] == str(len(ours.content))


def test_an_upload_larger_than_other_bodies_passes_nginx_both_ways(stack: Composed, alice: httpx2.Client) -> None:
    data = encoded(Image.frombytes("RGB", (1000, 1000), os.urandom(3_000_000)))
    upload = alice.post("/uploads", files={"file": ("noise.png", data)})
    assert upload.status_code == 201, upload.text
    sent = httpx2.get(upload.json()["imageUrl"])
    assert hashlib.sha256(sent.content).hexdigest() == upload.json()["sha256"]
    assert "Last-Modified" in sent.headers  # by nginx itself


@pytest.mark.parametrize(
    "path", ["/pictures/", "/pictures/results/", "/pictures/../media/secret_key", "/pictures/receipts/x"]
)
def test_the_files_are_not_reachable_without_the_web_process(stack: Composed, path: str) -> None:
    assert httpx2.get(f"{stack.url}{path}").status_code == 404


def test_the_socket_is_at_the_same_origin(stack: Composed, alice: httpx2.Client) -> None:
    token = alice.headers["Authorization"].partition(" ")[2]
    with connect(stack.url.replace("http", "ws", 1) + "/ws/visual-generation") as socket:
        socket.send(json.dumps({"type": "authenticate", "token": token}))
        assert json.loads(socket.recv(timeout=20)) == {"type": "authenticated"}
        scraped = httpx2.get(
            f"http://127.0.0.1:{stack.port_of('realtime', 'REALTIME_PORT')}/metrics", headers=bearer(stack)
        )
        assert "vga_websocket_connections 1.0" in scraped.text


def test_the_pages_have_their_files(stack: Composed) -> None:
    assert httpx2.get(f"{stack.url}/static/generation/site.css").status_code == 200
    assert httpx2.get(f"{stack.url}/sign-in").status_code == 200


def test_a_forged_address_header_does_not_evade_the_rate_limit(stack: Composed) -> None:
    sent = httpx2.get(f"{stack.url}/healthz", headers={"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https"})
    assert sent.status_code == 200


def test_the_role_of_the_processes_cannot_change_tables(stack: Composed) -> None:
    address = stack.database_url()
    with psycopg.connect(address) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DROP TABLE generation_requests")
    with psycopg.connect(address) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("CREATE TABLE mine (id int)")
    with psycopg.connect(address) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("vga_command",)


@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET change_message = ''", "TRUNCATE {}"])
def test_the_role_of_the_processes_cannot_change_the_audit(stack: Composed, change: str) -> None:
    address = stack.database_url()
    with psycopg.connect(address) as connection:
        assert connection.execute("SELECT has_table_privilege('django_admin_log', 'INSERT')").fetchone() == (True,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(change.format("django_admin_log").encode())


@pytest.mark.parametrize("kind", session_settings.SERVED)
def test_the_role_of_each_kind_has_its_settings_without_being_told(stack: Composed, kind: Kind) -> None:
    with psycopg.connect(stack.database_url(kind)) as connection:
        found = {name: connection.execute(f"SHOW {name}".encode()).fetchone() for name in SETTINGS[kind]}
        assert connection.execute("SELECT has_table_privilege('generation_requests', 'UPDATE')").fetchone() == (True,)
    assert found == {name: (value,) for name, value in SETTINGS[kind].items()}


def test_each_process_signs_in_as_the_role_of_its_kind(stack: Composed) -> None:
    signed_in = "SELECT DISTINCT usename, application_name FROM pg_stat_activity WHERE usename LIKE 'vga%'"

    def found() -> bool:
        with psycopg.connect(stack.postgres.url) as connection:
            rows = set(connection.execute(signed_in).fetchall())
        return {(f"vga_{kind}", f"vga-{kind}") for kind in ("web", "worker", "dispatcher", "deliverer")} <= rows

    wait_until(found, what="sessions of each kind")
    assert "wrong settings" not in stack.run("web", "python", "manage.py", "doctor").stdout


# --- Log lines, traces and reports ---


def test_one_id_is_on_every_line_from_the_call_to_the_worker(stack: Composed, alice: httpx2.Client) -> None:
    answer = submit(alice, **{"X-Request-ID": "studio-4711"})
    assert answer.headers["X-Request-ID"] == "studio-4711"
    request_id = answer.json()["requestId"]
    finished(alice, request_id)

    def lines() -> list[dict[str, Any]]:
        return [line for line in logged(stack, "worker") if line.get("request_id") == request_id]

    wait_until(lambda: {"started", "completed"} <= {line.get("action") for line in lines()}, what="the worker's lines")
    assert {line["http_request_id"] for line in lines()} == {"studio-4711"}
    assert {line["level"] for line in lines()} == {"info"}
    assert '"http_request_id":"studio-4711"' in stack.log("proxy")


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "é", "a;b"])
def test_an_id_that_is_not_plain_is_replaced(stack: Composed, given: str) -> None:
    answer = httpx2.get(f"{stack.url}/healthz", headers=[(b"X-Request-ID", given.encode())])
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])


def test_neither_prompts_nor_keys_are_in_the_logs(
    stack: Composed, alice: httpx2.Client, provider: FakeProvider
) -> None:
    provider.script(default="status=401")
    try:
        failed = finished(alice, submit(alice).json()["requestId"])
    finally:
        provider.reset()
        assert stack.run("web", "python", "manage.py", "resume_provider", "openai").returncode == 0
    assert failed["status"] == "failed"
    written = "".join(stack.log(name) for name in (*REPLICAS, "proxy"))
    assert failed["requestId"] in written
    secrets = [path.read_text().strip() for path in stack.secrets.iterdir() if path.read_text().strip()]
    token = alice.headers["Authorization"].partition(" ")[2]
    for word in (KEY, "canary", token, *secrets):
        assert word not in written


def test_one_trace_leads_from_the_call_to_the_provider(
    stack: Composed, alice: httpx2.Client, collector: Collector
) -> None:
    request_id = submit(alice).json()["requestId"]
    finished(alice, request_id)

    def chain() -> dict[str, Any] | None:
        spans = collector.spans()
        works = [span for span in spans if span["attributes"].get("vga.request.id") == request_id]
        trace = {span["name"]: span for span in spans if works and span["trace"] == works[0]["trace"]}
        return trace if len(trace) >= 4 else None

    trace = wait_until(chain, what="the spans")
    web, queue = trace["POST generation:submit"], trace["queue"]
    work, call = trace["generate"], trace["provider openai"]
    assert [span["service"].rpartition("-")[2] for span in (web, queue, work, call)] == ["web", *3 * ["worker"]]
    assert queue["parent"] == work["parent"] == web["id"]
    assert call["parent"] == work["id"]
    assert call["attributes"]["vga.outcome"] == "ok"
    assert b"canary" not in collector.heard()


# --- Metrics ---


def bearer(stack: Composed) -> dict[str, str]:
    return {"Authorization": f"Bearer {(stack.secrets / 'metrics_token').read_text().strip()}"}


def scrape(stack: Composed, name: str) -> str:
    which = {"web": "PORT", "realtime": "REALTIME_PORT"}.get(name.partition(":")[0], "METRICS_PORT")
    answer = httpx2.get(f"http://127.0.0.1:{stack.port_of(name, which)}/metrics", headers=bearer(stack), timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.text


def value(text: str, name: str, **labels: str) -> float:
    """The sum of the samples with this name that have these labels."""
    total = 0.0
    for line in text.splitlines():
        found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
        if found and all(f'{label}="{wanted}"' in (found[1] or "") for label, wanted in labels.items()):
            total += float(found[2])
    return total


def test_metrics_need_the_token(stack: Composed) -> None:
    assert httpx2.get(f"{stack.url}/metrics").status_code == 404
    for name, which in {
        "web": "PORT",
        "worker": "METRICS_PORT",
        "dispatcher": "METRICS_PORT",
        "deliverer": "METRICS_PORT",
    }.items():
        address = f"http://127.0.0.1:{stack.port_of(name, which)}/metrics"
        assert httpx2.get(address).status_code == 401
        assert httpx2.get(address, headers={"Authorization": "Bearer x"}).status_code == 401


def test_the_processes_of_one_server_count_together(stack: Composed) -> None:
    before = value(scrape(stack, "web"), "vga_http_request_seconds_count", route="healthz")
    address = f"http://127.0.0.1:{stack.port_of('web', 'PORT')}/healthz"
    for _ in range(40):  # each on a connection of its own, so that both processes answer some
        assert httpx2.get(address).status_code == 200
    found = {value(scrape(stack, "web"), "vga_http_request_seconds_count", route="healthz") for _ in range(6)}
    assert found == {before + 40}


def test_the_requested_checks_are_measured(stack: Composed, alice: httpx2.Client) -> None:
    worker, web, dispatcher = (scrape(stack, name) for name in ("worker", "web", "dispatcher"))
    ends = value(worker, "vga_request_transitions_total", type="illustration", status="completed")
    finished(alice, submit(alice).json()["requestId"])
    worker = scrape(stack, "worker")
    assert value(worker, "vga_request_transitions_total", type="illustration", status="completed") == ends + 1
    assert value(worker, "vga_provider_call_seconds_count", provider="openai", outcome="ok") >= 1
    assert value(worker, "vga_provider_call_seconds_count", provider="openai", outcome="auth") >= 1
    assert value(worker, "vga_wait_seconds_count", priority="normal") >= 1
    assert value(worker, "vga_generation_seconds_count", type="illustration") >= 1
    assert value(worker, "vga_cost_usd_total", provider="openai") > 0
    assert value(web, "vga_up", server="database") == value(web, "vga_up", server="broker") == 1
    assert value(web, "vga_processes", kind="worker") == value(web, "vga_processes", kind="dispatcher") == 1
    for priority in ("urgent", "high", "normal", "low"):
        assert f'vga_queue_depth{{priority="{priority}"}}' in web
        assert f'vga_queue_oldest_seconds{{priority="{priority}"}}' in web
    assert 'vga_provider_suspended{provider="openai",reason=' in web
    assert value(dispatcher, "vga_dispatcher_pass_seconds_count") > 0
    assert value(dispatcher, "vga_dispatcher_found_total", step="counted") > 0
    assert 'vga_dispatcher_found_total{step="rescued"}' in dispatcher


def test_counters_are_kept_and_folded(stack: Composed) -> None:
    with psycopg.connect(stack.database_url(), autocommit=True) as connection:

        def completed() -> Any:
            days = "SELECT sum(count) FROM generation_counters WHERE grain = 'day' AND event = 'completed'"
            return connection.execute(days).fetchone()

        wait_until(lambda: (completed()[0] or 0) >= 1, seconds=40, what="counters")


def test_the_rules_and_the_board_ask_for_what_is_told(stack: Composed, tmp_path: Path) -> None:
    promtool.promtool("check", "config", "--syntax-only", promtool.FOLDER / "prometheus.yml")
    assert "SUCCESS" in promtool.promtool("check", "rules", promtool.FOLDER / "alerts.yml")
    scraped: dict[str, str] = {}
    for job in ("web", "realtime", "worker", "dispatcher", "deliverer"):
        text = scrape(stack, job)
        promtool.promtool("check", "metrics", given=text)
        scraped |= promtool.series(text, job)
    names = {series.partition("{")[0] for series in scraped}
    for expression in [*promtool.alerts().values(), *promtool.panels()]:
        asked = set(re.findall(r"\b(?:vga|process)_[a-z_]+", expression))
        assert asked
        assert asked <= names, expression
    promtool.firing(tmp_path, scraped, {}, expected=set())
    for changed, expected in BROKEN:
        promtool.firing(tmp_path, scraped, changed, expected=expected)
    # As nothing went wrong here, no call was answered so.
    calls = [name for name in scraped if name.startswith("vga_http_request_seconds_count")]
    unwell = [name.replace('status="200"', 'status="503"') for name in calls if 'status="200"' in name]
    scraped |= dict.fromkeys(unwell, "0")
    promtool.firing(tmp_path, scraped, dict.fromkeys(unwell, "0+1x60"), expected={"CallsFail"})


# --- Rolling restart, last, since it replaces the processes ---


def test_a_stopping_web_server_answers_every_connection(stack: Composed, alice: httpx2.Client) -> None:
    """SIGTERM comes before the server has read all calls, and before half of them were sent."""
    draw = {"type": "illustration", "prompt": PROMPT}
    request_id = submit(alice).json()["requestId"]
    token = alice.headers["Authorization"]
    bodies: dict[str, Any] = {
        "/api/visual-generation/submit": draw,
        "/api/visual-generation/batch": {"requests": [draw]},
        f"/api/visual-generation/retry/{request_id}": {},
        "/api/token": {"username": "alice", "password": PASSWORD},
        "/api/token/verify": {"token": token.partition(" ")[2]},
    }
    calls = [
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {token}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(json.dumps(body))}\r\n\r\n{json.dumps(body)}".encode()
        for path, body in bodies.items()
    ]
    address = ("127.0.0.1", stack.port_of("web", "PORT"))

    def is_refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(address) == errno.ECONNREFUSED

    stopped = threading.Thread(target=stack.stop, args=["web"])
    with contextlib.ExitStack() as opened:
        early, late = (
            [opened.enter_context(socket.create_connection(address, timeout=20)) for _ in calls * 4] for _ in range(2)
        )
        for connection, call in zip(early, calls * 4, strict=True):
            connection.sendall(call)
        stopped.start()
        wait_until(is_refused, what="a refusal")
        for connection, call in zip(late, calls * 4, strict=True):
            connection.sendall(call)
        answers = [http.client.HTTPResponse(connection) for connection in early + late]
        for answer in answers:
            answer.begin()
            answer.read()
    assert Counter(answer.status for answer in answers) == {200: 32, 409: 8}  # it had not failed, so no retry
    assert {answer.headers["Connection"] for answer in answers[len(early) :]} == {"close"}
    stopped.join(20)
    assert not stopped.is_alive()
    stack.start("web")
    stack.wait_healthy("web")


def test_a_rolling_restart_under_load_loses_nothing(stack: Composed, provider: FakeProvider) -> None:
    provider.reset()
    provider.script(default="delay=0.2")
    over = threading.Event()
    accepted: list[str] = []
    refused: list[str] = []

    def submit_on(number: int) -> None:
        with stack.client("alice") as client:
            while not over.is_set():
                body = {"type": "illustration", "prompt": f"Dragon number {number:06d} {len(accepted):06d}"}
                try:
                    answer = client.post("/submit", json=body)
                except httpx2.TransportError as error:
                    refused.append(repr(error))
                    continue
                (accepted if answer.status_code == 200 else refused).append(
                    answer.json()["requestId"] if answer.status_code == 200 else answer.text
                )
                over.wait(0.2)

    threads = [threading.Thread(target=submit_on, args=[number]) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for name in REPLICAS:
            kind, _, number = name.partition(":")
            seen = len(accepted)
            if kind == "web":  # the other one answers meanwhile
                assert stack.stop(name) == 0
                stack.start(name)
                stack.wait_healthy(name)
            elif kind == "realtime":
                stack.stop(name)  # clients connect again; no request goes through it
                stack.start(name)
                stack.wait_healthy(name)
            else:  # the new one first
                stack.start(f"{kind}:{number or 1}-new")
                stack.wait_healthy(f"{kind}:{number or 1}-new")
                assert stack.stop(name) == 0
            wait_until(lambda: len(accepted) > seen + 2, seconds=40, what="more submits")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not refused
    with stack.client("alice") as client:
        ends = Counter(finished(client, request_id)["status"] for request_id in accepted)
    assert ends == {"completed": len(accepted)}
    assert provider.stats().count == len(accepted)
