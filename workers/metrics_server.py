"""The port of a worker or dispatcher on which it tells how it is: ``METRICS_PORT``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from django.conf import settings
from prometheus_client.exposition import ThreadingWSGIServer

from generation.reports.prometheus import application

logger = logging.getLogger(__name__)


class _Quiet(WSGIRequestHandler):
    #: Seconds that anybody may take to say what they want.
    timeout = 10

    def log_message(self, *_: Any) -> None:
        """Nobody wants a line for each scrape."""


def serve(is_alive: Callable[[], bool] = lambda: True) -> None:
    """Answer ``/metrics`` and ``/healthz`` from now on, in a thread: ``/healthz`` with 503 unless the process
    ``is_alive``. Work goes on where the port is taken."""
    if not settings.METRICS_PORT:
        return
    host, port = settings.METRICS_HOST, settings.METRICS_PORT
    try:
        server = make_server(
            host, port, partial(application, is_alive=is_alive), ThreadingWSGIServer, handler_class=_Quiet
        )
    except OSError as error:
        logger.warning("METRICS_PORT %d cannot be listened on, so this process is not measured: %s", port, error)
        return
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
