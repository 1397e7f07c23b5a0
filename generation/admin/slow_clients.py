"""Clients that stop reading an answer: the server's thread waits for them without end, so the kernel has to give up."""

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
    """Have the kernel close this server's connections whose clients take nothing for so long (``TCP_USER_TIMEOUT``).

    granian hands an application no socket, so the process looks for the connections to its own port. Elsewhere than on
    Linux nothing is done.
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
    """Return the TCP connections that clients have made to this port of this process."""
    for name in os.listdir(_DESCRIPTORS):
        try:
            duplicate = os.dup(int(name))
        except OSError:
            continue  # closed meanwhile
        try:
            found = socket.socket(fileno=duplicate)
        except OSError:  # no socket
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
