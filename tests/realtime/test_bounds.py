"""Clients that send too much or do not read are disconnected, without an effect on other clients."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import Any

from websockets.exceptions import ConnectionClosed

from generation.realtime.rate_limit import BURST, RATE
from generation.requests.events import Update
from tests.realtime.live import Live, Socket
from tests.support.stack import wait_until

_MIB = 2**20


def _alice(live: Live) -> int:
    return int(live.database.rows("SELECT id FROM auth_user WHERE username = 'alice'")[0]["id"])


def _made_up(owner: int, project: str, number: int, *, size: int = 0) -> Update:
    request_id = f"vga_{1234567890123456 + number}_madeup"
    data = {"requestId": request_id, "status": "completed", "sequence": 2, "prompt": "x" * size}
    text = json.dumps({"type": "update", "requestId": request_id, "data": data})
    return Update(request_id, None, owner, project, 2, text)


def _flooded(socket: Socket, *messages: dict[str, str]) -> list[Any]:
    """Send these messages in turns without waiting for responses. Return the errors' codes, and last the close code."""
    texts = [json.dumps(message) for message in messages]

    def flood() -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            while True:
                for text in texts:
                    socket.connection.send(text)

    sending = threading.Thread(target=flood, daemon=True)
    sending.start()
    codes: list[Any] = []
    try:
        while True:
            codes.append(socket.hear(seconds=30).get("code"))
    except ConnectionClosed as closed:
        sending.join(20)
        return [*codes, closed.rcvd and closed.rcvd.code]


def test_messages_over_the_rate_are_rejected_then_the_socket_is_closed(live: Live) -> None:
    with live.socket() as flood, live.socket() as other:
        *heard, code = _flooded(flood, {"type": "ping"})
        assert heard[: BURST - 1] == [None] * (BURST - 1)  # authenticate was one message of the burst
        assert heard.count("rate_limited") >= 120
        assert set(heard) == {None, "rate_limited"}
        assert code == 4429
        assert other.hears_nothing()


def test_after_a_burst_a_client_is_limited_to_the_rate(live: Live) -> None:
    began = time.monotonic()
    with live.socket() as socket:
        for _ in range(BURST + 100):  # too few over the rate to be closed
            socket.say(type="ping")
        heard = [socket.hear() for _ in range(BURST + 100)]
    passed = sum(one["type"] == "pong" for one in heard)
    assert BURST - 1 <= passed <= BURST + RATE * (time.monotonic() - began)
    assert {one.get("code") for one in heard} <= {None, "rate_limited"}


def test_a_flood_of_subscriptions_to_foreign_topics_is_limited_too(live: Live) -> None:
    hers = live.submit()
    with live.socket("charlie") as flood:
        *heard, code = _flooded(flood, {"type": "subscribe", "requestId": hers}, *[{"type": "ping"}] * 20)
    assert code == 4429
    assert set(heard) == {None, "not_found", "rate_limited"}


#: A client that goes on sending may be cut off before it reads the close frame.
_TOO_BIG = {1009, 1006}


def test_a_message_over_64_kib_closes_with_1009(live: Live) -> None:
    with live.socket() as socket:
        socket.connection.send("x" * (64 * 1024 + 1))
        assert socket.end() == 1009


def test_a_message_of_10_mib_is_not_read_into_memory(live: Live) -> None:
    before = live.memory()
    with live.socket() as socket:
        threading.Thread(target=_send_quietly, args=[socket, "x" * 10 * _MIB], daemon=True).start()
        assert socket.end() in _TOO_BIG
    assert live.memory() - before < 8 * _MIB


def test_a_message_of_64_kib_is_read(live: Live) -> None:
    message = json.dumps({"type": "ping", "x": ""})
    with live.socket() as socket:
        socket.connection.send(message[:-2] + "x" * (64 * 1024 - len(message)) + message[-2:])
        assert socket.hear() == {"type": "pong"}


def test_an_endless_fragmented_message_takes_at_most_64_kib(live: Live) -> None:
    with live.socket() as socket:
        fragments = ("x" * 1024 for _ in range(10_000))
        threading.Thread(target=_send_quietly, args=[socket, fragments], daemon=True).start()
        assert socket.end() in _TOO_BIG


def _send_quietly(socket: Socket, message: Any) -> None:
    with contextlib.suppress(ConnectionClosed, OSError):
        socket.connection.send(message)


def test_a_client_that_does_not_read_is_closed_with_1013(live: Live) -> None:
    owner = _alice(live)
    before = live.memory()
    # ``max_queue`` makes the client stop reading until the test receives messages.
    with live.socket(max_queue=1, ping_interval=None) as slow, live.socket() as quick:
        for one in (slow, quick):
            one.ask(type="subscribe", projectId="a flood")
        heard = 0
        for start in range(0, 1500, 50):
            live.publish(*(_made_up(owner, "a flood", start + n, size=16_000) for n in range(50)))
            for _ in range(50):
                quick.hear()
                heard += 1
        assert heard == 1500
        assert live.memory() - before < 24 * _MIB
        assert slow.end() == 1013
        assert quick.hears_nothing()


def test_a_client_that_requests_much_and_reads_late_gets_all(live: Live) -> None:
    batch_id, _ = live.submit_batch(90, metadata={"text": "x" * 10_000})
    with live.socket(max_queue=1, max_size=None, ping_interval=None) as socket, live.socket() as other:
        for _ in range(30):
            socket.say(type="subscribe", batchId=batch_id)
        assert other.hears_nothing()
        assert [socket.hear(seconds=30)["type"] for _ in range(30)] == ["subscribed"] * 30


def test_disconnected_clients_leave_no_memory_behind(live: Live) -> None:
    request_id = live.submit()

    def come_and_go(times: int) -> None:
        for _ in range(times):
            with live.socket() as socket:
                for target in ({"requestId": request_id}, {"projectId": "any"}, {"requestId": "nonsense"}):
                    socket.ask(type="subscribe", **target)
                socket.connection.send(b"\0" * 1000)
                socket.hear()

    come_and_go(100)
    before = live.memory()
    come_and_go(250)
    assert live.memory() - before < 4 * _MIB
    wait_until(lambda: live.memory() - before < 4 * _MIB, what="the memory of before")
