"""Request bodies that the application did not read, as when a call without a token is refused.

The server closes a connection with an unread body without telling the client, whose next call on it then fails. So the
rest is read first, within bounds, or the answer says that the connection closes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: The largest rest that is read, in bytes. It is larger than any body that is accepted.
_MOST_BYTES: Final = 4 * 1024 * 1024
_PIECE: Final = 64 * 1024
#: Seconds for which an answer waits for a slow client to send the rest.
_PATIENCE: Final = 2.0
#: Bodies that are drained at once. A client that stops sending occupies a thread until its connection ends.
_AT_ONCE: Final = 8


class _Body:
    """``wsgi.input`` that knows how much of it was read."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        piece: bytes = self._stream.read(size)
        self.taken += len(piece)
        return piece

    def readline(self, size: int = -1) -> bytes:
        line: bytes = self._stream.readline(size)
        self.taken += len(line)
        return line


class _Drain:
    """Reads the rest of bodies in threads of its own, since the server's ``read`` blocks without a time limit."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(_AT_ONCE)

    def ends(self, body: _Body) -> bool:
        """Whether the rest was read within the bounds."""
        if not self._free.acquire(blocking=False):
            return False
        is_read = threading.Event()
        # A daemon, so that a client that stops sending does not hold up the end of the process.
        threading.Thread(target=self._read, args=(body, is_read), name="drain", daemon=True).start()
        return is_read.wait(_PATIENCE)

    def _read(self, body: _Body, is_read: threading.Event) -> None:
        try:
            left = _MOST_BYTES
            while piece := body.read(_PIECE):
                left -= len(piece)
                if left < 0:
                    return
            is_read.set()
        except Exception:  # noqa: S110  whatever the server raises, the connection has ended
            pass
        finally:
            self._free.release()


def drain_unread_bodies(application: WSGIApplication) -> WSGIApplication:
    """Read what the application left of each body, or answer with ``Connection: close``."""
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
        status, headers, *more = started  # Django has called it by now
        if not _is_drained(environ, body, length, drain):
            headers = [*headers, ("Connection", "close")]
        start_response(status, headers, *more)
        return response

    return answer


def _length(environ: WSGIEnvironment) -> int | None:
    """The length of the body, or ``None`` where it comes in chunks."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        return None
    try:
        return int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _is_drained(environ: WSGIEnvironment, body: _Body, length: int | None, drain: _Drain) -> bool:
    left = None if length is None else length - body.taken
    if left is not None and left <= 0:
        return True
    if left is not None and left > _MOST_BYTES:
        return False
    # A client that waits for "100 Continue" may send the body after a final answer, or not, so nothing can follow.
    if not body.taken and environ.get("HTTP_EXPECT", "").lower() == "100-continue":
        return False
    return drain.ends(body)
