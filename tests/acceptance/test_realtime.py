"""The WebSocket, on the real processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.stack import Stack, prepared_stack, wait_until

EXAMPLE = {"type": "illustration", "prompt": "Three cats under an apple tree"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("stack")
    with prepared_stack(folder) as stack:
        stack.start("web", "realtime", "worker")
        stack.wait_ready()
        wait_until(lambda: _opens(stack), what="the WebSocket")
        yield stack


def _opens(stack: Stack) -> bool:
    try:
        with socket(stack):
            pass
    except OSError:
        return False
    return True


def socket(stack: Stack, **more: Any) -> AbstractContextManager[ClientConnection]:
    address = f"ws://127.0.0.1:{stack.realtime_port}/ws/visual-generation"
    opening: AbstractContextManager[ClientConnection] = connect(address, **more)
    return opening


def ask(connection: ClientConnection, **message: Any) -> dict[str, Any]:
    connection.send(json.dumps(message))
    return receive(connection)


def receive(connection: ClientConnection) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(connection.recv(timeout=20))
    return answer


def token_of(stack: Stack, name: str) -> str:
    with stack.client(name) as client:
        return client.headers["Authorization"].partition(" ")[2]


@pytest.fixture
def signed_in(stack: Stack) -> Iterator[ClientConnection]:
    with socket(stack) as connection:
        assert ask(connection, type="authenticate", token=token_of(stack, "alice")) == {"type": "authenticated"}
        yield connection


def test_a_subscriber_gets_the_state_now_and_every_change_until_the_end(
    stack: Stack, signed_in: ClientConnection
) -> None:
    stack.stop("worker")
    with stack.client("alice") as alice:
        request_id = alice.post("/submit", json=EXAMPLE).json()["requestId"]
    first = ask(signed_in, type="subscribe", requestId=request_id)
    assert (first["type"], first["requestId"], first["data"]["status"]) == ("subscribed", request_id, "queued")
    stack.start("worker")
    updates = [receive(signed_in), receive(signed_in)]
    assert [update["type"] for update in updates] == ["update", "update"]
    assert [update["data"]["status"] for update in updates] == ["in-progress", "completed"]
    assert [update["data"]["sequence"] for update in updates] == [2, 3]
    assert updates[-1]["data"]["result"]["imageUrl"].startswith(stack.base_url)
    assert "imageData" not in updates[-1]["data"]["result"]
    stack.wait_ready()


def test_an_unsubscribed_client_gets_no_updates(stack: Stack, signed_in: ClientConnection) -> None:
    with stack.client("alice") as alice:
        stack.stop("worker")
        request_id = alice.post("/submit", json=EXAMPLE).json()["requestId"]
        ask(signed_in, type="subscribe", requestId=request_id)
        answer = ask(signed_in, type="unsubscribe", requestId=request_id)
        assert answer == {"type": "unsubscribed", "requestId": request_id}
        alice.delete(f"/cancel/{request_id}")
        assert ask(signed_in, type="ping") == {"type": "pong"}
        stack.start("worker")
        stack.wait_ready()


def test_a_request_of_another_user_is_answered_as_unknown(stack: Stack) -> None:
    with stack.client("alice") as alice:
        request_id = alice.post("/submit", json=EXAMPLE).json()["requestId"]
    with socket(stack) as connection:
        ask(connection, type="authenticate", token=token_of(stack, "charlie"))
        foreign = ask(connection, type="subscribe", requestId=request_id)
        assert foreign == ask(connection, type="subscribe", requestId="vga_1234567890123456_nobodyhasthisone00")
        assert foreign["code"] == "not_found"


def test_a_token_in_the_header_of_the_handshake_signs_in(stack: Stack) -> None:
    headers = {"Authorization": f"Bearer {token_of(stack, 'alice')}"}
    with socket(stack, additional_headers=headers) as connection:
        assert receive(connection) == {"type": "authenticated"}


@pytest.mark.parametrize("token", ["", "nonsense", None, 7, ["list"]])
def test_a_token_that_does_not_hold_closes_with_4401(stack: Stack, token: object) -> None:
    with socket(stack) as connection:
        connection.send(json.dumps({"type": "authenticate", "token": token}))
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401


def test_nothing_is_told_before_signing_in(stack: Stack) -> None:
    with socket(stack) as connection:
        answer = ask(connection, type="subscribe", requestId="vga_1234567890123456_nobodyhasthisone00")
        assert answer["code"] == "not_authenticated"


@pytest.mark.parametrize(
    "text", ["", "not json", "[]", "7", '{"type": "dance"}', '{"type": ["subscribe"]}', "[" * 50_000]
)
def test_a_message_it_does_not_understand_is_an_error_and_no_close(signed_in: ClientConnection, text: str) -> None:
    signed_in.send(text)
    assert receive(signed_in)["type"] == "error"
    assert ask(signed_in, type="ping") == {"type": "pong"}


def test_a_binary_message_is_an_error_and_no_end(signed_in: ClientConnection) -> None:
    signed_in.send(b"\0\1\2")
    assert receive(signed_in)["code"] == "invalid_message"
    assert ask(signed_in, type="ping") == {"type": "pong"}
