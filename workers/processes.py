"""The name of a process, and its end."""

from __future__ import annotations

import logging
import os
import socket
import threading
from typing import Final

logger = logging.getLogger(__name__)

#: Seconds that a process which was told to stop waits for a server. It must be less than the grace periods in
#: docker-compose.yml, and more than a deliverer takes for what it is sending.
_LAST_SECONDS: Final = 12.0


def process_name() -> str:
    """Return a name that is unique among live processes: the host name, which each container has for itself, and the
    process id."""
    return f"{socket.gethostname()}-{os.getpid()}"


def end_soon() -> None:
    """End this process in ``_LAST_SECONDS``, if it does not end by itself before. A thread that waits for a server that
    is silent cannot be interrupted, and Python waits for its threads. Call it when nothing is under way that a kill
    would lose."""
    timer = threading.Timer(_LAST_SECONDS, _end)
    timer.daemon = True
    timer.start()


def _end() -> None:
    logger.warning("a server is silent: stopped without waiting for it", extra={"action": "stopped-without-waiting"})
    logging.shutdown()
    os._exit(1)
