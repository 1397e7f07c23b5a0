"""What an attempt reports: log lines, metrics and the span of its call."""

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

#: The lines of an attempt have one name, whichever module writes them.
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
    """Count the call by its outcome, and measure how long it takes."""
    begun = time.perf_counter()
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
            metrics.CALLS.labels(provider, outcome).observe(time.perf_counter() - begun)
