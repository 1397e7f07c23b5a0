"""Metrics of each process's own work, for Prometheus. Metrics from tables are in ``generation.reports.prometheus``."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from generation import states
from generation.db.counters import BOUNDS
from generation.models import GenerationRequest
from generation.states import GenerationType, Status, Transition

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

HTTP: Final = Histogram("vga_http_request_seconds", "Calls answered", ["method", "route", "status"], buckets=_SECONDS)
TRANSITIONS: Final = Counter("vga_request_transitions", "Status changes of requests", ["type", "status", "reason"])
WAIT: Final = Histogram("vga_wait_seconds", "Submit to first start", ["priority"], buckets=BOUNDS)
DURATION: Final = Histogram("vga_generation_seconds", "Start to image", ["type"], buckets=BOUNDS)
CALLS: Final = Histogram("vga_provider_call_seconds", "Provider calls", ["provider", "outcome"], buckets=BOUNDS)
COST: Final = Counter("vga_cost_usd", "What calls cost, in US dollars", ["provider"])
DISPATCHER_FOUND: Final = Counter("vga_dispatcher_found", "Rows that a dispatcher sent or repaired", ["step"])
PASSES: Final = Histogram("vga_dispatcher_pass_seconds", "Passes of a dispatcher", buckets=_SECONDS)
WEBHOOK_DELIVERIES: Final = Counter("vga_webhook_deliveries", "Attempts to deliver a webhook", ["outcome"])
WEBHOOK_ATTEMPTS: Final = Histogram("vga_webhook_attempt_seconds", "Webhook sent to answered", buckets=_SECONDS)
CONNECTIONS: Final = Gauge("vga_websocket_connections", "WebSockets that are open", multiprocess_mode="livesum")

for _outcome in ("delivered", "failed"):
    WEBHOOK_DELIVERIES.labels(_outcome)

# Prometheus sees no increase in the first count of a series, so each series exists from the start.
for _edge in states.TRANSITIONS:
    for _type in GenerationType:
        TRANSITIONS.labels(_type, _edge.target, _edge.reason)


def count_transition(request: GenerationRequest, edge: Transition) -> None:
    """Count a status change; for a first start and an end also observe the time until then."""
    TRANSITIONS.labels(request.type, edge.target, edge.reason).inc()
    if edge.target == Status.IN_PROGRESS and request.claims == 1:
        _observe(WAIT.labels(request.priority), request.created_at, request.started_at)
    elif edge.target == Status.COMPLETED:
        _observe(DURATION.labels(request.type), request.started_at, request.completed_at)


def _observe(histogram: Histogram, since: datetime | None, until: datetime | None) -> None:
    # A row that was just inserted has times that only the database knows.
    if isinstance(since, datetime) and isinstance(until, datetime):
        histogram.observe(max(0.0, (until - since).total_seconds()))
