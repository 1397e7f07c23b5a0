"""Disconnect clients that stop reading a response: the server's thread would wait forever, so the kernel times out."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

_DESCRIPTORS: Final = Path("/proc/self/fd")


def drop_stalled(environ: Mapping[str, Any], *, after_ms: int) -> None:
    """Set ``TCP_USER_TIMEOUT``: the kernel closes connections whose clients accept no data for this time.

    granian does not pass the socket to the application, so it is set on all connections to the process's port. Does
    nothing on systems other than Linux.
    """
    if sys.platform != "linux":
        return
    try:
        port = int(environ.get("SERVER_PORT", ""))
    except ValueError:
        return
    for connection in _connections(port):
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, after_ms)


def _connections(port: int) -> Iterator[socket.socket]:
    """Yield the TCP connections of clients to this port of this process."""
    for name in os.listdir(_DESCRIPTORS):
        try:
            duplicate = os.dup(int(name))
        except OSError:
            continue  # closed meanwhile
        try:
            found = socket.socket(fileno=duplicate)
        except OSError:  # not a socket
            os.close(duplicate)
            continue
        with found:
            if _is_client(found, port):
                yield found


def _is_client(found: socket.socket, port: int) -> bool:
    if found.family not in {socket.AF_INET, socket.AF_INET6} or found.type != socket.SOCK_STREAM:
        return False
    try:
        found.getpeername()
        return bool(found.getsockname()[1] == port)
    except OSError:
        return False
