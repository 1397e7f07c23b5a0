"""Helpers of the tests of live updates: a stack, signed-in users, and their sockets and streams."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.conf import settings
from rest_framework_simplejwt.tokens import AccessToken
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from config.local.valkey import free_port
from generation.access.authentication import LEEWAY
from generation.requests import events
from tests.support.databases import Database
from tests.support.stack import Stack, prepared_stack, wait_until

BODY = {"type": "illustration", "prompt": "Three cats under an apple tree"}
#: An origin in the ``CORS_ALLOWED_ORIGINS`` of ``watchful``.
STUDIO = "https://studio.example.org"
UNKNOWN_IDS = {
    "requestId": "vga_1234567890123456_nobodyhasthisone00",
    "batchId": "vgb_1234567890123456_nobodyhasthisone00",
}


class Socket:
    """One WebSocket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def say(self, **message: Any) -> None:
        """Send a message."""
        self.connection.send(json.dumps(message))

    def hear(self, *, seconds: float = 20) -> dict[str, Any]:
        """Return the next message."""
        answer: dict[str, Any] = json.loads(self.connection.recv(timeout=seconds))
        return answer

    def ask(self, **message: Any) -> dict[str, Any]:
        """Send a message and return the next message received."""
        self.say(**message)
        return self.hear()

    def hears_nothing(self) -> bool:
        """Return whether no message arrives before the response to a ping."""
        return self.ask(type="ping") == {"type": "pong"}

    def end(self, *, seconds: float = 20) -> int:
        """Read until the server closes, and return the close code; 1006 without a close frame."""
        try:
            while True:
                self.connection.recv(timeout=seconds)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006


