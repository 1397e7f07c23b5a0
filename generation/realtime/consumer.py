"""One socket: sign in, subscribe, get the state at once and every change after it."""

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
from generation.realtime.authentication import ForeignOriginError, Identity
from generation.realtime.client import MAX_SUBSCRIPTIONS, CloseCode, Listener
from generation.realtime.connection_limits import Slots
from generation.realtime.hub import hub
from generation.realtime.rate_limit import BURST, MOST_REFUSED, RATE, MessageRate
from generation.realtime.send_queue import PATIENCE, Closed
from generation.realtime.topics import NAMES, Snapshot, Topic

logger = logging.getLogger(__name__)

#: Seconds in which a new socket must say who it is.
AUTHENTICATION_DEADLINE: Final = 10
#: The names of lists of ids, and what each id of them is.
_LISTS: Final = {f"{name}s": name for name in NAMES}
_TOO_MANY: Final = f"One connection holds at most {MAX_SUBSCRIPTIONS}"


class UpdatesConsumer(AsyncWebsocketConsumer):
    """What a client may send and what it gets stands in docs/api.md.

    Everything that is sent goes through the listener's outbox, from which one task takes it. So a client that does not
    read holds up neither the hub nor its own messages.
    """

    # The hub receives for all sockets; a channel of its own in Redis for each would be told the same.
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
            self._stop_waiting()
            hub.leave(self._listener)
            self._slots.free()
            for task in (reading, writing):
                task.cancel()
            ended = await asyncio.gather(reading, writing, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception) and not isinstance(error, OSError):  # those are of a client that is gone
                raise error

    async def dispatch(self, message: Any) -> None:
        """As Channels' own, without looking for connections to the database in a thread where there are none."""
        await getattr(self, message["type"].replace(".", "_"))(message)

    async def connect(self) -> None:
        headers = authentication.headers_of(self.scope)
        token = authentication.bearer_token(headers)
        try:
            session = "" if token is not None else authentication.session_key(headers)
        except ForeignOriginError:
            await self.close()  # before it was accepted, so that it is answered with 403
            return
        await self.accept()
        if not self._slots.take_for_address(self.scope):
            self._too_many("address")
            return
        hub.join(self._listener)
        self._deadline = asyncio.get_running_loop().call_later(
            AUTHENTICATION_DEADLINE, self._listener.outbox.close, CloseCode.NOT_AUTHENTICATED
        )
        with self._database_may_be_away():
            if token is not None:
                await self._authenticate(token)
            elif session and (identity := await authentication.of_session(session)):
                self._sign_in(identity)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self._listener.outbox.is_closed:
            return
        self._listener.heard_at = time.monotonic()
        if not self._is_within_rate():
            return
        try:
            message = json.loads((text_data or "").removeprefix("\ufeff"))
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            self._error("invalid_message", "Send one JSON object in a text message")
            return
        with self._database_may_be_away():
            await self._act(message)

    def _is_within_rate(self, count: int = 1) -> bool:
        if self._rate.take(count):
            return True
        self._error("rate_limited", f"At most {RATE} messages in a second, after {BURST} at once")
        if self._rate.refused >= MOST_REFUSED:
            self._listener.outbox.close(CloseCode.TOO_MANY_MESSAGES)
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
            self._error("unknown_type", "Known are authenticate, subscribe, unsubscribe and ping")

    async def _authenticate(self, token: object) -> None:
        before = self._listener.identity
        identity = await authentication.of_token(token)
        if identity is None:
            self._listener.outbox.close(CloseCode.NOT_AUTHENTICATED)
        elif before is not None and before.user.pk != identity.user.pk:
            self._error("another_user", "Open another connection for another user")
        else:
            self._sign_in(identity)

    def _sign_in(self, identity: Identity) -> None:
        self._stop_waiting()
        if not self._slots.take_for_user(identity.user.pk):
            self._too_many("user")
            return
        self._listener.sign_in(identity)
        self._say({"type": "authenticated"})

    def _too_many(self, whose: str) -> None:
        self._listener.outbox.close(CloseCode.TOO_MANY_CONNECTIONS, f"too many connections of this {whose}")

    async def _subscribe_or_not(self, message: dict[str, Any]) -> None:
        # Null stands for what is left out, as in bodies.
        given = {name: message[name] for name in (*NAMES, *_LISTS) if message.get(name) is not None}
        if len(given) != 1:
            self._error("invalid_message", f"Name one of {', '.join(NAMES)}, or a list such as requestIds")
            return
        name, value = given.popitem()
        listed = name in _LISTS
        ids = value if listed else [value]
        if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
            self._error("invalid_message", f"{name} must be {'a list of texts' if listed else 'a text'}")
        elif len(ids) > MAX_SUBSCRIPTIONS:
            self._error("too_many_subscriptions", _TOO_MANY)
        elif self._is_within_rate(len(ids) - 1):  # the message itself was counted
            for target in dict.fromkeys(Topic.of(_LISTS.get(name, name), one) for one in ids):
                # Of one id it is clear which one an error is about, and the error is the same for every id.
                about = {target.name: target.id} if listed else {}
                if message["type"] == "unsubscribe":
                    hub.unwatch(self._listener, target)
                    self._say({"type": "unsubscribed", target.name: target.id})
                else:
                    await self._subscribe(target, about)

    def _has_room_for(self, target: Topic) -> bool:
        """Subscribing again, for the state now, takes no more room."""
        return hub.watches(self._listener, target) or len(self._listener.keys) < MAX_SUBSCRIPTIONS

    async def _subscribe(self, target: Topic, about: dict[str, str]) -> None:
        if not self._has_room_for(target):
            self._error("too_many_subscriptions", _TOO_MANY, about)
            return

        def welcome(found: Snapshot) -> str:
            return json.dumps({"type": "subscribed", target.name: target.id, "data": found.data})

        await self._listener.outbox.room()
        if not await hub.watch(self._listener, target, welcome):
            self._error("not_found", target.not_found, about)

    async def _write(self) -> None:
        with contextlib.suppress(TimeoutError):  # what then ends is the connection
            try:
                while True:
                    text = await self._listener.outbox.get()
                    async with asyncio.timeout(PATIENCE):
                        await self.send(text_data=text)
            except Closed as end:
                async with asyncio.timeout(PATIENCE):
                    await self.close(end.code, end.reason or None)
                    await asyncio.Event().wait()  # until the client is gone, which ends the other task

    @contextlib.contextmanager
    def _database_may_be_away(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            self._error(*outages.code_and_message(logger, error))

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _error(self, code: str, message: str, about: dict[str, str] | None = None) -> None:
        self._say({"type": "error", "code": code, "error": message, **(about or {})})

    def _say(self, message: dict[str, Any]) -> None:
        self._listener.outbox.put(json.dumps(message))
