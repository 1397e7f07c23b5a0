"""The path of a request's id from POST to socket, compared with the list in docs/architecture.md."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import User
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken

from generation.realtime import consumer
from generation.realtime.hub import Hub
from tests.support.id_tracer import IdTracer
from tests.support.vendors import Vendors
from workers import tasks

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
BODY = {"type": "coloring-page", "prompt": "A dragon in a garden", "projectId": "book"}
SECONDS = 20


def documented() -> list[str]:
    """Return the modules in the page's list."""
    section = PAGE.read_text(encoding="utf-8").partition("<!-- id-path -->")[2].partition("<!-- /id-path -->")[0]
    return [path.removesuffix(".py").replace("/", ".") for path in re.findall(r"^\| `([\w/.]+)` \|", section, re.M)]


class Socket:
    """The consumer of a WebSocket, without a server in front of it."""

    def __init__(self) -> None:
        scope = {"type": "websocket", "path": "/", "headers": [], "client": ["127.0.0.1", 1], "subprotocols": []}
        communicator: Any = ApplicationCommunicator  # has no types
        self._application = communicator(consumer.UpdatesConsumer.as_asgi(), scope)

    async def open(self) -> None:
        await self._application.send_input({"type": "websocket.connect"})
        accepted = await self._application.receive_output(SECONDS)
        assert accepted["type"] == "websocket.accept"

    async def say(self, **message: Any) -> None:
        await self._application.send_input({"type": "websocket.receive", "text": json.dumps(message)})

    async def hear(self) -> dict[str, Any]:
        sent = await self._application.receive_output(SECONDS)
        message: dict[str, Any] = json.loads(sent["text"])
        return message

    async def close(self) -> None:
        await self._application.send_input({"type": "websocket.disconnect", "code": 1000})
        await self._application.wait(SECONDS)


@contextmanager
def subscriber(user: User) -> Iterator[list[str]]:
    """Subscribe to the user's project. The list has the received statuses; the block's end waits for the last one."""
    subscribed = threading.Event()
    statuses: list[str] = []

    async def listen() -> None:
        socket = Socket()
        await socket.open()
        await socket.say(type="authenticate", token=str(AccessToken.for_user(user)))
        await socket.hear()
        await socket.say(type="subscribe", projectId=BODY["projectId"])
        await socket.hear()
        subscribed.set()
        while "completed" not in statuses:
            statuses.append((await socket.hear())["data"]["status"])
        await socket.close()

    thread = threading.Thread(target=lambda: asyncio.run(listen()))
    thread.start()
    try:
        assert subscribed.wait(SECONDS)
        yield statuses
    finally:
        thread.join()


def test_modules_that_handle_an_id_are_documented(
    alice: User, api: APIClient, vendors: Vendors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "hub", Hub())  # a hub belongs to one event loop
    executor = vendors.executor()
    monkeypatch.setattr(tasks, "executor", lambda: executor)
    tracer = IdTracer()
    with tracer.active():
        with subscriber(alice) as statuses:
            response = api.post("/api/visual-generation/submit", BODY, format="json")
            assert response.status_code == 200, response.content
            request_id = response.json()["requestId"]
            tasks.generate.apply(args=[request_id], throw=True)
        vendors.close()  # its clients belong to the background loop of the block
    assert statuses == ["queued", "in-progress", "completed"]
    assert vendors.called == ["openai"]
    assert sorted(documented()) == sorted(tracer.modules(request_id))
    assert len(documented()) <= 18
