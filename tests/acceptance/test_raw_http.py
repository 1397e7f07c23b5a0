"""What no well-behaved client sends, byte for byte, to the production server; and what it says without its servers."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Sequence
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from tests.support.databases import Database
from tests.support.stack import Stack, prepared_stack, wait_until

BODY = json.dumps({"type": "cover", "prompt": "A friendly dragon in a garden"}).encode()
TRUE_LENGTH = f"Content-Length: {len(BODY)}"
CHUNKED = "Transfer-Encoding: chunked"
MIB = 1024 * 1024
#: An address without a server.
CLOSED = "127.0.0.1:1"


class Answer(NamedTuple):
    status: int
    headers: Any
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The body, which is an error in JSON."""
        assert self.headers["Content-Type"] == "application/json"
        parsed: dict[str, Any] = json.loads(self.body)
        assert parsed["error"]
        return parsed


class Server:
    """The web process, and Alice's token for it."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        with stack.client() as client:
            self._credentials = client.headers["Authorization"]

    def head(self, *headers: str, line: str = "POST /api/visual-generation/submit HTTP/1.1") -> bytes:
        """Request line and headers, of a submit unless another line is given."""
        standing = ["Host: 127.0.0.1", f"Authorization: {self._credentials}", "Content-Type: application/json"]
        return "\r\n".join([line, *standing, *headers, "Connection: close", "", ""]).encode()

    def exchange(self, *pieces: bytes) -> Answer:
        """Send the pieces, until the server has heard enough, and read its answer."""
        with self._connected() as connection:
            with contextlib.suppress(OSError):  # it has answered and hung up
                for piece in pieces:
                    connection.sendall(piece)
            with HTTPResponse(connection, method="HEAD" if pieces[0].startswith(b"HEAD") else None) as response:
                response.begin()
                return Answer(response.status, response.headers, response.read())

    def break_off(self, *pieces: bytes) -> None:
        """Send the pieces and no more, and wait until the server has hung up, with an answer or without."""
        with self._connected() as connection:
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(MIB):
                pass

    def _connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._stack.port), timeout=10)

    def stored(self) -> list[int]:
        """Return the numbers of requests, queue rows and status changes."""
        database = Database(self._stack.env["DATABASE_URL"])
        tables = ("generation_requests", "generation_queue", "generation_status_changes")
        return [database.rows(f"SELECT count(*) FROM {table}")[0]["count"] for table in tables]  # noqa: S608

    def memory(self) -> int:
        """Resident bytes of all processes of the server."""
        group = self._stack._running["web"].pid
        pages = 0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.getpgid(int(process.name)) == group:
                    pages += int((process / "statm").read_text().split()[1])
            except OSError:
                continue  # ended meanwhile
        return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"TRUSTED_PROXIES": "1", "TOKEN_RATE": "3/d"}
    with prepared_stack(tmp_path_factory.mktemp("raw"), **settings) as stack:
        stack.start("web")
        wait_until(stack.answers, what="the web process")
        yield Server(stack)


def chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


# --- Accepted ---------------------------------------------------------------------------------------------------------

ACCEPTED: dict[str, tuple[Sequence[str], Sequence[bytes]]] = {
    "as usual": ([TRUE_LENGTH], [BODY]),
    "in two pieces": ([TRUE_LENGTH], [BODY[:20], BODY[20:]]),
    "one mebibyte": ([f"Content-Length: {MIB}"], [BODY, b" " * (MIB - len(BODY))]),
    "one chunk": ([CHUNKED], [chunks(BODY)]),
    "a chunk for each byte": ([CHUNKED], [chunks(*(BODY[i : i + 1] for i in range(len(BODY))))]),
    "one mebibyte in chunks": ([CHUNKED], [chunks(BODY, b" " * (MIB - len(BODY)))]),
    "after 100 Continue": ([TRUE_LENGTH, "Expect: 100-continue"], [BODY]),
    "a misspelt length beside chunks": ([CHUNKED, "Content_Length: 5"], [chunks(BODY)]),
}


@pytest.mark.parametrize(("headers", "pieces"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_whole_body_is_accepted(server: Server, headers: Sequence[str], pieces: Sequence[bytes]) -> None:
    before = server.stored()
    answer = server.exchange(server.head(*headers), *pieces)
    assert answer.status == 200, answer.body
    assert json.loads(answer.body)["success"] is True
    assert server.stored() == [count + 1 for count in before]


def test_http_1_0_is_spoken(server: Server) -> None:
    line = "POST /api/visual-generation/submit HTTP/1.0"
    answer = server.exchange(server.head(TRUE_LENGTH, line=line), BODY)
    assert answer.status == 200


# --- Refused ----------------------------------------------------------------------------------------------------------

BIG = 50_000_000
PIECES = [b" " * 1_000_000] * 50
REFUSED: dict[str, tuple[Sequence[str], Sequence[bytes], int, str]] = {
    "longer than it says": ([f"Content-Length: {len(BODY) - 9}"], [BODY], 400, "parse_error"),
    "without a length": ([], [BODY], 400, "validation_error"),
    "chunks of no size": ([CHUNKED], [b"zz\r\n" + BODY + b"\r\n0\r\n\r\n"], 400, "validation_error"),
    "chunks of nothing": ([CHUNKED], [b"0\r\n\r\n"], 400, "validation_error"),
    "hostile chunks": ([CHUNKED], [chunks(b"[" * 20_000)], 400, "parse_error"),
    "only a misspelt length": (["Content_Length: 5"], [], 400, "parse_error"),
    "a byte too many": ([f"Content-Length: {MIB + 1}"], [BODY, b" " * (MIB + 1 - len(BODY))], 413, "body_too_large"),
    "a byte too many in chunks": ([CHUNKED], [chunks(BODY, b" " * (MIB + 1 - len(BODY)))], 413, "body_too_large"),
    "50 MB": ([f"Content-Length: {BIG}"], PIECES, 413, "body_too_large"),
    "50 MB in chunks": ([CHUNKED], [chunks(*PIECES)], 413, "body_too_large"),
    "a length that is only said": ([f"Content-Length: {10**15}"], [BODY], 413, "body_too_large"),
    "a length that waits for leave": ([f"Content-Length: {BIG}", "Expect: 100-continue"], [], 413, "body_too_large"),
}


@pytest.mark.parametrize(("headers", "pieces", "status", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_a_body_of_the_wrong_length_is_refused(
    server: Server, headers: Sequence[str], pieces: Sequence[bytes], status: int, code: str
) -> None:
    before = server.stored()
    answer = server.exchange(server.head(*headers), *pieces)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert server.stored() == before


@pytest.mark.parametrize(
    ("header", "sent"),
    [(f"Content-Length: {len(BODY) + 9}", BODY), (CHUNKED, b"ffff\r\n" + BODY[:-9])],
    ids=["with a length", "in chunks"],
)
def test_a_body_that_breaks_off_stores_nothing(server: Server, header: str, sent: bytes) -> None:
    before = server.stored()
    server.break_off(server.head(header), sent)
    assert server.exchange(server.head(line="GET /healthz HTTP/1.1")).status == 200
    assert server.stored() == before


@pytest.mark.parametrize("headers", [[f"Content-Length: {BIG}"], [CHUNKED]], ids=["with a length", "in chunks"])
def test_a_huge_body_is_not_read_into_memory(server: Server, headers: Sequence[str]) -> None:
    sent = PIECES if CHUNKED not in headers else [chunks(*PIECES)]
    server.exchange(server.head(*headers), *sent)  # what is allocated once is not what is measured
    before = server.memory()
    for _ in range(5):
        server.exchange(server.head(*headers), *sent)
    assert server.memory() - before < 20 * MIB


BAD_LENGTHS = {
    "two lengths": [TRUE_LENGTH, "Content-Length: 5"],
    "a negative length": ["Content-Length: -1"],
    "a word": ["Content-Length: many"],
    "more than 64 bits": [f"Content-Length: {'9' * 30}"],
    "a length beside another coding": [TRUE_LENGTH, "Transfer-Encoding: identity"],
}


@pytest.mark.parametrize("headers", BAD_LENGTHS.values(), ids=BAD_LENGTHS.keys())
def test_a_length_that_is_none_gets_no_further_than_the_server(server: Server, headers: Sequence[str]) -> None:
    before = server.stored()
    answer = server.exchange(server.head(*headers), BODY)
    assert (answer.status, answer.body) == (400, b"")
    assert server.stored() == before


UNKNOWN = "GET /api/visual-generation/status/{} HTTP/1.1"


@pytest.mark.parametrize("name", ["a%2fb", "%ff%00%fe", "%2e%2e", "a" * 60_000, "vga_1_a%0d%0aX-Injected:%201"])
def test_an_odd_id_in_the_address_is_not_found(server: Server, name: str) -> None:
    answer = server.exchange(server.head(line=UNKNOWN.format(name)))
    assert (answer.status, answer.error["code"]) == (404, "not_found")
    assert "X-Injected" not in answer.headers


@pytest.mark.parametrize(
    "credentials",
    [b"Bearer \xff\xfe\xe9", b"Bearer " + b"a" * 100_000, b"Bearer a\r\nAuthorization: Bearer b", b"bearer", b""],
    ids=["not ASCII", "a hundred thousand bytes", "two headers", "only the scheme", "empty"],
)
def test_an_odd_authorization_is_refused(server: Server, credentials: bytes) -> None:
    line = UNKNOWN.format("x").encode()
    answer = server.exchange(
        b"%s\r\nHost: 127.0.0.1\r\nAuthorization: %s\r\nConnection: close\r\n\r\n" % (line, credentials)
    )
    assert answer.status == 401
    assert answer.error["error"] in {"Access denied", "Invalid token"}
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "host", ["", "Host: evil.example\r\n", "Host: 127.0.0.1:x\r\n", "Host: a b\r\n", "Host: 10.42.8.201:8000\r\n"]
)
def test_a_foreign_host_is_for_probes_only(server: Server, host: str) -> None:
    for at, status in (("/healthz", 200), ("/api/schema", 400)):
        answer = server.exchange(f"GET {at} HTTP/1.1\r\n{host}Connection: close\r\n\r\n".encode())
        assert answer.status == status


@pytest.mark.parametrize("method", ["POST", "PUT", "TRACE", "BREW", "CONNECT", "OPTIONS"])
def test_an_unknown_address_is_json_with_any_method(server: Server, method: str) -> None:
    line = f"{method} /api/visual-generation/nothing HTTP/1.1"
    answer = server.exchange(server.head("Content-Length: 0", line=line))
    assert (answer.status, answer.error["code"]) == (404, "not_found")


def test_the_last_of_several_forwarded_headers_counts(server: Server) -> None:
    def sign_in(*forwarded: str) -> int:
        body = json.dumps({"username": "unknown", "password": "wrong"}).encode()
        headers = [f"X-Forwarded-For: {address}" for address in forwarded]
        head = server.head(f"Content-Length: {len(body)}", *headers, line="POST /api/token HTTP/1.1")
        return server.exchange(head, body).status

    statuses = [sign_in(f"198.51.100.{number}", f"203.0.113.5:{4711 + number}") for number in range(4)]
    assert statuses == [401, 401, 401, 429]
    assert sign_in("203.0.113.5", '"[2001:db8::1]:443"') == 401


def test_head_sends_headers_alone(server: Server) -> None:
    answer = server.exchange(server.head(line="HEAD /healthz HTTP/1.1"))
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "15", b"")


# --- The next call on a kept connection -------------------------------------------------------------------------------

SUBMIT = "/api/visual-generation/submit"
JSON = "Content-Type: application/json"
#: The status, the address, headers and body of a call that is answered before its body is read.
EARLY: dict[str, tuple[int, str, list[str], bytes]] = {
    "no token": (401, f"POST {SUBMIT}", [JSON, "Content-Length: 900000"], b" " * 900_000),
    "a bad token": (401, f"POST {SUBMIT}", [JSON, "Authorization: Bearer x", "Content-Length: 900000"], b" " * 900_000),
    "no token, in chunks": (401, f"POST {SUBMIT}", [JSON, CHUNKED], chunks(b" " * 900_000)),
    "too large": (413, f"POST {SUBMIT}", [JSON, "TOKEN", "Content-Length: 1200000"], b" " * 1_200_000),
    "too large, in chunks": (413, f"POST {SUBMIT}", [JSON, "TOKEN", CHUNKED], chunks(b" " * 1_200_000)),
    "another type": (
        415,
        f"POST {SUBMIT}",
        ["Content-Type: text/xml", "TOKEN", "Content-Length: 900000"],
        b" " * 900_000,
    ),
    "another method": (405, f"PUT {SUBMIT}", [JSON, "TOKEN", "Content-Length: 900000"], b" " * 900_000),
    "an unknown address": (404, "GET /nothing", [JSON, "TOKEN", "Content-Length: 900000"], b" " * 900_000),
    "a foreign host": (400, f"POST {SUBMIT}", ["Host: evil.example", "Content-Length: 900000"], b" " * 900_000),
    "a body that is not wanted": (200, "GET /healthz", ["Content-Length: 900000"], b" " * 900_000),
}
GOOD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def early_head(server: Server, line: str, headers: Sequence[str]) -> bytes:
    standing = [] if any(header.startswith("Host") for header in headers) else ["Host: 127.0.0.1"]
    named = [f"Authorization: {server._credentials}" if header == "TOKEN" else header for header in headers]
    return "\r\n".join([f"{line} HTTP/1.1", *standing, *named, "", ""]).encode()


def read_answer(connection: socket.socket) -> Answer:
    response = HTTPResponse(connection)
    response.begin()
    return Answer(response.status, response.headers, response.read())


@pytest.mark.parametrize(("status", "line", "headers", "body"), EARLY.values(), ids=EARLY.keys())
def test_the_next_call_on_a_kept_connection_is_answered(
    server: Server, status: int, line: str, headers: list[str], body: bytes
) -> None:
    for _ in range(10):
        with server._connected() as connection:
            connection.sendall(early_head(server, line, headers))
            connection.sendall(body)
            answer = read_answer(connection)
            assert answer.status == status, answer.body
            assert answer.headers.get("Connection") != "close"
            connection.sendall(GOOD)
            assert read_answer(connection).status == 200


@pytest.mark.parametrize(
    "headers",
    [[f"Content-Length: {BIG}"], ["Content-Length: 900000", "Expect: 100-continue"], ["Content-Length: 900000"]],
    ids=["too much to read", "the client waits for leave", "the client stops sending"],
)
def test_a_response_announces_that_the_connection_closes(server: Server, headers: list[str]) -> None:
    with server._connected() as connection:
        connection.sendall(early_head(server, f"POST {SUBMIT}", [JSON, *headers]))
        answer = read_answer(connection)
        assert (answer.status, answer.headers["Connection"]) == (401, "close")


def test_stalled_clients_do_not_block_other_calls(server: Server) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(30):
            connection = held.enter_context(server._connected())
            connection.sendall(early_head(server, f"POST {SUBMIT}", [JSON, "Content-Length: 900000"]))
        assert server.exchange(server.head(line="GET /healthz HTTP/1.1")).status == 200
        assert server.exchange(server.head(TRUE_LENGTH), BODY).status == 200


# --- Without the servers behind it ------------------------------------------------------------------------------------


def test_without_redis_a_submit_is_accepted_and_readiness_names_the_broker(tmp_path: Path) -> None:
    with prepared_stack(tmp_path) as stack:
        stack.env["REDIS_URL"] = f"redis://{CLOSED}/0"
        stack.start("web")
        wait_until(stack.answers, what="the web process")
        with stack.client() as alice:
            submitted = alice.post("submit", content=BODY, headers={"Content-Type": "application/json"}, timeout=5)
            assert submitted.status_code == 200
            status = alice.get(f"status/{submitted.json()['requestId']}")
            assert status.json()["status"] == "queued"
        ready = httpx2.get(f"{stack.base_url}/readyz")
        assert ready.status_code == 503
        assert ready.json()["checks"] == {"database": "ok", "broker": "unreachable", "worker": "missing"}


def test_without_its_database_it_says_so(tmp_path: Path) -> None:
    nowhere = f"postgres://user:a-password@{CLOSED}/none"
    settings = {"DATABASE_URL": nowhere, "REDIS_URL": f"redis://{CLOSED}/0", "SECRET_KEY": "x" * 50}
    stack = Stack(tmp_path, **settings)
    stack.start("web")
    try:
        wait_until(stack.answers, what="the web process")
        refused = httpx2.post(f"{stack.base_url}/api/token", json={"username": "alice", "password": "x"})
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        assert int(refused.headers["Retry-After"]) > 0
        ready = httpx2.get(f"{stack.base_url}/readyz", timeout=20)  # each check waits for a connection
        assert ready.status_code == 503
        assert set(ready.json()["checks"].values()) == {"unreachable"}
    finally:
        stack.stop_all()
