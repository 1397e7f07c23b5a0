"""The process that makes the promises true although messages get lost: it sends what has not been sent.

Any number may run. It never executes work, so it never waits behind busy workers.
"""

from __future__ import annotations

import logging
import threading

from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections

from generation import dispatch

logger = logging.getLogger(__name__)


def run_once() -> int:
    """One pass. Returns how many messages were sent."""
    try:
        room = settings.DISPATCH_WINDOW - dispatch.waiting_messages()
    except Exception as error:  # kombu, redis-py and the socket each raise their own
        logger.warning("the broker is not reachable, nothing is sent: %s", error)
        return 0
    if room <= 0:
        return 0
    filled = sum(dispatch.fill_batch(batch_id) for batch_id in dispatch.batches_to_fill(limit=room))
    due = dispatch.take_due(room)
    sent = dispatch.send(due)
    if due:
        logger.info("sent %d of %d", sent, len(due), extra={"action": "dispatch", "sent": sent})
    return filled + sent


def run_forever(stopping: threading.Event) -> None:
    """A pass every ``QUEUE_PROCESSING_INTERVAL`` until the event is set. An outage is waited out."""
    interval = settings.QUEUE_PROCESSING_INTERVAL.total_seconds()
    while not stopping.is_set():
        try:
            close_old_connections()
            run_once()
        except (DatabaseError, InterfaceError) as error:
            logger.warning("the database is not reachable: %s", error)
        stopping.wait(interval)
