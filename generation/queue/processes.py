"""Live workers and dispatchers, by their heartbeats."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NamedTuple

from django.conf import settings
from django.db.models import Count, Q, QuerySet, Sum

from generation.caching import ttl_cache
from generation.db.functions import Now
from generation.models import WorkerProcess
from generation.states import ProcessKind

#: Heartbeats that a live process may miss.
_MISSED_HEARTBEATS: Final = 3


class Capacity(NamedTuple):
    """Number of live worker processes, of requests that they can have in progress at once, and of dispatchers."""

    workers: int
    slots: int
    dispatchers: int = 0


def live_processes(*kinds: str) -> QuerySet[WorkerProcess]:
    """Return the processes of these kinds whose last heartbeat is recent."""
    max_age: timedelta = settings.HEARTBEAT_INTERVAL * _MISSED_HEARTBEATS
    return WorkerProcess.objects.filter(kind__in=kinds, seen_at__gt=Now() - max_age)


def live_workers() -> QuerySet[WorkerProcess]:
    """Return the workers whose last heartbeat is recent."""
    return live_processes(ProcessKind.WORKER)


def live_capacity() -> Capacity:
    """Return the capacity of the live workers."""
    is_worker, is_dispatcher = Q(kind=ProcessKind.WORKER), Q(kind=ProcessKind.DISPATCHER)
    totals = live_processes(ProcessKind.WORKER, ProcessKind.DISPATCHER).aggregate(
        workers=Count("pk", filter=is_worker),
        slots=Sum("slots", filter=is_worker),
        dispatchers=Count("pk", filter=is_dispatcher),
    )
    return Capacity(totals["workers"], totals["slots"] or 0, totals["dispatchers"])


#: The capacity, at most 2 s old.
capacity: Final = ttl_cache(seconds=2)(live_capacity)
