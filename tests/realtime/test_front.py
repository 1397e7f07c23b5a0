"""Rules for every connection to the realtime process: logs, bodies, https and connection limits."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any

import httpx2
import pytest
from websockets.exceptions import InvalidStatus

from tests.realtime.live import UNKNOWN_IDS, Live, another_realtime
from tests.support.stack import wait_until

EVENTS = "/api/visual-generation/events"
SOCKET = "/ws/visual-generation"


# --- Logs -------------------------------------------------------------------------------------------------------------


def test_no_query_is_written_to_the_log(live: Live) -> None:
    secret = "a-token-in-the-address"
    for path in (EVENTS, SOCKET, "/healthz", "/nothing"):
        httpx2.get(f"http://{live.address}{path}?token={secret}")
    with live.socket(path=f"{SOCKET}?token={secret}") as connected:
        assert connected.hears_nothing()
    with pytest.raises(InvalidStatus), live.socket(None, path=f"/ws/other?token={secret}"):
        pass
    assert secret not in live.stack.log("realtime")
    assert secret not in live.stack.log("web")


# --- Bodies -----------------------------------------------------------------------------------------------------------


def call(connection: socket.socket, line: str, *headers: str, body: bytes = b"") -> tuple[int, Any]:
    connection.sendall("\r\n".join([f"{line} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode() + body)
    response = HTTPResponse(connection)
    response.begin()
    response.read()
    return response.status, response.headers


@pytest.mark.parametrize(
    ("status", "line"),
    [(405, f"POST {EVENTS}"), (401, f"GET {EVENTS}"), (415, "POST /api/token"), (200, "GET /healthz")],
)
def test_the_next_call_on_a_kept_connection_is_answered(live: Live, status: int, line: str) -> None:
    host, _, port = live.address.partition(":")
    for _ in range(5):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            found, headers = call(connection, line, "Content-Length: 900000", body=b" " * 900_000)
            assert (found, headers.get("Connection")) == (status, None)
            assert call(connection, "GET /healthz")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [["Content-Length: 50000000"], ["Content-Length: 9", "Expect: 100-continue"], ["Transfer-Encoding: chunked"]],
    ids=["too much to read", "the client waits for leave", "in chunks"],
)
@pytest.mark.parametrize("line", [f"POST {EVENTS}", "GET /healthz"])
def test_a_response_announces_that_the_connection_closes(live: Live, line: str, headers: list[str]) -> None:
    host, _, port = live.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        assert call(connection, line, *headers)[1]["Connection"] == "close"
        assert connection.recv(1) == b""


def test_a_body_that_is_too_large_closes_the_connection(live: Live) -> None:
    host, _, port = live.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        status, headers = call(connection, "POST /api/token", "Content-Length: 50000000")
        assert (status, headers["Connection"]) == (413, "close")
        assert connection.recv(1) == b""


def test_a_client_that_waits_for_leave_gets_it(live: Live) -> None:
    host, _, port = live.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        headers = ["Content-Type: application/json", "Content-Length: 2", "Expect: 100-continue"]
        connection.sendall("\r\n".join(["POST /api/token HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"{}")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")


# --- https ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def over_https(live: Live) -> Iterator[Live]:
    address = "images.example.org"
    settings = {"PUBLIC_BASE_URL": f"https://{address}", "ALLOWED_HOSTS": address, "TRUSTED_PROXIES": "1"}
    with another_realtime(live, **settings) as over_https:
        yield over_https


@pytest.mark.parametrize("proto", [None, "http", "http, https", ""])
def test_plain_http_is_redirected_if_https_is_configured(over_https: Live, proto: str | None) -> None:
    headers = {"Host": "images.example.org"} | ({} if proto is None else {"X-Forwarded-Proto": proto})
    query = {"requestId": UNKNOWN_IDS["requestId"], "projectId": "a b"}
    for method in ("GET", "HEAD", "POST"):
        answer = httpx2.request(method, over_https.events_url, params=query, headers=headers)
        assert answer.status_code == 301
        asked = httpx2.URL(over_https.events_url, params=query).raw_path.decode()
        assert answer.headers["Location"] == f"https://images.example.org{asked}"


def test_a_plain_socket_is_rejected_if_https_is_configured(over_https: Live) -> None:
    for headers in ({}, {"X-Forwarded-Proto": "http"}):
        with pytest.raises(InvalidStatus) as refused, over_https.socket(None, additional_headers=headers):
            pass
        assert refused.value.response.status_code == 403
        assert b"https_required" in (refused.value.response.body or b"")


def test_https_terminated_by_a_proxy_is_served(over_https: Live) -> None:
    proxied = {"X-Forwarded-Proto": "https"}
    with over_https.socket("alice", additional_headers=proxied) as connected:
        assert connected.hears_nothing()
    assert over_https.refusal(UNKNOWN_IDS, **{"X-Forwarded-Proto": "https"})[0] == 404
    assert httpx2.get(f"http://{over_https.address}/healthz").status_code == 200


def test_without_a_proxy_the_clients_header_is_ignored(live: Live) -> None:
    """Nor does uvicorn read the client's IP address from a header."""
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "1.2.3.4"}
    assert live.refusal(UNKNOWN_IDS, **headers)[0] == 404


