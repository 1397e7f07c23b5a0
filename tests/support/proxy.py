"""The way to a server, which a test may make slow, block or cut."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType

_CHUNK = 64 * 1024


class Proxy:
    """Passes on what comes to its port of loopback, in both directions. A context manager."""

    def __init__(self, port: int) -> None:
        """``port`` is where the server listens, on loopback too. It need not be there yet, and may go and come."""
        self._target = port
        self.port = 0
        #: Seconds that pass before what a client sends is passed on; may be changed at any time.
        self.latency = 0.0
        self._stop_before = b""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._open: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()

    @property
    def blocked(self) -> bool:
        """Whether nothing passes."""
        return not self._flowing.is_set()

    def block(self) -> None:
        """Accept connections and what is sent over them, and pass nothing on."""
        self._on_loop(self._flowing.clear)

    def block_before(self, word: bytes) -> None:
        """Block as soon as a client sends the word."""
        self._stop_before = word

    def unblock(self) -> None:
        """Pass on what waits and what comes."""
        self._stop_before = b""
        self._on_loop(self._flowing.set)

    def cut(self) -> None:
        """Reset every connection that is open. New ones may be made."""

        def reset() -> None:
            for writer in self._open:
                writer.transport.abort()

        self._on_loop(reset)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._on_loop(self._flowing.set)
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        ).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        self._flowing.set()
        # Cut, they end by themselves.
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=5)

    def _on_loop(self, act: Callable[[], object]) -> None:
        done: Future[object] = Future()
        self._loop.call_soon_threadsafe(lambda: done.set_result(act()))
        done.result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            there, onwards = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            self._open.discard(writer)
            return
        self._open.add(onwards)
        directions = [
            asyncio.ensure_future(self._carry(reader, onwards, asked=True)),
            asyncio.ensure_future(self._carry(there, writer, asked=False)),
        ]
        try:
            # Whichever side ends first ends the other.
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            for end in (writer, onwards):
                end.close()
                self._open.discard(end)

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, asked: bool) -> None:
        try:
            while data := await source.read(_CHUNK):
                if asked:
                    await asyncio.sleep(self.latency)
                    self._watch(data)
                await self._flowing.wait()
                target.write(data)
                await target.drain()
        except OSError:
            pass  # cut by either side

    def _watch(self, data: bytes) -> None:
        if self._stop_before and self._stop_before in data:
            self._flowing.clear()
