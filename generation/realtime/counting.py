"""How many WebSockets are open."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from generation.telemetry import metrics

Application = Callable[[Any, Any, Any], Awaitable[None]]


def counting_connections(application: Any) -> Application:
    """The application, whose connections are counted while they last."""

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        with metrics.CONNECTIONS.track_inprogress():
            await application(scope, receive, send)

    return counted
