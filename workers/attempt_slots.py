"""A semaphore for the attempts of one process: most wait for a provider, and only a few of the others run at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

#: A few, so that one attempt runs while the others wait for the database. With more, all would compete for the
#: interpreter and all would end late, while with a few each ends soon after the other.
AT_ONCE = 4


class AttemptSlots(threading.Semaphore):
    """A semaphore whose context holds one slot."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        super().__init__(at_once)

    @contextmanager
    def released(self) -> Iterator[None]:
        """Release the slot and this thread's database connection while the context blocks on I/O. Attempts that wait
        for a slot must hold no connection, since those with a slot need one."""
        connection.close()
        self.release()
        try:
            yield
        finally:
            self.acquire()
