"""The end of the process, known as soon as it is asked to stop: calls that wait are then answered at once.

The server waits some seconds for open calls, and tells the application nothing of it.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

_stopping: asyncio.Event | None = None


def stopping() -> asyncio.Event:
    """Return the event that SIGTERM and SIGINT set, besides what the server does with them. Call it on the server's
    event loop."""
    global _stopping
    if _stopping is None:
        _stopping = asyncio.Event()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                _take_over(number, asyncio.get_running_loop(), _stopping)
    return _stopping


def _take_over(number: signal.Signals, loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    inherited: Any = signal.getsignal(number)

    def handle(received: int, frame: Any) -> None:
        loop.call_soon_threadsafe(event.set)
        if callable(inherited):
            inherited(received, frame)

    signal.signal(number, handle)
