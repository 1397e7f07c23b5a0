"""The process that makes the promises true although messages get lost and workers die.

Any number may run: they leave each other's rows alone. It never executes work, so it never waits behind busy workers,
and what concerns the database alone goes on while Redis is away.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from django.conf import settings
from django.db import close_old_connections

from generation.db import counter_checks, counters
from generation.db.functions import Now
from generation.db.outages import log_failure
from generation.models import WorkerProcess
from generation.queue import dispatch
from generation.queue.broker import BrokerUnavailable
from generation.requests import bulk_actions, maintenance
from generation.states import ProcessKind
from generation.telemetry import metrics
from workers.processes import process_name

logger = logging.getLogger(__name__)

#: Seconds without the end of a pass after which the process counts as stuck: longer than any time-out of a statement.
_STUCK_AFTER: Final = 120.0

#: In the order in which a pass does them: first what becomes due by it, last the sending.
STEPS: Final[dict[str, Callable[[], int]]] = {
    "rescued": maintenance.rescue_expired,
    "promoted": maintenance.promote_long_waiting,
    "lost": maintenance.resend_lost_messages,
    "filled": maintenance.fill_batches,
    "bulk": bulk_actions.advance_abandoned,
    "forgotten": maintenance.delete_dead_processes,
    "sent": dispatch.send_due,
    "corrected": counter_checks.correct_lengths,
    "counted": counters.fold,
}


class Liveness:
    """Knows whether a process still gets through its passes."""

    def __init__(self) -> None:
        self._seen_at = time.monotonic()

    def note(self) -> None:
        """Note that a pass has ended."""
        self._seen_at = time.monotonic()

    def __call__(self) -> bool:
        """Return whether a pass ended within ``_STUCK_AFTER`` and two intervals."""
        allowed = _STUCK_AFTER + 2 * settings.QUEUE_PROCESSING_INTERVAL.total_seconds()
        return time.monotonic() - self._seen_at < allowed


def run_once() -> Counter[str]:
    """One pass. Returns how much each step did. A step that fails, in whatever way, leaves the others their turn."""
    done: Counter[str] = Counter()
    begun = time.perf_counter()
    for name, act in STEPS.items():
        try:
            done[name] = act()
        except BrokerUnavailable:
            logger.info("%s has to wait for the broker", name)
        except Exception as error:  # a fault of one step must not stop the sending
            _log_failure(name, error)
            close_old_connections()
    metrics.PASSES.observe(time.perf_counter() - begun)
    for name, count in done.items():
        metrics.DISPATCHER_FOUND.labels(name).inc(count)
    if done["sent"]:
        logger.info("sent %d", done["sent"], extra={"action": "dispatch", "sent": done["sent"]})
    return done


def _log_failure(step: str, error: Exception) -> None:
    log_failure(logger, f"{step} failed", error, extra={"action": "step-failed", "step": step})


def run_forever(stopping: threading.Event, liveness: Liveness | None = None) -> None:
    """A pass every ``QUEUE_PROCESSING_INTERVAL`` until the event is set. An outage is waited out."""
    name = process_name()
    interval = settings.QUEUE_PROCESSING_INTERVAL.total_seconds()
    while not stopping.is_set():
        close_old_connections()
        try:
            WorkerProcess.objects.update_or_create(
                name=name, defaults={"kind": ProcessKind.DISPATCHER, "slots": 0, "seen_at": Now()}
            )
        except Exception as error:  # whatever it is, the next pass tries again
            _log_failure("heartbeat", error)
        else:
            run_once()
        if liveness:
            liveness.note()
        stopping.wait(interval)
