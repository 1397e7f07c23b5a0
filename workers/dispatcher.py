"""The dispatcher process, which recovers from lost messages and dead workers and sends due messages.

Any number may run: they skip each other's locked rows. The dispatcher never runs attempts, so it never waits for busy
workers. Steps that need only the database go on while Redis is unavailable.
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
from generation.queue import dispatch, given_estimates
from generation.queue.broker import BrokerUnavailable
from generation.requests import bulk_actions, maintenance
from generation.states import ProcessKind
from generation.telemetry import metrics
from workers.processes import process_name

logger = logging.getLogger(__name__)

#: The process counts as stuck if no pass ends for this number of seconds. Longer than any statement time-out.
_STUCK_AFTER: Final = 120.0

#: The steps of a pass in their order: steps that make rows due come before the sending.
STEPS: Final[dict[str, Callable[[], int]]] = {
    "rescued": maintenance.rescue_expired,
    "promoted": maintenance.promote_long_waiting,
    "unnumbered": maintenance.drop_turns,
    "lost": maintenance.resend_lost_messages,
    "overdue": maintenance.cancel_overdue,
    "unparked": maintenance.advance_parked,
    "filled": maintenance.fill_free_slots,
    "bulk": bulk_actions.advance_abandoned,
    "forgotten": maintenance.delete_dead_processes,
    "sent": dispatch.send_due,
    "corrected": counter_checks.correct_lengths,
    "counted": counters.fold,
    "measured": given_estimates.measure_due,
}


class Liveness:
    """Tracks whether the process still completes its passes."""

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
    """Do one pass. Return the count of each step. A failed step does not prevent the other steps."""
    done: Counter[str] = Counter()
    started = time.perf_counter()
    for name, step in STEPS.items():
        try:
            done[name] = step()
        except BrokerUnavailable:
            logger.info("%s has to wait for the broker", name)
        except Exception as error:  # a failed step must not prevent the sending
            _log_failure(name, error)
            close_old_connections()
    metrics.PASSES.observe(time.perf_counter() - started)
    for name, count in done.items():
        metrics.DISPATCHER_FOUND.labels(name).inc(count)
    if done["sent"]:
        logger.info("sent %d", done["sent"], extra={"action": "dispatch", "sent": done["sent"]})
    return done


def _log_failure(step: str, error: Exception) -> None:
    log_failure(logger, f"{step} failed", error, extra={"action": "step-failed", "step": step})


def run_forever(stopping: threading.Event, liveness: Liveness | None = None) -> None:
    """Do a pass every ``QUEUE_PROCESSING_INTERVAL`` until the event is set. An outage of the database does not end
    it."""
    name = process_name()
    interval = settings.QUEUE_PROCESSING_INTERVAL.total_seconds()
    while not stopping.is_set():
        close_old_connections()
        try:
            WorkerProcess.objects.update_or_create(
                name=name, defaults={"kind": ProcessKind.DISPATCHER, "slots": 0, "seen_at": Now()}
            )
        except Exception as error:  # the next pass tries again
            _log_failure("heartbeat", error)
        else:
            run_once()
        if liveness:
            liveness.note()
        stopping.wait(interval)
