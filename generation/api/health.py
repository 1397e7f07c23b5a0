"""Whether the process is up, and whether the whole can do its work. For machines, so without a token."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from django.db import connection
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response

from generation.db.outages import DatabaseUnavailableError
from generation.queue import broker, processes

logger = logging.getLogger(__name__)


def _database() -> bool:
    """Whether it takes writes: after a failover the address may still lead to a standby."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW transaction_read_only")
        if cursor.fetchone() != ("off",):
            raise DatabaseUnavailableError("the database is read-only")
    return True


def _broker() -> bool:
    broker.check_broker()
    return True


def _worker() -> bool:
    return processes.live_workers().exists()


#: In this order. Workers report themselves in the database.
_CHECKS: Final[dict[str, Callable[[], bool]]] = {"database": _database, "broker": _broker, "worker": _worker}


@api_view(["GET", "HEAD"])
@authentication_classes([])
@permission_classes([])
def healthz(request: Request) -> Response:
    """GET /healthz: this process answers."""
    return Response({"status": "ok"})


@api_view(["GET", "HEAD"])
@authentication_classes([])
@permission_classes([])
def readyz(request: Request) -> Response:
    """GET /readyz: the database, the broker and at least one worker, each by name; 503 where one is missing."""
    found: dict[str, str] = {}
    for name, check in _CHECKS.items():
        if name == "worker" and found["database"] == "unreachable":
            found[name] = "unreachable"  # a probe does not wait for a second connection that does not come
            continue
        try:
            found[name] = "ok" if check() else "missing"
        except Exception as error:  # whatever it is, the answer is that it cannot be reached
            logger.warning("not ready: %s: %s", name, error)
            found[name] = "unreachable"
    ready = set(found.values()) == {"ok"}
    return Response({"status": "ok" if ready else "unavailable", "checks": found}, status=200 if ready else 503)
