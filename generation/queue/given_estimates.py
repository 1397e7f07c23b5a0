"""A sample of the estimates that clients were given, measured to correct later ones and to tell how good they are."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

from django.db import Error, transaction

from generation.caching import ttl_cache
from generation.db import queries
from generation.db.execution import fetch_all, fetch_one
from generation.models import GivenEstimate
from generation.queue import forecasts
from generation.queue.forecasts import Factors, Measured, Start

logger = logging.getLogger(__name__)

#: A process writes at most this number of rows each so many seconds.
_MOST: Final = 10
_INTERVAL: Final = 1.0
#: Open estimates that are looked at, and measured ones that are kept and used.
_OPEN: Final = 2_000
_KEPT: Final = 1_000
_USED: Final = 500
#: Seconds between two measurements, and for which a process caches them.
_MEASURE_EVERY: Final = 10.0
_LIFETIME: Final = 15


class Given(NamedTuple):
    """The estimate of a request at its submit."""

    request_id: str
    at: datetime
    estimated: Start
    given: Start


class _Sample:
    """The estimates to write next. The first one of an interval is written at once, the others with the next one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Given] = []
        self._written_at = float("-inf")

    def add(self, given: Sequence[Given]) -> list[Given]:
        """Add estimates, as far as there is room. Return those to write now."""
        with self._lock:
            self._waiting += given[: _MOST - len(self._waiting)]
            if time.monotonic() < self._written_at + _INTERVAL:
                return []
            self._written_at = time.monotonic()
            due, self._waiting = self._waiting, []
            return due


_sample: Final = _Sample()


def spread(count: int) -> range:
    """Return the indexes of the requests of a batch whose estimates are kept: at most ten, spread over the batch."""
    step = -(-count // _MOST)
    return range(step // 2, count, step)


def note(given: Sequence[Given]) -> None:
    """Keep estimates after the commit of the submit, best effort."""
    if given:
        transaction.on_commit(partial(_write, given), robust=True)


def _write(given: Sequence[Given]) -> None:
    rows = [
        GivenEstimate(
            request_id=one.request_id,
            estimated_p50=one.estimated.p50,
            estimated_p90=one.estimated.p90,
            given_p50=one.given.p50,
            given_p90=one.given.p90,
            given_at=one.at,
        )
        for one in _sample.add(given)
    ]
    if not rows:
        return
    try:
        GivenEstimate.objects.bulk_create(rows, ignore_conflicts=True)
    except Error as error:  # a sample may be lost
        logger.debug("estimates are not kept: %s", error)


class _Pace:
    """When the estimates were last measured by this process."""

    def __init__(self) -> None:
        self._next = float("-inf")

    def is_due(self) -> bool:
        """Return whether it is time again, and start the next interval if it is."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + _MEASURE_EVERY
        return True


_pace: Final = _Pace()


def measure_due() -> int:
    """Measure the kept estimates, every few seconds. Return the number of those that were measured."""
    return measure() if _pace.is_due() else 0


def measure() -> int:
    """Measure the kept estimates whose requests have started, and delete what is not needed."""
    row = fetch_one(queries.MEASURE, {"most": _OPEN, "kept": _KEPT})
    return int(row[0]) if row else 0


@ttl_cache(seconds=_LIFETIME)
def measured() -> list[Measured]:
    """Return the newest measured estimates, cached for seconds."""
    return [
        Measured(Start(*row[0:2]), Start(*row[2:4]), row[4]) for row in fetch_all(queries.MEASURED, {"newest": _USED})
    ]


@ttl_cache(seconds=_LIFETIME)
def factors() -> Factors:
    """Return the factors that correct estimates now."""
    return forecasts.factors(measured())
