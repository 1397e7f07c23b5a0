"""Turns of the attempts of one process: most of them wait for a provider, and of the others few work at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

#: A few, so that one goes on while the others wait for the database. Were there more, all would wait for the
#: interpreter in turns and get done late, where in this way one after the other gets done soon.
AT_ONCE = 4


class Turns:
    """As a context: one turn, which is waited for."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._free = threading.Semaphore(at_once)

    def __enter__(self) -> Self:
        self._free.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._free.release()

    @contextmanager
    def left(self) -> Iterator[None]:
        """Somebody else may have this turn meanwhile: what is waited for now takes neither processor nor database."""
        self._free.release()
        try:
            yield
        finally:
            self._free.acquire()
