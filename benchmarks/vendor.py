"""A vendor on loopback that speaks OpenAI's Images API and sends images of real sizes at hardly any cost.

``python -m benchmarks.vendor`` prints its port and serves until its parent ends. Answers are prepared once; for each
call only the few bytes with the image's number are encoded. ``output_format`` and ``size`` choose among the samples.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

from benchmarks.samples import Sample, samples
from config.local.parent_death import ending_with_this

ROOT: Final = Path(__file__).resolve().parents[1]
_USAGE: Final = {
    "input_tokens": 50,
    "input_tokens_details": {"text_tokens": 50, "image_tokens": 0},
    "output_tokens": 1568,
    "total_tokens": 1618,
}
_NUMBERS: Final = itertools.count(1)
_NOT_FOUND: Final = (
    b'HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"error":{}}'
)


class PreparedAnswer:
    """An answer with a sample, as the pieces that go to the socket."""

    def __init__(self, sample: Sample) -> None:
        self._note = sample.note
        width, height = sample.size
        about = {"output_format": sample.format, "quality": "high", "size": f"{width}x{height}", "usage": _USAGE}
        before = b'{"created":1764288000,"data":[{"b64_json":"' + base64.b64encode(sample.head)
        after = base64.b64encode(sample.tail) + b'"}],' + json.dumps(about).encode()[1:]
        length = len(before) + len(base64.b64encode(sample.note(0))) + len(after)
        self._before = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: req_%%d\r\nContent-Length: %d\r\n\r\n"
        ) % length
        self._image = before
        self._after = after

    def pieces(self, number: int) -> list[bytes]:
        """Return the answer with an image that has this number."""
        return [self._before % number, self._image, base64.b64encode(self._note(number)), self._after]


class _Connection(asyncio.Protocol):
    """One connection of a client, which makes one call after the other."""

    def __init__(self, answers: dict[str, PreparedAnswer]) -> None:
        self._answers = answers
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._received[:end])
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            until = end + 4 + (int(lengths[0].partition(b":")[2]) if lengths else 0)
            if len(self._received) < until:
                return
            body = bytes(self._received[end + 4 : until])
            del self._received[:until]
            if head.startswith(b"POST ") and head.partition(b" HTTP/")[0].endswith(b"/images/generations"):
                self._transport.writelines(self._answers[_kind(json.loads(body))].pieces(next(_NUMBERS)))
            else:
                self._transport.write(_NOT_FOUND)


def _kind(call: dict[str, object]) -> str:
    if (wanted := str(call.get("output_format") or "png")) != "png":
        return wanted
    width, _, height = str(call.get("size", "")).partition("x")
    return "line art" if width == height else "photo"


async def _serve() -> None:
    answers = {name: PreparedAnswer(sample) for name, sample in samples().items()}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(answers), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def running_vendor() -> Iterator[int]:
    """Run the vendor in a process of its own while the block lasts, and yield its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.vendor"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=ending_with_this(),
    )
    try:
        assert process.stdout
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate(timeout=10)


def main() -> None:
    """Serve until killed, with uvloop where it is installed: asyncio copies what a socket does not take at once."""
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
