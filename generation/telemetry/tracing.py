"""Traces by OpenTelemetry, off unless an endpoint is set: one trace from the call of the API through the queue and the
worker to the provider. No span has a word of a prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

_SERVICE: Final = "visual-generation"
_tracer: Any = None


def start(kind: str) -> Callable[[], None]:
    """Start sending spans of this process. Return the function that sends the last ones."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    global _tracer
    provider = TracerProvider(resource=Resource.create({"service.name": f"{_SERVICE}-{kind}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer(_SERVICE)
    return provider.shutdown


@contextmanager
def span(name: str, kind: str = "internal", *, parent: str = "", **attributes: Any) -> Iterator[Any]:
    """Open a span during the block, below the span of this thread or below ``parent`` (a ``traceparent``). Yields
    ``None`` if traces are off."""
    if _tracer is None:
        yield None
        return
    with _tracer.start_as_current_span(
        name, context=_context(parent), kind=_kind(kind), attributes=_plain(attributes), record_exception=False
    ) as opened:
        yield opened


def record_wait(name: str, *, parent: str, since: datetime, until: datetime) -> None:
    """Record a span of a past period, such as the wait in the queue."""
    if _tracer is None:
        return
    begun = _tracer.start_span(name, context=_context(parent), start_time=_nanoseconds(since))
    begun.end(_nanoseconds(until))


def traceparent() -> str:
    """Return the ``traceparent`` of this thread's span for another process (W3C Trace Context); empty without one."""
    if _tracer is None:
        return ""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent", "")


def _context(parent: str) -> Any:
    if not parent:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent})


def _kind(name: str) -> Any:
    from opentelemetry.trace import SpanKind

    return SpanKind[name.upper()]


def _plain(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("__", "."): value for name, value in attributes.items()}


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000_000)
