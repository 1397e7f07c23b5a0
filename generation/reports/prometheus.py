"""``/metrics`` as Prometheus reads it: what this process and its siblings counted, and on the web what tables tell."""

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
from generation.models import ProviderState
from generation.providers import circuit_breaker
from generation.queue import broker, processes
from generation.reports import statistics
from generation.states import ProcessKind

logger = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What a scrape gets."""

    status: int
    body: bytes
    headers: dict[str, str]


def answer(authorization: str, *, tables: bool) -> Answer:
    """Whoever asks has the ``METRICS_TOKEN``, where there is one; without one it is for development alone."""
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
    """A little WSGI application for the processes that serve nothing else: ``/metrics``, and ``/healthz``, with 503 for
    a process that is stuck."""
    if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
        found = _plain(405, "Method not allowed")
    elif environ["PATH_INFO"] == "/metrics":
        found = answer(environ.get("HTTP_AUTHORIZATION", ""), tables=False)
    elif environ["PATH_INFO"] == "/healthz":
        found = _plain(200, "ok") if is_alive() else _plain(503, "stuck")
    else:
        found = _plain(404, "Not found")
    start_response(f"{found.status} -", list(found.headers.items()))
    return [found.body]


def _registry(*, tables: bool) -> CollectorRegistry:
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(_Everything(lambda: iter(REGISTRY.collect())))
    if tables:
        registry.register(_Everything(lambda: iter(_tables())))
    return registry


class _Everything(Collector):
    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        return self._collect()


def _tables() -> list[Metric]:
    """What holds for the whole, the same whichever web process is asked. A part that cannot be read is left out."""
    found: list[Metric] = []
    up = GaugeMetricFamily("vga_up", "Whether a server that we need answers", labels=["server"])
    for name, read in {"database": _from_database, "broker": _from_broker}.items():
        try:
            found += read()
        except Exception as error:  # each client raises its own, and the gauge says it
            logger.debug("not measured: %s: %s", name, error)
            up.add_metric([name], 0)
        else:
            up.add_metric([name], 1)
    return [up, *found]


def _from_broker() -> list[Metric]:
    broker.check_broker()
    return [_gauge("vga_broker_messages", "Messages that wait in Redis", broker.waiting_messages())]


def _from_database() -> list[Metric]:
    depth = GaugeMetricFamily("vga_queue_depth", "Requests that wait", labels=["priority"])
    oldest = GaugeMetricFamily("vga_queue_oldest_seconds", "Age of the oldest that waits", labels=["priority"])
    now = timezone.now()
    lengths = counters.lengths()
    for priority, there in statistics.backlog(lengths).items():
        depth.add_metric([priority], there.length)
        oldest.add_metric([priority], max(0.0, (now - there.oldest).total_seconds()) if there.oldest else 0.0)
    live = GaugeMetricFamily("vga_processes", "Processes that report themselves", labels=["kind"])
    for kind in ProcessKind.values:
        live.add_metric([kind], processes.live_processes(kind).count())
    return [
        depth,
        oldest,
        live,
        _gauge("vga_worker_slots", "Requests that can be in progress at once", processes.live_capacity().slots),
        _gauge("vga_requests_in_progress", "Requests in progress", lengths.in_progress),
        _gauge("vga_spent_today_usd", "What the calls of this day (UTC) cost", statistics.spent_today()),
        _breakers(),
    ]


def _breakers() -> Metric:
    opened = {one.provider: one for one in circuit_breaker.open_breakers()}
    family = GaugeMetricFamily(
        "vga_provider_suspended", "1 while a provider is left alone", labels=["provider", "reason"]
    )
    for provider in ProviderState.objects.order_by("provider").values_list("provider", flat=True):
        one = opened.get(provider)
        family.add_metric([provider, one.reason if one else ""], 1 if one else 0)
    return family


def _gauge(name: str, help_: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, help_)
    family.add_metric([], value)
    return family
