"""The name of a worker or dispatcher process."""

from __future__ import annotations

import os
import socket


def process_name() -> str:
    """Return a name that is unique among live processes: the host name, which each container has for itself, and the
    process id."""
    return f"{socket.gethostname()}-{os.getpid()}"
