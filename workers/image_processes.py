"""Processes that check and store images, so that the worker itself never decodes one.

A decoder that crashes or hangs takes one image with it and no other, decoding uses further processors, and the worker's
event loop does not share its interpreter with it. A template process is forked when the worker starts, while it has one
thread; it forks a process whenever one is needed, which costs milliseconds and shares the worker's memory. Each process
reads from a socket and ends when the socket closes, so none outlives its worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from generation.states import ErrorCode
from workers.providers.base import ProviderError

logger = logging.getLogger(__name__)

#: Seconds for the check of one image. The slowest image that is accepted takes a few.
_SECONDS: Final = 30.0
#: The lengths of the pickled arguments and of the image.
_HEAD: Final = struct.Struct("!II")
_PID: Final = struct.Struct("!I")
Task = Callable[..., Any]


class _Ended(Exception):  # noqa: N818  a state
    """The process ended before it answered."""


class NoProcessesError(Exception):
    """The template process has ended, for example by the system's lack of memory, so no process can be started."""


class ImageProcesses:
    """Processes that run a function on images, each on one at a time."""

    def __init__(self, check: Task, store: Task, *, limit: int) -> None:
        """Fork the template. In at most ``limit`` processes at a time, ``check`` is called with an image and ``store``
        with its result, both with keyword arguments."""
        ours, theirs = socket.socketpair()
        if not os.fork():
            ours.close()
            _serve_as_template(theirs, check, store)
        theirs.close()
        self._template = ours
        self._idle: list[_Process] = []
        self._slots = asyncio.Semaphore(limit)

    async def run(self, image: bytes, check: dict[str, Any], store: dict[str, Any]) -> Any:
        """Return what ``store`` returns. The arguments are those of both functions.

        Raises the functions' ``OSError`` and :class:`ProviderError`, ``invalid_image`` for an image that takes too long
        to check or ends the process, ``OSError`` if the process ends while it stores, and :class:`NoProcessesError`. A
        process may also be ended from outside, so an image is checked twice if need be.
        """
        async with self._slots:
            for _ in range(2):
                try:
                    return await self._run(image, (check, store))
                except _Ended:
                    logger.warning("a process ended while it checked an image of %d bytes", len(image))
        raise ProviderError("The image cannot be decoded", code=ErrorCode.INVALID_IMAGE)

    async def _run(self, image: bytes, arguments: object) -> Any:
        process = self._idle.pop() if self._idle else await _Process.start(self._template)
        is_checked = False
        try:
            async with asyncio.timeout(_SECONDS):
                await process.send(image, arguments)
                outcome, value = await process.receive()
            if outcome == "checked":
                is_checked = True
                outcome, value = await process.receive()  # the storage has time limits of its own
        except (ConnectionError, asyncio.IncompleteReadError):
            process.close()
            if is_checked:
                raise OSError("the process ended while it stored the image") from None
            raise _Ended from None
        except TimeoutError:
            process.kill()
            message = f"The image was not decoded within {_SECONDS:g} s"
            raise ProviderError(message, code=ErrorCode.INVALID_IMAGE) from None
        except BaseException:  # a cancelled caller: the process is in the middle of an answer
            process.kill()
            raise
        self._idle.append(process)
        match outcome:
            case "result":
                return value
            case "provider error":
                raise ProviderError(value[0], code=value[1])
            case "system error":
                raise OSError(*value)
        raise RuntimeError(value)


class _Process:
    """The worker's end of one process."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._pid = pid
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, template: socket.socket) -> _Process:
        """Have the template fork a process. Raises :class:`NoProcessesError`."""
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                socket.send_fds(template, [b"\0"], [theirs.fileno()])
            reader, writer = await asyncio.open_connection(sock=ours)
            [pid] = _PID.unpack(await reader.readexactly(_PID.size))
        except (OSError, asyncio.IncompleteReadError) as error:
            raise NoProcessesError from error
        return cls(pid, reader, writer)

    async def send(self, image: bytes, arguments: object) -> None:
        """Send one image."""
        pickled = pickle.dumps(arguments)
        self._writer.writelines([_HEAD.pack(len(pickled), len(image)) + pickled, image])
        await self._writer.drain()

    async def receive(self) -> tuple[str, Any]:
        """Return the kind and the value of the next answer."""
        length, _ = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
        answer: tuple[str, Any] = pickle.loads(await self._reader.readexactly(length))  # noqa: S301  from our own fork
        return answer

    def close(self) -> None:
        """Close the socket of a process that has ended."""
        self._writer.close()

    def kill(self) -> None:
        """End the process at once. It has not ended by itself, so no other process has its number."""
        self.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)


# --- In the template and its children ---------------------------------------------------------------------------------


def _serve_as_template(control: socket.socket, check: Task, store: Task) -> None:
    """Fork a child for each socket that arrives. Does not return."""
    try:
        # A signal to the whole group tells the worker to stop, which may still have images to store.
        for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(stop, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing waits for the children
        while connection := _next_connection(control):
            if not os.fork():
                control.close()
                _serve(socket.socket(fileno=connection), check, store)
                break
            os.close(connection)
    except ConnectionError:
        pass  # the worker ended before it had the answer
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)


def _next_connection(control: socket.socket) -> int:
    """Return the descriptor of the next socket, or 0 when the worker has ended."""
    _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
    return descriptors[0] if descriptors else 0


def _serve(connection: socket.socket, check: Task, store: Task) -> None:
    """Answer images until the worker closes the socket."""
    connection.settimeout(None)  # a worker that stops sets a time-out for all new sockets, as Celery does
    connection.sendall(_PID.pack(os.getpid()))
    while head := _read(connection, _HEAD.size):
        length, size = _HEAD.unpack(head)
        of_check, of_store = pickle.loads(_read(connection, length))  # noqa: S301  from our own parent
        outcome, value = _answer(partial(check, _read(connection, size), **of_check))
        if outcome == "result":
            _send(connection, ("checked", None))
            outcome, value = _answer(partial(store, value, **of_store))
        _send(connection, (outcome, value))


def _send(connection: socket.socket, answer: tuple[str, Any]) -> None:
    pickled = pickle.dumps(answer)
    connection.sendall(_HEAD.pack(len(pickled), 0) + pickled)


def _answer(act: Task) -> tuple[str, Any]:
    try:
        return "result", act()
    except ProviderError as error:
        return "provider error", (error.message, error.code)
    except OSError as error:
        return "system error", (error.errno, str(error))
    except Exception as error:
        logger.exception("storing an image failed")
        return "fault", f"{type(error).__name__} while an image was stored"


def _read(connection: socket.socket, length: int) -> bytes:
    """Return exactly so many bytes, or none at the end of the connection."""
    content = bytearray(length)
    rest = memoryview(content)
    while rest:
        received = connection.recv_into(rest)
        if not received:
            return b""
        rest = rest[received:]
    return bytes(content)
