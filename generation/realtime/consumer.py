"""The WebSocket: sign in, subscribe, receive the current state and then every change."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Iterator
from typing import Any, Final

from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import Error as DatabaseError

from generation.db import outages
from generation.realtime import authentication
from generation.realtime.authentication import ForeignOriginError, Identity, ScopeMissingError
from generation.realtime.client import MAX_SUBSCRIPTIONS, CloseCode, Listener
from generation.realtime.connection_limits import Slots, address_of_scope
from generation.realtime.hub import hub
from generation.realtime.rate_limit import BURST, MOST_REFUSED, RATE, MessageRate
from generation.realtime.send_queue import SEND_TIMEOUT, Closed
from generation.realtime.topics import NAMES, Snapshot, Topic
from generation.states import Scope

logger = logging.getLogger(__name__)

#: Seconds within which a new socket must authenticate.
AUTHENTICATION_DEADLINE: Final = 10
#: Names of lists of ids → name of a single id.
_LISTS: Final = {f"{name}s": name for name in NAMES}
_TOO_MANY: Final = f"One connection holds at most {MAX_SUBSCRIPTIONS}"


class UpdatesConsumer(AsyncWebsocketConsumer):
    """A WebSocket connection; docs/live-updates.md documents the messages.

    All messages to the client pass through the listener's send queue, which one task reads. So a client that does not
    read delays neither the hub nor the handling of its own messages.
    """

    # The hub receives for all sockets; a Redis channel for each socket would receive the same messages.
    channel_layer_alias = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._listener = Listener()
        self._slots = Slots()
        self._rate = MessageRate()
        self._deadline: asyncio.TimerHandle | None = None
        reading = asyncio.create_task(super().__call__(scope, receive, send))
        writing = asyncio.create_task(self._write())
        try:
            await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._cancel_deadline()
            hub.leave(self._listener)
            self._slots.free()
            for task in (reading, writing):
                task.cancel()
            ended = await asyncio.gather(reading, writing, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception) and not isinstance(error, OSError):  # OSError: the client disconnected
                raise error

    async def dispatch(self, message: Any) -> None:
        """Call the handler of a message, without Channels' cleanup of database connections: this thread has none."""
        await getattr(self, message["type"].replace(".", "_"))(message)

    async def connect(self) -> None:
        headers = authentication.headers_of(self.scope)
        token = authentication.bearer_token(headers)
        try:
            session = "" if token is not None else authentication.session_key(headers)
        except ForeignOriginError:
            await self.close()  # before accept(), so that the handshake is answered with 403
            return
        await self.accept()
        if not self._slots.take_for_address(self.scope):
            self._too_many("address")
            return
        hub.join(self._listener)
        self._deadline = asyncio.get_running_loop().call_later(
            AUTHENTICATION_DEADLINE, self._listener.send_queue.close, CloseCode.NOT_AUTHENTICATED
        )
        with self._reporting_database_errors():
            if token is not None:
                await self._authenticate(token)
            elif session and (identity := await authentication.of_session(session)):
                self._sign_in(identity)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self._listener.send_queue.is_closed:
            return
        self._listener.heard_at = time.monotonic()
        if not self._take_from_rate():
            return
        try:
            message = json.loads((text_data or "").removeprefix("\ufeff"))
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            self._error("invalid_message", "Send one JSON object in a text message")
            return
        with self._reporting_database_errors():
            await self._act(message)

    def _take_from_rate(self, count: int = 1) -> bool:
        if self._rate.take(count):
            return True
        self._error("rate_limited", f"At most {RATE} messages in a second, after {BURST} at once")
        if self._rate.refused >= MOST_REFUSED:
            self._listener.send_queue.close(CloseCode.TOO_MANY_MESSAGES)
        return False

    async def _act(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind == "authenticate":
            await self._authenticate(message.get("token"))
        elif kind == "ping":
            self._say({"type": "pong"})
        elif self._listener.identity is None:
            self._error("not_authenticated", "Authenticate first")
        elif kind in ("subscribe", "unsubscribe"):
            await self._subscribe_or_not(message)
        else:
            self._error("unknown_type", "The types are authenticate, subscribe, unsubscribe and ping")

    async def _authenticate(self, token: object) -> None:
        before = self._listener.identity
        try:
            identity = await authentication.of_token(token, address_of_scope(self.scope))
        except ScopeMissingError:
            self._error("scope_missing", f"The API key lacks the scope {Scope.REQUESTS_READ}")
            return
        if identity is None:
            self._listener.send_queue.close(CloseCode.NOT_AUTHENTICATED)
        elif before is not None and before.user.pk != identity.user.pk:
            self._error("another_user", "Open another connection for another user")
        else:
            self._sign_in(identity)

    def _sign_in(self, identity: Identity) -> None:
        self._cancel_deadline()
        if not self._slots.take_for_user(identity.user.pk):
            self._too_many("user")
            return
        self._listener.sign_in(identity)
        self._say({"type": "authenticated"})

    def _too_many(self, whose: str) -> None:
        self._listener.send_queue.close(CloseCode.TOO_MANY_CONNECTIONS, f"too many connections of this {whose}")

    async def _subscribe_or_not(self, message: dict[str, Any]) -> None:
        # Null means absent, as in bodies.
        given = {name: message[name] for name in (*NAMES, *_LISTS) if message.get(name) is not None}
        if len(given) != 1:
            self._error("invalid_message", f"Name one of {', '.join(NAMES)}, or a list such as requestIds")
            return
        name, value = given.popitem()
        is_list = name in _LISTS
        ids = value if is_list else [value]
        if not isinstance(ids, list) or not all(isinstance(id_, str) for id_ in ids):
            self._error("invalid_message", f"{name} must be {'a list of strings' if is_list else 'a string'}")
        elif len(ids) > MAX_SUBSCRIPTIONS:
            self._error("too_many_subscriptions", _TOO_MANY)
        elif self._take_from_rate(len(ids) - 1):  # the message itself is already counted
            for topic in dict.fromkeys(Topic.of(_LISTS.get(name, name), id_) for id_ in ids):
                # Errors about a single id do not repeat it, so that they are the same for every id.
                about = {topic.name: topic.id} if is_list else {}
                if message["type"] == "unsubscribe":
                    hub.unwatch(self._listener, topic)
                    self._say({"type": "unsubscribed", topic.name: topic.id})
                else:
                    await self._subscribe(topic, about)

    def _has_room_for(self, topic: Topic) -> bool:
        """Return whether the topic fits the limit. An existing subscription does; it only gets the state again."""
        return hub.watches(self._listener, topic) or len(self._listener.keys) < MAX_SUBSCRIPTIONS

    async def _subscribe(self, topic: Topic, about: dict[str, str]) -> None:
        if not self._has_room_for(topic):
            self._error("too_many_subscriptions", _TOO_MANY, about)
            return

        def welcome(found: Snapshot) -> str:
            return json.dumps({"type": "subscribed", topic.name: topic.id, "data": found.data})

        await self._listener.send_queue.wait_for_capacity()
        if not await hub.watch(self._listener, topic, welcome):
            self._error("not_found", topic.not_found, about)

    async def _write(self) -> None:
        with contextlib.suppress(TimeoutError):  # a client that does not read: return, which ends the connection
            try:
                while True:
                    text = await self._listener.send_queue.get()
                    async with asyncio.timeout(SEND_TIMEOUT):
                        await self.send(text_data=text)
            except Closed as end:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await self.close(end.code, end.reason or None)
                    await asyncio.Event().wait()  # until the client disconnects, which ends the other task

    @contextlib.contextmanager
    def _reporting_database_errors(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            self._error(*outages.code_and_message(logger, error))

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _error(self, code: str, message: str, about: dict[str, str] | None = None) -> None:
        self._say({"type": "error", "code": code, "error": message, **(about or {})})

    def _say(self, message: dict[str, Any]) -> None:
        self._listener.send_queue.put(json.dumps(message))
