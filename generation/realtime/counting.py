"""The metric of open WebSockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from generation.telemetry import metrics

Application = Callable[[Any, Any, Any], Awaitable[None]]


def counting_connections(application: Any) -> Application:
    """Wrap the application so that its open connections are counted."""

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        with metrics.CONNECTIONS.track_inprogress():
            await application(scope, receive, send)

    return counted
