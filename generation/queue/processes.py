"""Which workers and dispatchers are alive, by their heartbeats."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NamedTuple

from django.conf import settings
from django.db.models import Count, QuerySet, Sum

from generation.caching import ttl_cache
from generation.db.functions import Now
from generation.models import WorkerProcess
from generation.states import ProcessKind

#: Heartbeats that a live process may miss.
_MISSED_HEARTBEATS: Final = 3


class Capacity(NamedTuple):
    """Live worker processes, and the requests that they can have in progress at once."""

    workers: int
    slots: int


def live_processes(kind: str) -> QuerySet[WorkerProcess]:
    """Return the processes of this kind whose heartbeat is fresh."""
    longest: timedelta = settings.HEARTBEAT_INTERVAL * _MISSED_HEARTBEATS
    return WorkerProcess.objects.filter(kind=kind, seen_at__gt=Now() - longest)


def live_workers() -> QuerySet[WorkerProcess]:
    """Return the workers whose heartbeat is fresh."""
    return live_processes(ProcessKind.WORKER)


def live_capacity() -> Capacity:
    """Return the capacity of the live workers."""
    found = live_workers().aggregate(workers=Count("pk"), slots=Sum("slots"))
    return Capacity(found["workers"], found["slots"] or 0)


#: The capacity as of at most 2 s ago.
capacity: Final = ttl_cache(seconds=2)(live_capacity)
