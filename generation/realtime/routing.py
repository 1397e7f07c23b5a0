"""URL routes of live updates."""

from __future__ import annotations

from typing import Any, cast

from django.urls import re_path

from generation.realtime.bodies import without_bodies
from generation.realtime.consumer import UpdatesConsumer
from generation.realtime.handshake import only_as_configured
from generation.realtime.sse import event_stream


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Reject a WebSocket at any other path: close before accept, so that the handshake is answered with 403."""
    await send({"type": "websocket.close"})


websocket_urlpatterns: list[Any] = [
    re_path(r"^ws/visual-generation/?$", cast("Any", UpdatesConsumer.as_asgi())),
    re_path("", cast("Any", refuse)),
]
http_urlpatterns: list[Any] = [
    re_path(r"^api/visual-generation/events/?$", cast("Any", without_bodies(only_as_configured(event_stream)))),
]
