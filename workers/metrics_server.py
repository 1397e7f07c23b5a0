"""Metrics and health of a worker or dispatcher over HTTP, on ``METRICS_PORT``."""

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


class _Handler(WSGIRequestHandler):
    #: Seconds in which a client has to send its request.
    timeout = 10

    def log_message(self, *_: Any) -> None:
        """Do not log a line for each scrape."""


def serve(is_alive: Callable[[], bool] = lambda: True) -> None:
    """Start a thread that serves ``/metrics`` and ``/healthz``, the latter with 503 unless the process ``is_alive``. If
    the port is not available, log that and return."""
    if not settings.METRICS_PORT:
        return
    host, port = settings.METRICS_HOST, settings.METRICS_PORT
    try:
        server = make_server(
            host, port, partial(application, is_alive=is_alive), ThreadingWSGIServer, handler_class=_Handler
        )
    except OSError as error:
        logger.warning("cannot listen on METRICS_PORT %d, so this process has no metrics: %s", port, error)
        return
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
