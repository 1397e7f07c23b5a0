"""Exports whose clients do not read, at a real server: what they hold, and for how long."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.stack import PASSWORD, Stack, prepared_stack, wait_until

pytestmark = pytest.mark.long


EXPORT = "/admin/generation/generationrequest/export/"
ROWS = 8_000
#: More than the buffers of both sides of a connection hold.
_FILL = f"""
from django.contrib.auth.models import User
from generation.models import GenerationRequest
bob = User.objects.get(username="bob")
GenerationRequest.objects.bulk_create(
    GenerationRequest(id=f"vga_{{10**15 + number}}_{{'x' * 18}}", owner=bob, type="cover", prompt="A dragon " * 200,
        priority="normal", max_attempts=1)
    for number in range({ROWS})
)
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("exports")
    with prepared_stack(folder, WEB_THREADS="4", READER_TIMEOUT_MS="1000") as stack:
        stack.manage("shell", "-v0", "-c", _FILL)
        stack.start("web")
        wait_until(stack.answers, seconds=60, what="the pages")
        yield stack


@pytest.fixture(scope="module")
def cookies(stack: Stack) -> str:
    with httpx2.Client(base_url=stack.base_url) as client:
        form = client.get("/admin/login/").text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
        assert token
        body = {"csrfmiddlewaretoken": token[1], "username": "bob", "password": PASSWORD}
        assert client.post("/admin/login/", data=body).status_code == 302
        return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


def _ask(stack: Stack, cookies: str) -> socket.socket:
    """Ask for an export, and read its first bytes alone."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", stack.port))
    connection.sendall(f"GET {EXPORT} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookies}\r\n\r\n".encode())
    return connection


def _code(connection: socket.socket) -> int:
    return int(connection.recv(12).split()[1])


def _lines(stack: Stack, cookies: str) -> int:
    """The lines of an export that is read; 0 where it is refused."""
    answer = httpx2.get(f"{stack.base_url}{EXPORT}", headers={"Cookie": cookies}, timeout=60)
    return answer.text.count("\r\n") if answer.status_code == 200 else 0


def test_unread_exports_hold_no_more_than_one_thread_and_not_for_long(stack: Stack, cookies: str) -> None:
    first = _ask(stack, cookies)
    assert _code(first) == 200
    others = [_ask(stack, cookies) for _ in range(12)]
    assert {_code(connection) for connection in others} == {302}
    began = time.monotonic()
    assert httpx2.get(f"{stack.base_url}/sign-in", timeout=10).status_code == 200
    assert time.monotonic() - began < 5
    # The kernel disconnects the first one, and its place is free.
    assert wait_until(lambda: _lines(stack, cookies), seconds=30, what="an export") == ROWS + 1
    for connection in (first, *others):
        connection.close()


def test_a_slow_reader_gets_the_whole_export(stack: Stack, cookies: str) -> None:
    wait_until(lambda: _lines(stack, cookies), seconds=30, what="the place of an export")
    connection = _ask(stack, cookies)
    assert _code(connection) == 200
    received = b""
    end = time.monotonic() + 3
    while time.monotonic() < end:  # three times as long as a client may take nothing
        received += connection.recv(32_768)
        time.sleep(0.1)
    while not received.endswith(b"0\r\n\r\n"):
        part = connection.recv(1 << 20)
        assert part, "disconnected"
        received += part
    assert received.count(b"\r\n") > ROWS
    connection.close()
