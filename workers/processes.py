"""What a process is called where it reports itself."""

from __future__ import annotations

import os
import socket


def process_name() -> str:
    """Unique among the processes that are up: the host, which for a container is its own, and the process id."""
    return f"{socket.gethostname()}-{os.getpid()}"
