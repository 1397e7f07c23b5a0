"""Log lines, metrics and tracing spans of an attempt."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from generation.requests.claims import Claim
from generation.telemetry import metrics, tracing
from workers.providers.base import ProviderError
from workers.runtime import AttemptCancelled

#: All log lines of an attempt have the same logger name, whichever module writes them.
logger = logging.getLogger("workers.executor")


def fields(action: str, claim: Claim) -> dict[str, Any]:
    """Return the fields of a log line about an attempt."""
    return {"action": action, "request_id": claim.request.pk, "claim": claim.number, "attempt": claim.request.attempts}


def log(action: str, claim: Claim, **more: Any) -> None:
    """Log a step of an attempt."""
    tail = "".join(f" {name}={value}" for name, value in more.items())
    logger.info(
        "%s %s (attempt %d of %d)%s",
        action,
        claim.request.pk,
        claim.request.attempts,
        claim.request.max_attempts,
        tail,
        extra=fields(action, claim) | more,
    )


@contextmanager
def measured(provider: str, model: str) -> Iterator[None]:
    """Measure the duration of a provider call, by its outcome."""
    started = time.perf_counter()
    outcome = "ok"
    with tracing.span(f"provider {provider}", "client", vga__provider=provider, vga__model=model) as span:
        try:
            yield
        except ProviderError as error:
            outcome = error.code
            raise
        except AttemptCancelled:
            outcome = "abandoned"
            raise
        except Exception:
            outcome = "internal"
            raise
        finally:
            if span is not None:
                span.set_attribute("vga.outcome", outcome)
            metrics.CALLS.labels(provider, outcome).observe(time.perf_counter() - started)
