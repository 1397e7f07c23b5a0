"""Liveness and readiness endpoints for load balancers and monitoring, without authentication."""

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
    """Return True if the database accepts writes: after a failover the address may still lead to a standby."""
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


#: Checked in this order: workers report themselves in the database, so "worker" needs "database".
_CHECKS: Final[dict[str, Callable[[], bool]]] = {"database": _database, "broker": _broker, "worker": _worker}


@api_view(["GET", "HEAD"])
@authentication_classes([])
@permission_classes([])
def healthz(request: Request) -> Response:
    """GET /healthz: return 200 while this process runs; check nothing else."""
    return Response({"status": "ok"})


@api_view(["GET", "HEAD"])
@authentication_classes([])
@permission_classes([])
def readyz(request: Request) -> Response:
    """GET /readyz: check the database, the broker and at least one worker by name; return 503 if one fails."""
    results: dict[str, str] = {}
    for name, check in _CHECKS.items():
        if name == "worker" and results["database"] == "unreachable":
            results[name] = "unreachable"  # skip a second connection attempt, so that the probe is not slow
            continue
        try:
            results[name] = "ok" if check() else "missing"
        except Exception as error:  # any error means that the check failed
            logger.warning("not ready: %s: %s", name, error)
            results[name] = "unreachable"
    ready = set(results.values()) == {"ok"}
    return Response({"status": "ok" if ready else "unavailable", "checks": results}, status=200 if ready else 503)
