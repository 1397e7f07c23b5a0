"""One event loop for each process, in its own thread, for asynchronous calls from synchronous code.

A new loop and Redis connection for each message would cost ten times as much as sending it through this loop.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


class BackgroundLoop:
    """An event loop that runs in a daemon thread from its first use on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start the coroutine on the loop. Cancelling the future cancels the coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self._running())

    def stop(self) -> None:
        """Cancel the running coroutines and end the thread, when the process ends."""
        with self._lock:
            running, self._loop = self._loop, None
        if running is not None:
            asyncio.run_coroutine_threadsafe(_cancel_all(), running).result(5)
            running.call_soon_threadsafe(running.stop)

    def forget_after_fork(self) -> None:
        """Let a forked child start its own thread: it has the object, but not the thread."""
        self._lock = threading.Lock()
        self._loop = None

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = uvloop.new_event_loop()
                threading.Thread(target=_run, args=[self._loop], name="background-loop", daemon=True).start()
            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


#: The loop of this process.
loop = BackgroundLoop()
os.register_at_fork(after_in_child=loop.forget_after_fork)


def run_in_thread(act: Callable[[], T]) -> Future[T]:
    """Run the function in a thread of the loop's pool."""
    return loop.submit(asyncio.to_thread(act))


def run_within(seconds: float, act: Callable[[], T]) -> T:
    """Return the result of the function. Raises :class:`TimeoutError` after the seconds; the function then runs on."""
    return run_in_thread(act).result(seconds)
