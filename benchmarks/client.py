"""``python -m benchmarks.client``: a load (JSON on standard input) becomes what was measured (JSON on standard output).

It speaks no more of HTTP than our own servers do, so that it takes little of the processors that they need, and it
tells the time of each call as it was. A tool such as wrk adds calls that it did not make for those that a slow one
held up, which on a machine with other work makes a p99 of that work.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

from benchmarks.load import Load, Measured

_HEAD: Final = re.compile(rb"HTTP/1\.1 (\d)(?:.*?\r\ncontent-length: *(\d+))?.*?\r\n\r\n", re.IGNORECASE | re.DOTALL)


class _Connection(asyncio.Protocol):
    """Calls until the time is up, and then ends."""

    def __init__(self, messages: Iterator[bytes], until: float) -> None:
        self._messages = messages
        self._until = until
        self._answer = b""
        self._transport: asyncio.WriteTransport
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lasted: list[float] = []
        self.failed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._call()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head = _HEAD.match(self._answer)
        if head is None or len(self._answer) < head.end() + int(head[2] or 0):
            return
        now = time.perf_counter()
        self.lasted.append((now - self._began) * 1000)
        self.failed += head[1] not in b"23"
        self._answer = b""
        if now < self._until:
            self._call()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.failed += time.perf_counter() < self._until  # the server hung up
        self.ended.set_result(None)

    def _call(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(next(self._messages))


async def run(load: Load) -> Measured:
    """Make the calls."""
    headers = load.headers | {"Host": "127.0.0.1", "Content-Length": str(len(load.body.encode()))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    texts = (f"{load.method} {path} HTTP/1.1\r\n{lines}\r\n{load.body}" for path in load.paths)
    messages = itertools.cycle([text.encode() for text in texts])
    began = time.perf_counter()
    until = began + load.seconds
    connections = []
    for _ in range(load.connections):
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(messages, until), "127.0.0.1", load.port
        )
        connections.append(connection)
    await asyncio.gather(*(connection.ended for connection in connections))
    seconds = time.perf_counter() - began
    lasted = [one for connection in connections for one in connection.lasted]
    percentiles = statistics.quantiles(lasted, n=100, method="inclusive")
    return Measured(
        calls=len(lasted),
        failed=sum(connection.failed for connection in connections),
        seconds=seconds,
        p50=percentiles[49],
        p99=percentiles[98],
        slowest=max(lasted),
    )


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(run(Load(**json.load(sys.stdin)))))))