# --- Caps -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def capped(live: Live) -> Iterator[Live]:
    caps = {"REALTIME_MAX_PER_USER": "3", "REALTIME_MAX_PER_ADDRESS": "5", "TRUSTED_PROXIES": "1"}
    with another_realtime(live, **caps) as capped:
        yield capped


def come_from(number: int) -> dict[str, Any]:
    return {"additional_headers": {"X-Forwarded-For": f"203.0.113.{number}"}}


def test_a_user_has_a_connection_limit_over_all_addresses(capped: Live) -> None:
    request_id = capped.submit()
    with contextlib.ExitStack() as held:
        held.enter_context(capped.socket(**come_from(1)))
        held.enter_context(capped.socket(**come_from(2)))
        stream = held.enter_context(capped.stream({"requestId": request_id}, X_Forwarded_For="203.0.113.3"))
        assert stream.hear()["event"] == "subscribed"
        status, body = capped.refusal({"requestId": request_id}, X_Forwarded_For="203.0.113.4")
        assert (status, body["code"]) == (429, "too_many_connections")
        with capped.socket(None, **come_from(5)) as one_more:
            one_more.say(type="authenticate", token=capped.token())
            assert one_more.end() == 4429
        with capped.stream({"requestId": request_id}, X_Forwarded_For="203.0.113.4") as refused:
            assert int(refused.response.headers["Retry-After"]) > 0
        with capped.socket("charlie", **come_from(1)) as other:
            assert other.hears_nothing()
    wait_until(lambda: is_let_in(capped), what="room after the others have left")


def is_let_in(capped: Live) -> bool:
    with capped.socket(None) as socket:
        socket.say(type="authenticate", token=capped.token())
        try:
            return socket.hear() == {"type": "authenticated"}
        except Exception:
            return False


def test_signing_in_again_takes_no_further_slot(capped: Live) -> None:
    with capped.socket(**come_from(6)) as one:
        for _ in range(5):
            assert one.ask(type="authenticate", token=capped.token()) == {"type": "authenticated"}


def test_an_address_has_a_connection_limit_signed_in_or_not(capped: Live) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(3):
            held.enter_context(capped.socket(None, **come_from(10)))
        for name in ("bob", "charlie"):
            held.enter_context(capped.socket(name, **come_from(10)))
        with capped.socket(None, **come_from(10)) as one_more:
            assert one_more.end() == 4429
        refused = capped.refusal(UNKNOWN_IDS, "bob", X_Forwarded_For="203.0.113.10")
        assert (refused[0], refused[1]["code"]) == (429, "too_many_connections")
        # The client sent the left entry; the proxy appended the right one.
        forged = {"X-Forwarded-For": "198.51.100.1, 203.0.113.10"}
        with capped.socket(None, additional_headers=forged) as one_more:
            assert one_more.end() == 4429
        with capped.socket(None, **come_from(11)) as other:
            assert other.connection.ping().wait(10)


def test_rejected_streams_release_their_slots(capped: Live) -> None:
    for _ in range(20):
        assert capped.refusal(UNKNOWN_IDS, "bob", X_Forwarded_For="203.0.113.20")[0] == 404
        assert capped.refusal(UNKNOWN_IDS, None, X_Forwarded_For="203.0.113.20")[0] == 401
