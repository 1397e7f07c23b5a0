"""Draining of request bodies that the application did not read, as when a call without a token is rejected.

The server closes a connection with an unread body without announcing it, so that the client's next call on it fails.
Therefore the rest is read first, within bounds; otherwise the response says ``Connection: close``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from generation.api.chunked import is_upload

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: Maximum number of bytes to drain, of uploads and of others; larger than any accepted body.
_MAX_UPLOAD: Final = 64 * 1024 * 1024
_MAX_BYTES: Final = 4 * 1024 * 1024
_CHUNK_BYTES: Final = 64 * 1024
#: Seconds for which a response waits for a slow client to send the rest.
_TIMEOUT: Final = 2.0
#: Maximum number of concurrent drains. A client that stops sending occupies a thread until its connection ends.
_MAX_THREADS: Final = 8


class _Body:
    """A wrapper of ``wsgi.input`` that counts the bytes read."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.bytes_read = 0

    def read(self, size: int = -1) -> bytes:
        chunk: bytes = self._stream.read(size)
        self.bytes_read += len(chunk)
        return chunk

    def readline(self, size: int = -1) -> bytes:
        line: bytes = self._stream.readline(size)
        self.bytes_read += len(line)
        return line


class _Drain:
    """Reads the rest of bodies in separate threads, since the server's ``read`` blocks without a time limit."""

    def __init__(self) -> None:
        self._slots = threading.BoundedSemaphore(_MAX_THREADS)

    def run(self, body: _Body, most: int) -> bool:
        """Return whether the rest was read within the bounds, one of which is this number of bytes."""
        if not self._slots.acquire(blocking=False):
            return False
        done = threading.Event()
        # A daemon thread, so that a client that stops sending does not delay the exit of the process.
        threading.Thread(target=self._read, args=(body, most, done), name="drain", daemon=True).start()
        return done.wait(_TIMEOUT)

    def _read(self, body: _Body, left: int, done: threading.Event) -> None:
        try:
            while chunk := body.read(_CHUNK_BYTES):
                left -= len(chunk)
                if left < 0:
                    return
            done.set()
        except Exception:  # noqa: S110  any exception of the server's stream means that the connection has ended
            pass
        finally:
            self._slots.release()


def drain_unread_bodies(application: WSGIApplication) -> WSGIApplication:
    """Read the unread rest of each body before the response, or send ``Connection: close``."""
    drain = _Drain()

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        length = _length(environ)
        if length == 0:
            return application(environ, start_response)
        body = environ["wsgi.input"] = _Body(environ["wsgi.input"])
        started: list[Any] = []

        def start_later(*arguments: Any) -> Any:
            started[:] = arguments
            return None

        response = application(environ, start_later)
        status, headers, *more = started  # Django calls start_response before it returns
        if not _is_drained(environ, body, length, drain):
            headers = [*headers, ("Connection", "close")]
        start_response(status, headers, *more)
        return response

    return answer


def _length(environ: WSGIEnvironment) -> int | None:
    """Return the length of the body in bytes, or None if it is chunked."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        return None
    try:
        return int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _is_drained(environ: WSGIEnvironment, body: _Body, length: int | None, drain: _Drain) -> bool:
    left = None if length is None else length - body.bytes_read
    if left is not None and left <= 0:
        return True
    most = _MAX_UPLOAD if is_upload(environ) else _MAX_BYTES
    if left is not None and left > most:
        return False
    # A client that waits for "100 Continue" may or may not send the body after a final response, so the connection
    # cannot be reused.
    if not body.bytes_read and environ.get("HTTP_EXPECT", "").lower() == "100-continue":
        return False
    return drain.run(body, most)
