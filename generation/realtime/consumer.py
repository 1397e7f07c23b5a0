"""One socket: sign in, subscribe, get the state at once and every change after it."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.auth.models import User

from generation import events, representations, selectors
from generation.realtime.authentication import bearer_token, user_of_token

#: Close codes: 4401 as in HTTP's 401.
NOT_AUTHENTICATED: Final = 4401
#: Seconds in which a new socket must say who it is.
AUTHENTICATION_DEADLINE: Final = 10
MAX_SUBSCRIPTIONS: Final = 200
MAX_MESSAGE_BYTES: Final = 64 * 1024


class UpdatesConsumer(AsyncWebsocketConsumer):
    """What a client may send and what it gets stands in the contract of the WebSocket."""

    async def connect(self) -> None:
        self._user: User | None = None
        self._subscriptions: set[str] = set()
        self._deadline: asyncio.TimerHandle | None = None
        await self.accept()
        if (token := bearer_token(self.scope)) is not None:
            await self._authenticate(token)
        else:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(AUTHENTICATION_DEADLINE, lambda: loop.create_task(self._refuse()))

    async def disconnect(self, code: int) -> None:
        self._stop_waiting()
        for request_id in self._subscriptions:
            await self.channel_layer.group_discard(events.request_group(request_id), self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        try:
            message = json.loads(text_data or "")
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or len(text_data or "") > MAX_MESSAGE_BYTES:
            await self._error("invalid_message", "Send one JSON object in a text message")
            return
        kind = message.get("type")
        if kind == "authenticate":
            await self._authenticate(message.get("token"))
        elif kind == "ping":
            await self._send({"type": "pong"})
        elif self._user is None:
            await self._error("not_authenticated", "Authenticate first")
        elif kind == "subscribe":
            await self._subscribe(message.get("requestId"))
        elif kind == "unsubscribe":
            await self._unsubscribe(message.get("requestId"))
        else:
            await self._error("unknown_type", "Known are authenticate, subscribe, unsubscribe and ping")

    async def request_update(self, message: dict[str, Any]) -> None:
        """From the channel layer: a request has changed."""
        await self._send({"type": "update", "requestId": message["requestId"], "data": message["data"]})

    async def _authenticate(self, token: object) -> None:
        self._user = await user_of_token(token)
        self._stop_waiting()
        if self._user is None:
            await self._refuse()
        else:
            await self._send({"type": "authenticated"})

    async def _subscribe(self, request_id: object) -> None:
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            await self._error("too_many_subscriptions", f"One socket holds at most {MAX_SUBSCRIPTIONS}")
            return
        # Into the group first and the state second: a change in between then comes twice rather than never.
        if not isinstance(request_id, str) or await self._state(request_id) is None:
            await self._error("not_found", "Request not found")
            return
        await self.channel_layer.group_add(events.request_group(request_id), self.channel_name)
        self._subscriptions.add(request_id)
        await self._send({"type": "subscribed", "requestId": request_id, "data": await self._state(request_id)})

    async def _unsubscribe(self, request_id: object) -> None:
        if isinstance(request_id, str) and request_id in self._subscriptions:
            self._subscriptions.discard(request_id)
            await self.channel_layer.group_discard(events.request_group(request_id), self.channel_name)
        await self._send({"type": "unsubscribed", "requestId": request_id})

    @database_sync_to_async
    def _state(self, request_id: str) -> dict[str, Any] | None:
        if self._user is None:
            return None
        found = selectors.find_request(request_id, among=selectors.visible_to(self._user))
        return representations.status(found) if found else None

    async def _refuse(self) -> None:
        await self.close(NOT_AUTHENTICATED)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    async def _error(self, code: str, message: str) -> None:
        await self._send({"type": "error", "code": code, "error": message})

    async def _send(self, message: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps(message))
