"""The product beside what it is measured against, each as its own processes on the same PostgreSQL and Valkey."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg

import tests.servers  # noqa: F401  starts PostgreSQL and Valkey
from benchmarks import rows
from tests.support.stack import Stack, prepared_database, wait_until

_SETTINGS = {
    "WEB_WORKERS": "2",
    # It counts every call, and never says no.
    "SUBMIT_RATE": "100000000/h",
    "QUEUE_PROCESSING_INTERVAL": "3000",
}
# No worker: it would empty the queue that the cases are about.
_PROCESSES = ("web", "dispatcher")


class FloorStack(Stack):
    """The web process of the Procfile with an empty view in place of the product."""

    def __init__(self, folder: Path, **settings: str) -> None:
        super().__init__(folder, **settings)
        self._commands = {"web": self._commands["web"].replace("config.wsgi", "benchmarks.floor")}


@dataclass(frozen=True)
class Stacks:
    """``floor`` serves an empty view, ``empty`` the product without a request, ``full`` the product after a busy day.

    ``database`` is a connection to that of ``full``, and ``empty_database`` to that of ``empty``.
    """

    floor: Stack
    empty: Stack
    full: Stack
    database: psycopg.Connection
    empty_database: psycopg.Connection


@contextlib.contextmanager
def running(folder: Path, *, total: int, queued: int) -> Iterator[Stacks]:
    """Start everything, and stop it when the block ends."""
    with contextlib.ExitStack() as stack:

        def start(kind: type[Stack], name: str, number: int, *processes: str, **settings: Any) -> Stack:
            (folder / name).mkdir()
            redis_url = urlunsplit(urlsplit(os.environ["REDIS_URL"])._replace(path=f"/{number}"))
            made = kind(folder / name, REDIS_URL=redis_url, **_SETTINGS, **settings)
            stack.callback(made.stop_all)
            made.start(*processes)
            return made

        urls = [stack.enter_context(prepared_database()) for _ in range(2)]
        connections = [stack.enter_context(psycopg.connect(url, autocommit=True)) for url in urls]
        stacks = Stacks(
            start(FloorStack, "floor", 1, "web"),
            start(Stack, "empty", 2, *_PROCESSES, DATABASE_URL=urls[0]),
            start(Stack, "full", 3, *_PROCESSES, DATABASE_URL=urls[1]),
            *reversed(connections),
        )
        rows.make(urls[1], total=total, queued=queued)
        for made in (stacks.floor, stacks.empty, stacks.full):
            wait_until(made.answers, seconds=30, what="the web process")
        yield stacks
