"""nginx with ``deploy/nginx.conf``: its own errors and limits, and the connections that pass through it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator, Mapping
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from config.local.valkey import free_port
from tests.realtime.live import Live, running
from tests.support import compose
from tests.support.composed import nginx_command
from tests.support.stack import closed_port, wait_until

EVENTS = "/api/visual-generation/events"
UPLOADS = "/api/visual-generation/uploads"
SUBMIT = "/api/visual-generation/submit"
SOCKET = "/ws/visual-generation"


class Proxy:
    """nginx in front of these ports."""

    def __init__(
        self, folder: Path, *, web: int, realtime: int, changed: Mapping[str, str] | None = None, **variables: str
    ) -> None:
        """``changed`` has other text for some of the template, such as shorter times."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "proxy.log"
        file = compose.read({"PUBLIC_BASE_URL": self.url} | variables)
        command = nginx_command(folder, file, listen=self.port, web=[web], realtime=realtime)
        written = folder / "nginx" / "nginx.conf"
        for there, here in (changed or {}).items():
            assert there in written.read_text()
            written.write_text(written.read_text().replace(there, here))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._listens, what="nginx")

    def _listens(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port)).close()
            return True
        return False

    def raw(self, *pieces: bytes) -> tuple[int, Any, str]:
        """The status, headers and body of what is answered to these bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            with contextlib.suppress(OSError):  # it has answered and hung up
                for piece in pieces:
                    connection.sendall(piece)
            response = HTTPResponse(connection)
            response.begin()
            return response.status, response.headers, response.read().decode()

    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """With nothing behind it."""
    proxy = Proxy(tmp_path_factory.mktemp("alone"), web=closed_port(), realtime=closed_port())
    yield proxy
    proxy.stop()


def head(line: str, *headers: str) -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


UPGRADE = (
    *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
LARGE = [f"POST {SUBMIT}", f"POST {EVENTS}", f"PUT {SOCKET}", "POST /sign-in"]
WRONG: dict[str, tuple[list[bytes], int, str]] = {
    **{
        f"a large body, {line}": ([head(line, "Content-Length: 1200000"), b"x"], 413, "body_too_large")
        for line in LARGE
    },
    "large chunks": (
        [head(f"POST {SUBMIT}", "Transfer-Encoding: chunked"), b"124f80\r\n" + b"x" * 1_200_000 + b"\r\n0\r\n\r\n"],
        413,
        "body_too_large",
    ),
    "an upload that is too large": ([head(f"POST {UPLOADS}", "Content-Length: 22000000"), b"x"], 413, "too_large"),
    "a large upload, web is down": (
        [head(f"POST {UPLOADS}/", "Prefer: wait", "Content-Length: 20000000"), bytes(20_000_000)],
        502,
        "unavailable",
    ),
    "a large header": ([head(f"GET {SUBMIT}", f"X-Large: {'a' * 9000}")], 431, "headers_too_large"),
    "a large token": ([head(f"GET {EVENTS}", f"Authorization: Bearer {'a' * 9000}")], 431, "headers_too_large"),
    "a large cookie": ([head(f"GET {SOCKET}", *UPGRADE, f"Cookie: {'a' * 9000}")], 431, "headers_too_large"),
    "many headers": ([head(f"GET {SUBMIT}", *[f"X-{n}: {'a' * 4000}" for n in range(12)])], 431, "headers_too_large"),
    "a long address": ([head(f"GET {SUBMIT}?{'a' * 9000}")], 414, "uri_too_long"),
    "no host": ([f"GET {SUBMIT} HTTP/1.1\r\n\r\n".encode()], 400, "bad_request"),
    "two hosts": ([head(f"GET {SUBMIT}", "Host: y")], 400, "bad_request"),
    "no length": ([head(f"POST {SUBMIT}", "Content-Length: many")], 400, "bad_request"),
    "no request": ([b"hello\r\n\r\n"], 400, "bad_request"),
    "another version": ([b"GET / HTTP/3.7\r\n\r\n"], 505, "http_version_not_supported"),
    "another coding": ([head(f"POST {SUBMIT}", "Transfer-Encoding: gzip")], 501, "not_implemented"),
    "another method": ([head(f"TRACE {SUBMIT}")], 405, "method_not_allowed"),
    "metrics": ([head("GET /metrics")], 404, "not_found"),
    "files": ([head("GET /pictures/results/x.png")], 404, "not_found"),
    "its own error": ([head("GET /.proxy-error")], 404, "not_found"),
    "web is down": ([head(f"GET {SUBMIT}")], 502, "unavailable"),
    "web is down, page": ([head("GET /")], 502, "unavailable"),
    "realtime is down, events": ([head(f"GET {EVENTS}")], 502, "unavailable"),
    "realtime is down, socket": ([head(f"GET {SOCKET}", *UPGRADE)], 502, "unavailable"),
}


@pytest.mark.parametrize(("pieces", "status", "code"), WRONG.values(), ids=WRONG.keys())
def test_errors_of_the_proxy_itself_are_json(alone: Proxy, pieces: list[bytes], status: int, code: str) -> None:
    found, headers, body = alone.raw(*pieces)
    parsed = httpx2.Response(found, text=body).json()
    assert (found, parsed["code"], set(parsed)) == (status, code, {"error", "code"})
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert (headers["Retry-After"] is not None) == (status in {502, 503, 504})


@pytest.mark.parametrize(
    ("pieces", "status", "code"),
    [
        ([head("GET /v1/models")], 502, "unavailable"),
        ([head("POST /v1/images/edits", "Content-Length: 70000000"), b"x"], 413, "body_too_large"),
    ],
)
def test_below_v1_its_errors_have_the_shape_of_openais(
    alone: Proxy, pieces: list[bytes], status: int, code: str
) -> None:
    found, headers, body = alone.raw(*pieces)
    parsed = httpx2.Response(found, text=body).json()
    assert (found, parsed["error"]["code"], set(parsed)) == (status, code, {"error"})
    assert set(parsed["error"]) == {"message", "type", "param", "code"}
    assert headers["Content-Type"] == "application/json"


def test_a_server_that_does_not_answer_in_time_is_504(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        shorter = {"proxy_read_timeout 90s": "proxy_read_timeout 1s"}
        proxy = Proxy(tmp_path, web=silent.getsockname()[1], realtime=closed_port(), changed=shorter)
        try:
            status, headers, body = proxy.raw(head(f"GET {SUBMIT}"))
        finally:
            proxy.stop()
    assert (status, headers["Retry-After"]) == (504, "5")
    assert '"code":"gateway_timeout"' in body


def test_no_query_is_written_to_the_proxys_log(alone: Proxy) -> None:
    for path in (SUBMIT, EVENTS, SOCKET, "/metrics"):
        alone.raw(head(f"GET {path}?signature=canary-in-a-query"))
    alone.raw(head(f"POST {SUBMIT}?token=canary-in-a-query", "Content-Length: 1200000"))
    alone.raw(head(f"GET {SUBMIT}?token=canary-in-a-query", f"X-Large: {'a' * 9000}"))
    wait_until(lambda: '"status":431' in alone.log(), what="the last line")
    assert "canary" not in alone.log()


def test_one_address_holds_so_many_connections_to_the_proxy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=20) as silent:
        web = silent.getsockname()[1]
        proxy = Proxy(tmp_path, web=web, realtime=closed_port(), CONNECTIONS_PER_ADDRESS="4")
        with contextlib.ExitStack() as held:
            held.callback(proxy.stop)
            for _ in range(4):
                connection = held.enter_context(socket.create_connection(("127.0.0.1", proxy.port)))
                connection.sendall(head(f"GET {SUBMIT}"))
                held.enter_context(silent.accept()[0])  # passed on, so it is counted
            status, headers, body = proxy.raw(head(f"GET {SUBMIT}"))
    assert (status, headers["Retry-After"]) == (429, "1")
    assert '"code":"rate_limited"' in body


def test_one_address_makes_so_many_calls_in_a_second(tmp_path: Path) -> None:
    proxy = Proxy(tmp_path, web=closed_port(), realtime=closed_port(), CALLS_PER_ADDRESS="1")
    try:
        with httpx2.Client() as client:
            statuses = [client.get(f"{proxy.url}{SUBMIT}").status_code for _ in range(600)]
    finally:
        proxy.stop()
    assert statuses.count(429) > 50
    assert set(statuses[:500]) == {502}


# --- With our processes behind it -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def over_https(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, Proxy]]:
    address = "images.example.org"
    settings = {"PUBLIC_BASE_URL": f"https://{address}", "ALLOWED_HOSTS": address, "TRUSTED_PROXIES": "1"}
    folder = tmp_path_factory.mktemp("https")
    with running(folder, realtime=settings) as live:
        proxy = Proxy(folder, web=live.stack.port, realtime=live.stack.realtime_port)
        yield live, proxy
        proxy.stop()


def test_plain_http_through_the_proxy_is_not_served_where_https_is_set(over_https: tuple[Live, Proxy]) -> None:
    _, proxy = over_https
    headers = {"Host": "images.example.org", "X-Forwarded-Proto": "https"}  # which is for proxies to say
    answer = httpx2.get(f"{proxy.url}{EVENTS}?projectId=a", headers=headers)
    assert answer.status_code == 301
    assert answer.headers["Location"] == f"https://images.example.org{EVENTS}?projectId=a"
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(f"ws://127.0.0.1:{proxy.port}{SOCKET}", additional_headers={"X-Forwarded-Proto": "https"}),
    ):
        pass
    assert refused.value.response.status_code == 403


def test_a_call_that_prefers_to_wait_goes_where_it_can(tmp_path: Path) -> None:
    with running(tmp_path, TRUSTED_PROXIES="1") as live:
        proxy = Proxy(tmp_path, web=live.stack.port, realtime=live.stack.realtime_port)
        headers = {"Authorization": live.client("alice").headers["Authorization"]}
        request = f"{proxy.url}/api/visual-generation/status/{live.submit()}"
        waits = {"wait=1": "wait=1", "respond-async, wait=1": "wait=1", "waiting": None, "": None}
        try:
            applied = {
                prefer: httpx2.get(request, headers=headers | {"Prefer": prefer}).headers.get("Preference-Applied")
                for prefer in waits
            }
        finally:
            proxy.stop()
    assert applied == waits


def test_the_next_call_through_the_proxy_is_answered(over_https: tuple[Live, Proxy]) -> None:
    live, proxy = over_https
    token = live.client("alice").headers["Authorization"]
    for headers, status in (({}, 401), ({"Authorization": token, "Content-Type": "text/xml"}, 415)):
        with httpx2.Client(base_url=proxy.url) as client:
            for _ in range(10):
                assert client.post(SUBMIT, content=b" " * 900_000, headers=headers).status_code == status
                assert client.get("/healthz").status_code == 200
