"""``/metrics`` in Prometheus's format: counters of this server's processes, and on the web gauges of the tables."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple
from wsgiref.types import StartResponse, WSGIEnvironment

from django.conf import settings
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from generation.db import counters
from generation.models import ProviderState, WebhookDelivery
from generation.providers import circuit_breaker
from generation.queue import broker, forecasts, given_estimates, processes
from generation.reports import statistics
from generation.states import DeliveryState, ProcessKind

logger = logging.getLogger(__name__)


class Answer(NamedTuple):
    """The response to a scrape."""

    status: int
    body: bytes
    headers: dict[str, str]


def answer(authorization: str, *, tables: bool) -> Answer:
    """Return the metrics, if the caller sent ``METRICS_TOKEN``. Without a configured token only with ``DEBUG``."""
    if not settings.ENABLE_METRICS:
        return _plain(404, "Metrics are off")
    if settings.METRICS_TOKEN:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not constant_time_compare(token.strip(), settings.METRICS_TOKEN):
            return _plain(401, "Access denied", {"WWW-Authenticate": "Bearer"})
    elif not settings.DEBUG:
        return _plain(403, "Set METRICS_TOKEN")
    return Answer(200, generate_latest(_registry(tables=tables)), {"Content-Type": CONTENT_TYPE_LATEST})


def _plain(status: int, text: str, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, f"{text}\n".encode(), {"Content-Type": "text/plain; charset=utf-8"} | (headers or {}))


def application(
    environ: WSGIEnvironment, start_response: StartResponse, is_alive: Callable[[], bool] = lambda: True
) -> Iterable[bytes]:
    """WSGI application for processes without a web server: ``/metrics``, and ``/healthz`` with 503 if stuck."""
    if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
        response = _plain(405, "Method not allowed")
    elif environ["PATH_INFO"] == "/metrics":
        response = answer(environ.get("HTTP_AUTHORIZATION", ""), tables=False)
    elif environ["PATH_INFO"] == "/healthz":
        response = _plain(200, "ok") if is_alive() else _plain(503, "stuck")
    else:
        response = _plain(404, "Not found")
    start_response(f"{response.status} -", list(response.headers.items()))
    return [response.body]


def _registry(*, tables: bool) -> CollectorRegistry:
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(_FunctionCollector(lambda: iter(REGISTRY.collect())))
    if tables:
        registry.register(_FunctionCollector(lambda: iter(_tables())))
    return registry


class _FunctionCollector(Collector):
    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        return self._collect()


def _tables() -> list[Metric]:
    """Return the gauges of the whole installation, the same in each web process. Unreadable parts are omitted."""
    gauges: list[Metric] = []
    up = GaugeMetricFamily("vga_up", "Whether a required server responds", labels=["server"])
    for name, read in {"database": _from_database, "broker": _from_broker}.items():
        try:
            gauges += read()
        except Exception as error:  # the clients raise different errors, and vga_up reports all of them
            logger.debug("not measured: %s: %s", name, error)
            up.add_metric([name], 0)
        else:
            up.add_metric([name], 1)
    return [up, *gauges]


def _from_broker() -> list[Metric]:
    broker.check_broker()
    return [_gauge("vga_broker_messages", "Messages waiting in Redis", broker.waiting_messages())]


def _from_database() -> list[Metric]:
    depth = GaugeMetricFamily("vga_queue_depth", "Queued requests", labels=["priority"])
    oldest = GaugeMetricFamily("vga_queue_oldest_seconds", "Age of the oldest queued request", labels=["priority"])
    now = timezone.now()
    lengths = counters.lengths()
    for priority, waiting in statistics.backlog(lengths).items():
        depth.add_metric([priority], waiting.length)
        oldest.add_metric([priority], max(0.0, (now - waiting.oldest).total_seconds()) if waiting.oldest else 0.0)
    live = GaugeMetricFamily("vga_processes", "Processes with a fresh heartbeat", labels=["kind"])
    for kind in ProcessKind.values:
        live.add_metric([kind], processes.live_processes(kind).count())
    return [
        depth,
        oldest,
        live,
        _gauge("vga_worker_slots", "Requests that can be in progress at once", processes.live_capacity().slots),
        _gauge("vga_requests_in_progress", "Requests in progress", lengths.in_progress),
        _gauge("vga_webhooks_pending", "Webhook deliveries that have not ended", _pending_webhooks()),
        _gauge("vga_spent_today_usd", "Cost of the provider calls of this day (UTC)", statistics.spent_today()),
        _breakers(),
        *_estimates(),
    ]


def _estimates() -> list[Metric]:
    """Return how well the last estimates were met; nothing before requests had to wait."""
    found = forecasts.accuracy(given_estimates.measured())
    if found is None:
        return []
    covered = GaugeMetricFamily(
        "vga_estimate_covered", "Share of the last measured requests that started before the quantile", labels=["q"]
    )
    covered.add_metric(["p50"], found.covered_p50)
    covered.add_metric(["p90"], found.covered_p90)
    return [covered, _gauge("vga_estimate_error", "Median relative error of startP50", found.error)]


def _pending_webhooks() -> int:
    return WebhookDelivery.objects.filter(state=DeliveryState.PENDING).count()


def _breakers() -> Metric:
    breakers = {breaker.provider: breaker for breaker in circuit_breaker.open_breakers()}
    family = GaugeMetricFamily(
        "vga_provider_suspended", "1 while a provider is suspended", labels=["provider", "reason"]
    )
    for provider in ProviderState.objects.order_by("provider").values_list("provider", flat=True):
        breaker = breakers.get(provider)
        family.add_metric([provider, breaker.reason if breaker else ""], 1 if breaker else 0)
    return family


def _gauge(name: str, help_: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, help_)
    family.add_metric([], value)
    return family
