"""Updates on their way to Redis: together where there are many, in their order, and bounded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from channels.layers import get_channel_layer

from generation import event_loop
from generation.requests import events
from generation.requests.events import Update

Received = list[list[str]]


def _update(number: int, *, text: str = "") -> Update:
    return Update(f"vga_{number}", None, 1, "", 2, text)


def _received(group: str, put: Callable[[], Any], *, count: int) -> list[dict[str, Any]]:
    """So many messages that came to the group after this was done."""
    listening: Future[None] = Future()

    async def receive() -> list[dict[str, Any]]:
        layer = get_channel_layer()
        assert layer is not None
        channel = await layer.new_channel()
        await layer.group_add(group, channel)
        listening.set_result(None)
        return [await asyncio.wait_for(layer.receive(channel), 5) for _ in range(count)]

    receiving = event_loop.loop.submit(receive())
    listening.result(5)
    put()
    return receiving.result(10)


def _while_the_loop_is_busy(put: Callable[[], None]) -> None:
    begun: Future[None] = Future()

    async def busy() -> None:
        begun.set_result(None)
        time.sleep(0.3)  # noqa: ASYNC251  so that nothing else gets its turn

    event_loop.loop.submit(busy())
    begun.result(5)
    put()


def _ids(messages: list[dict[str, Any]]) -> Received:
    return [[update["request_id"] for update in message["updates"]] for message in messages]


def test_updates_that_arrive_meanwhile_share_one_message() -> None:
    def put() -> None:
        for number in range(150):
            events._sender.put([(_update(number), False)])

    messages = _received(events.UPDATES, lambda: _while_the_loop_is_busy(put), count=2)
    expected = [f"vga_{number}" for number in range(150)]
    assert _ids(messages) == [expected[:100], expected[100:]]


def test_a_message_takes_no_more_than_so_many_characters() -> None:
    def put() -> None:
        events._sender.put([(_update(number, text="x" * 40_000), False) for number in range(5)])

    messages = _received(events.UPDATES, lambda: _while_the_loop_is_busy(put), count=3)
    assert _ids(messages) == [["vga_0", "vga_1"], ["vga_2", "vga_3"], ["vga_4"]]


def test_workers_hear_of_what_was_cancelled_and_of_nothing_else() -> None:
    def put() -> None:
        events._sender.put([(_update(number), 3 if number == 1 else 0) for number in range(3)])

    (message,) = _received(events.CANCELLATIONS, lambda: _while_the_loop_is_busy(put), count=1)
    assert message["claims"] == {"vga_1": 3}


def test_updates_over_the_limit_are_dropped_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "_MAX_PENDING", 3)

    def put() -> None:
        events._sender.put([(_update(number), False) for number in range(5)])
        events._sender.put([(_update(5), False)])

    messages = _received(events.UPDATES, lambda: _while_the_loop_is_busy(put), count=1)
    assert _ids(messages) == [["vga_0", "vga_1", "vga_2"]]
    assert [record.getMessage() for record in caplog.records] == [
        "2 updates dropped: 3 are waiting",
        "1 updates dropped: 3 are waiting",
    ]
    # And what comes later is sent again.
    assert _ids(_received(events.UPDATES, lambda: events._sender.put([(_update(6), False)]), count=1)) == [["vga_6"]]
