"""Turns of the attempts of one process: most of them wait for a provider, and of the others few work at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

#: A few, so that one goes on while the others wait for the database. Were there more, all would wait for the
#: interpreter in turns and get done late, where in this way one after the other gets done soon.
AT_ONCE = 4


class AttemptSlots(threading.Semaphore):
    """As a context: one turn, which is waited for."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        super().__init__(at_once)

    @contextmanager
    def released(self) -> Iterator[None]:
        """Somebody else may have this turn meanwhile, and this thread's connection to the database: who waits for a
        turn must not hold what those who have one need."""
        connection.close()
        self.release()
        try:
            yield
        finally:
            self.acquire()