class Stream:
    """One stream of events."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()

    def hear(self) -> dict[str, Any]:
        """Return the next event: ``event``, ``id`` if present, and ``data`` as JSON; or ``comment`` with its text."""
        fields: dict[str, Any] = {}
        for line in self._lines:
            if line.startswith(":"):
                fields["comment"] = line[1:].strip()
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = json.loads(value) if name == "data" else value
            elif "data" in fields or "comment" in fields:
                return fields
            else:
                fields = {}
        raise EOFError


class Live:
    """The web process and the realtime process, without workers, so that only tests change requests."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.database = Database(stack.env["DATABASE_URL"])
        self.address = f"127.0.0.1:{stack.realtime_port}"
        self.events_url = f"http://{self.address}/api/visual-generation/events"
        self._clients: dict[str, httpx2.Client] = {}
        self._sessions: dict[str, dict[str, str]] = {}

    def client(self, name: str) -> httpx2.Client:
        """Return the client of a signed-in user."""
        if name not in self._clients:
            self._clients[name] = self.stack.client(name)
        return self._clients[name]

    def close(self) -> None:
        """Close the clients' connections."""
        for client in self._clients.values():
            client.close()

    def start_realtime(self, **settings: str) -> None:
        """Start the realtime process and wait until it responds."""
        self.stack.start("realtime", **settings)
        wait_until(self._answers, what="the realtime process")

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"http://{self.address}/healthz").status_code == 200
        except httpx2.TransportError:
            return False

    def token(self, name: str = "alice") -> str:
        """Return an access token as issued to clients."""
        return self.client(name).headers["Authorization"].partition(" ")[2]

    def token_for(self, seconds: float, name: str = "alice") -> str:
        """Return a token that is valid for this long including the leeway, or has expired if negative."""
        token: Any = AccessToken(self.token(name))  # type: ignore[arg-type]
        token.set_exp(lifetime=timedelta(seconds=seconds) - LEEWAY)
        return str(token)

    def session(self, name: str = "alice") -> dict[str, str]:
        """Return the headers of a browser in which the user is signed in, the same for each call."""
        if name in self._sessions:
            return self._sessions[name]
        script = (
            "from django.contrib.auth.models import User\n"
            "from django.contrib.sessions.backends.db import SessionStore\n"
            f"user = User.objects.get(username={name!r})\n"
            "session = SessionStore()\n"
            "session['_auth_user_id'] = str(user.pk)\n"
            "session['_auth_user_backend'] = 'django.contrib.auth.backends.ModelBackend'\n"
            "session['_auth_user_hash'] = user.get_session_auth_hash()\n"
            "session.create()\n"
            "print(session.session_key)"
        )
        key = self.stack.manage("shell", "-v0", "-c", script).split()[-1]
        return self._sessions.setdefault(name, {"Cookie": f"sessionid={key}"})

    @contextmanager
    def socket(
        self, name: str | None = "alice", *, path: str = "/ws/visual-generation", **more: Any
    ) -> Iterator[Socket]:
        """Open a socket, signed in as this user, or anonymous without a name."""
        with connect(f"ws://{self.address}{path}", **more) as connection:
            socket = Socket(connection)
            if name is not None:
                assert socket.ask(type="authenticate", token=self.token(name)) == {"type": "authenticated"}
            yield socket

    @contextmanager
    def stream(self, query: dict[str, Any], name: str | None = "alice", **headers: str) -> Iterator[Stream]:
        """Open a stream of events; the response may be an error instead."""
        if name is not None:
            headers["Authorization"] = f"Bearer {self.token(name)}"
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        with (
            httpx2.Client(timeout=20) as client,
            client.stream("GET", self.events_url, params=query, headers=named) as response,
        ):
            yield Stream(response)

    def refusal(self, query: dict[str, Any], name: str | None = "alice", **headers: str) -> tuple[int, dict[str, Any]]:
        """Return status and body of the error response to a stream."""
        with self.stream(query, name, **headers) as stream:
            stream.response.read()
            return stream.response.status_code, stream.response.json()

    def submit(self, name: str = "alice", **more: Any) -> str:
        """Submit a request and return its id."""
        return str(self.client(name).post("/submit", json=BODY | more).raise_for_status().json()["requestId"])

    def submit_batch(self, count: int = 2, name: str = "alice", **more: Any) -> tuple[str, list[str]]:
        """Submit a batch and return its id and those of its requests."""
        answer = self.client(name).post("/batch", json={"requests": [BODY | more] * count}).raise_for_status().json()
        return answer["batchId"], [request["requestId"] for request in answer["requests"]]

    def cancel(self, request_id: str) -> None:
        """Cancel a request as staff, which is one change."""
        self.client("bob").delete(f"/cancel/{request_id}").raise_for_status()

    def retry(self, request_id: str) -> None:
        """Retry a request as staff, which is another change."""
        self.client("bob").post(f"/retry/{request_id}").raise_for_status()

    def publish(self, *updates: events.Update) -> None:
        """Publish updates through Redis as the product does, independent of the database."""
        self.send(*(events.message_of([update]) for update in updates))

    def send(self, *messages: dict[str, Any]) -> None:
        """Publish arbitrary messages through Redis."""

        async def send() -> None:
            keys = [f"live-updates:{settings.SECRET_KEY}"]
            hosts = [self.stack.env["REDIS_URL"]]
            layer = RedisPubSubChannelLayer(hosts=hosts, prefix="vga", symmetric_encryption_keys=keys)
            for message in messages:
                await layer.group_send(events.UPDATES, {"type": "request.updates", **message})
            await layer.flush()

        asyncio.run(send())

    def memory(self) -> int:
        """Return the resident memory of the realtime process in bytes."""
        command = ["ps", "-o", "rss=", "-p", str(self.stack.pid("realtime"))]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) * 1024

    def assert_well(self) -> None:
        """Assert that the process is up and has logged no unexpected exception."""
        assert not self.stack.has_ended("realtime")
        assert "Exception in ASGI application" not in self.stack.log("realtime"), self.stack.log("realtime")[-3000:]


@contextmanager
def another_realtime(live: Live, **settings: str) -> Iterator[Live]:
    """Run a second realtime process with other settings."""
    port = free_port()
    name = f"realtime:{port}"
    live.stack.start(name, REALTIME_PORT=str(port), **settings)
    other = copy(live)
    other.address = f"127.0.0.1:{port}"
    other.events_url = f"http://{other.address}/api/visual-generation/events"
    try:
        wait_until(other._answers, what="the second realtime process")
        yield other
    finally:
        live.stack.stop(name)


@contextmanager
def running(
    folder: Path, *, redis_url: str = "", realtime: Mapping[str, str] | None = None, **settings: str
) -> Iterator[Live]:
    """Run a stack with test users and an empty database, on the tests' Redis or on ``redis_url``."""
    with prepared_stack(folder, SUBMIT_RATE="1000000/m", **settings) as stack:
        if redis_url:
            stack.env["REDIS_URL"] = redis_url
        live = Live(stack)
        stack.start("web")
        live.start_realtime(**(realtime or {}))
        wait_until(stack.answers, seconds=30, what="the API")
        try:
            yield live
            live.assert_well()
        finally:
            live.close()
