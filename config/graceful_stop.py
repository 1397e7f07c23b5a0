"""Stop the web server in two steps, so that no call fails in a rolling restart.

On SIGTERM granian closes its listening socket at once. The kernel then resets all connections that wait to be accepted,
and granian closes those from which it has read nothing yet. A proxy has sent its call by then, and may not repeat a
POST. So each worker process first has the kernel refuse new connections, which a proxy sends to another replica, and
serves until the last connection has ended. Only then does it pass the signal on to granian.

Linux only, as are containers. Elsewhere, and if the kernel does not allow it, granian stops at once.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: Seconds to serve while new connections are refused. Only connections that a client keeps open without using them, and
#: calls that take longer, remain at the end. Those calls are answered too: granian waits for them.
_PATIENCE: Final = 5.0
_POLL_SECONDS: Final = 0.02
#: From <asm-generic/socket.h>, Linux 5.0; Python has no name for it before 3.14. Needs no privilege since Linux 5.7.
_SO_BINDTOIFINDEX: Final = 62
#: An index that no network interface has. The kernel does not look for the interface.
_NO_INTERFACE: Final = 2**31 - 1
#: States in /proc/net/tcp of a connection on which a call may come or is being answered.
_OPEN: Final = {"01": "ESTABLISHED", "03": "SYN_RECV", "08": "CLOSE_WAIT"}

_stopping = threading.Event()


def stop_in_two_steps() -> None:
    """Take over SIGTERM from granian. Call it in the main thread of a worker process before it starts other threads.

    The signal is blocked in every thread, as each inherits the mask, and one thread waits for it. granian sets its own
    handler later, which that thread calls.
    """
    inherited = signal.getsignal(signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_wait_and_stop, args=(inherited,), name="stop", daemon=True).start()


def ending_connections(application: WSGIApplication) -> WSGIApplication:
    """Answer with ``Connection: close`` while the process stops, so that clients close idle connections."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not _stopping.is_set():
            return application(environ, start_response)

        def start_and_close(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            others = [header for header in headers if header[0].lower() != "connection"]
            return start_response(status, [*others, ("Connection", "close")], *more)

        return application(environ, start_and_close)

    return answer


def _wait_and_stop(inherited: Any) -> None:
    signal.sigwait({signal.SIGTERM})
    # A signal during the start stays pending until granian has set its handler.
    while not callable(handler := signal.getsignal(signal.SIGTERM)) or handler == inherited:
        time.sleep(_POLL_SECONDS)
    _stopping.set()
    try:
        _serve_the_rest()
    except OSError:
        logging.getLogger(__name__).warning("New connections cannot be refused before the stop", exc_info=True)
    finally:
        handler(signal.SIGTERM, None)


def _serve_the_rest() -> None:
    """Refuse new connections, and return when all others have ended or the time is over."""
    deadline = time.monotonic() + _PATIENCE
    addresses = []
    for listener in _listeners():
        # From now on no packet reaches it; connections in its queue stay.
        listener.setsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, _NO_INTERFACE)
        addresses.append((listener.family, listener.getsockname()))
    # The processes of one server share the port, and the kernel deals connections to all of them until the last of
    # them refuses. So it is asked for a connection.
    while time.monotonic() < deadline and any(
        _is_offered(family, address) or _has_connections(address[1]) for family, address in addresses
    ):
        time.sleep(_POLL_SECONDS)


def _listeners() -> Iterator[socket.socket]:
    """Yield the listening TCP sockets of this process. Each is valid until the next one is requested."""
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # no socket, or closed meanwhile
            candidate = socket.socket(fileno=int(entry))
            try:
                is_tcp = candidate.family in {socket.AF_INET, socket.AF_INET6} and candidate.type == socket.SOCK_STREAM
                if is_tcp and candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    yield candidate
            finally:
                candidate.detach()  # it belongs to granian


def _is_offered(family: int, address: tuple[Any, ...]) -> bool:
    """Return whether a new connection is accepted at this address; 0.0.0.0 and :: mean loopback."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(_POLL_SECONDS)
        return probe.connect_ex(address) != errno.ECONNREFUSED


def _has_connections(port: int) -> bool:
    """Return whether a client has a connection to this port, accepted or not."""
    ours = f"{port:04X}"
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state in _OPEN and local.endswith(f":{ours}"):
                    return True
    return False
