"""The end of a wait, as updates and the database tell it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Collection
from typing import Any

import pytest

from generation.realtime import waiting
from generation.realtime.hub import hub
from generation.requests.events import Update
from generation.requests.waits import Answer, Wait
from generation.states import Status

REQUEST = "vga_1790000000000000_0123456789abcdefgh"


def update(sequence: int, status: Status) -> Update:
    text = json.dumps({"type": "update", "data": {"status": status}})
    return Update(request_id=REQUEST, owner_id=1, batch_id=None, project_id="", sequence=sequence, text=text)


def waited(monkeypatch: pytest.MonkeyPatch, *later: Update) -> tuple[bool, float]:
    """Whether a wait of a second ended by an end, and after how many seconds. Right after its subscription it hears of
    an older end, 0.2 s later the database tells the request's present state, and then the later updates come."""
    states = {REQUEST: waiting._State(3, has_ended=False)}

    async def states_of(_: Collection[str]) -> dict[str, Any]:
        await asyncio.sleep(0.2)
        return states

    async def wait() -> bool:
        def follow(waiter: Any, _: Any) -> None:
            waiter.deliver(update(2, Status.CANCELLED))
            for one in later:
                asyncio.get_running_loop().call_later(0.4, waiter.deliver, one)

        monkeypatch.setattr(hub, "follow", follow)
        monkeypatch.setattr(hub, "unfollow", lambda *_: None)
        monkeypatch.setattr(waiting, "_states_of", states_of)
        monkeypatch.setattr(waiting, "stopping", asyncio.Event)
        monkeypatch.setattr(waiting, "_registry", waiting._Registry())
        held: Any = None
        asked = Wait(request_ids=[REQUEST], user_id=1, seconds=1.0, finish=lambda _: Answer())
        return await waiting._ended(asked, held)

    started = time.monotonic()
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(wait())))
    thread.start()
    thread.join()
    return found[0], time.monotonic() - started


def test_an_end_from_before_a_retry_does_not_end_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waited(monkeypatch)[0] is False


def test_an_end_after_the_retry_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    has_ended, seconds = waited(monkeypatch, update(4, Status.COMPLETED))
    assert has_ended is True
    assert seconds < 0.9
