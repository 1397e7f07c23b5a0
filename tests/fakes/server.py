"""Carries the vendors' wires over HTTP/1.1, on plain streams: a fake has to reset, drip and notice who leaves."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import asdict, replace
from email.utils import formatdate
from typing import Final

from tests.fakes.journal import Call
from tests.fakes.script import Behavior
from tests.fakes.stage import Stage
from tests.fakes.wire import A_KEY, Answer, Request, Wire, as_json, spelt

_MB: Final = b"A" * 1024 * 1024


class _Gone(Exception):  # noqa: N818  not an error: the client may leave
    """The client closed the connection."""


class Server:
    """One listener for all vendors, and for the test: ``/_script``, ``/_release``, ``/_reset``, ``/_journal``,
    ``/_stats``."""

    def __init__(self, *, wires: Sequence[Wire], stage: Stage) -> None:
        self._wires = wires
        self._stage = stage
        self._journal = stage.journal
        self._script = stage.script

    async def start(self, port: int, host: str = "127.0.0.1") -> int:
        """Listen on the port of this address, or a free one for 0; returns which."""
        server = await asyncio.start_server(self._serve, host, port, backlog=1024)
        return int(server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = 0
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith((b"GET /_", b"POST /_")):
                    answer = self._administer(await _read(head, reader))
                    await _send(answer, writer)
                    continue
                if not connection:
                    connection = self._stage.next_connection()
                if self._script.resets_unread:
                    _reset(writer)
                    return
                request = await _read(head, reader)
                wire = next((wire for wire in self._wires if wire.serves(request)), None)
                if wire is None:
                    await _send(as_json({"error": "unknown path"}, status=404), writer)
                elif not await self._answer(wire, request, connection, reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(
        self,
        wire: Wire,
        request: Request,
        connection: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Answer as scripted. Returns whether the connection is still good."""
        number = len(self._journal.calls) + 1
        try:
            asked = wire.read(request)
            behavior = self._script.behavior(asked.prompt)
        except ValueError as error:
            await _send(wire.unreadable(str(error)), writer)
            return True
        call = Call(
            number=number,
            vendor=wire.vendor,
            prompt=asked.prompt,
            request_id=asked.request_id,
            connection=connection,
            options=dict(asked.options),
        )
        self._journal.begin(call)
        try:
            await self._pause(behavior, reader)
            if behavior.reset == "before":
                _reset(writer)
                self._journal.end(call, "reset")
                return False
            answer = _quoting(wire.answer(asked, behavior, number=number), request)
            answer = spelt(answer, behavior)
            if behavior.location:
                answer = replace(answer, headers={**answer.headers, "location": behavior.location})
            if behavior.reset == "after":
                wire_format = _format(answer)
                writer.write(wire_format[: len(wire_format) - len(answer.body) // 2])
                await writer.drain()
                # What is still on its way when a connection is reset gets lost, and the half is to arrive.
                await _leaves(reader, within=0.1)
                _reset(writer)
                self._journal.end(call, "reset")
                return False
            if answer.parts:
                await self._stream(answer, behavior, reader, writer)
                self._journal.end(call, answer.then or str(answer.status))
                return False
            if behavior.drip:
                await _drip(answer, behavior.drip, reader, writer)
            elif behavior.huge:
                await _flood(answer, behavior, writer)
            elif behavior.short:
                writer.write(_format(answer, length=len(answer.body) + 1000))
                await writer.drain()
                self._journal.end(call, "short")
                return False
            else:
                await _send(answer, writer)
        except (_Gone, ConnectionError):
            self._journal.end(call, "gone", disconnected=True)
            return False
        except asyncio.CancelledError:
            self._journal.end(call, "stopped")
            raise
        self._journal.end(call, str(answer.status))
        return True

    async def _pause(self, behavior: Behavior, reader: asyncio.StreamReader) -> None:
        if behavior.hang:
            await _leaves(reader, within=None)
        if behavior.hold:
            await _leaves(reader, within=None, unless=self._stage.released)
        if behavior.delay:
            await _leaves(reader, within=behavior.delay)

    async def _stream(
        self, answer: Answer, behavior: Behavior, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send the parts, and then close the connection, which ends the body."""
        writer.write(_format(replace(answer, body=b"")).replace(b"content-length: 0", b"connection: close"))
        for index, part in enumerate(answer.parts):
            if index and behavior.stream == "steps":
                await _leaves(reader, within=None, unless=self._stage.released)
            writer.write(part)
            await writer.drain()
        while answer.then == "endless":
            writer.write(answer.parts[-1])
            await writer.drain()
        if answer.then == "reset":
            await _leaves(reader, within=0.1)
            _reset(writer)

    def _administer(self, request: Request) -> Answer:
        path = request.path
        if request.method == "GET" and path == "/_stats":
            return as_json(self._journal.summary() | {"connections": self._stage.connections})
        if request.method == "GET" and path == "/_journal":
            calls = [asdict(call) for call in self._journal.calls]
            return as_json(self._journal.summary() | {"connections": self._stage.connections, "calls": calls})
        if request.method == "POST" and path == "/_script":
            wanted = json.loads(request.body)
            try:
                self._script.set(default=wanted.get("default", ""), following=wanted.get("next", []))
            except (ValueError, TypeError) as error:
                return as_json({"error": str(error)}, status=400)
            return as_json({})
        if request.method == "POST" and path == "/_release":
            self._stage.release()
            return as_json({})
        if request.method == "POST" and path == "/_reset":
            self._stage.reset()
            return as_json({})
        return as_json({"error": "no such thing"}, status=404)


def _quoting(answer: Answer, request: Request) -> Answer:
    """Some vendors repeat the key in their errors, so here all of them do, in the place of :data:`A_KEY`."""
    key = request.headers.get("x-goog-api-key") or request.headers.get("authorization", "").rpartition(" ")[2]
    return replace(answer, body=answer.body.replace(A_KEY.encode(), key.encode())) if key else answer


async def _read(head: bytes, reader: asyncio.StreamReader) -> Request:
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method=method, path=path, headers=headers, body=body)


def _format(answer: Answer, *, length: int | None = -1) -> bytes:
    """Head and body. A length of ``None`` makes the body come in chunks."""
    length = len(answer.body) if length == -1 else length
    lines = [
        f"HTTP/1.1 {answer.status} Scripted",
        f"date: {formatdate(usegmt=True)}",
        *([f"content-type: {answer.content_type}"] if answer.content_type else ()),
        "transfer-encoding: chunked" if length is None else f"content-length: {length}",
        *(f"{name}: {value}" for name, value in answer.headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + answer.body


async def _send(answer: Answer, writer: asyncio.StreamWriter) -> None:
    writer.write(_format(answer))
    await writer.drain()


async def _drip(answer: Answer, pause: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in _format(answer):
        await _leaves(reader, within=pause)
        writer.write(bytes([byte]))


async def _flood(answer: Answer, behavior: Behavior, writer: asyncio.StreamWriter) -> None:
    size = behavior.huge * len(_MB) if behavior.declared else None
    writer.write(_format(Answer(status=answer.status, headers=answer.headers), length=size))
    for _ in range(behavior.huge):
        writer.write(_MB if behavior.declared else b"%x\r\n%s\r\n" % (len(_MB), _MB))
        await writer.drain()
    if not behavior.declared:
        writer.write(b"0\r\n\r\n")
        await writer.drain()


async def _leaves(reader: asyncio.StreamReader, *, within: float | None, unless: asyncio.Event | None = None) -> None:
    """Wait, but raise :class:`_Gone` as soon as the client closes the connection. No client sends a second request
    before it has its answer, so whatever can be read here is the end."""
    end = asyncio.ensure_future(reader.read(1))
    waits: set[asyncio.Future[object]] = {end}  # type: ignore[arg-type]
    if unless:
        waits.add(asyncio.ensure_future(unless.wait()))
    try:
        done, _ = await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)  # the stream has room for one reader at a time
    if end in done:
        raise _Gone


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close without the usual farewell (RST instead of FIN)."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
