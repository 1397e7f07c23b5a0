"""The product beside what it is measured against, each as its own processes on the same PostgreSQL and Valkey."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit, urlunsplit

import psycopg

import tests.servers  # noqa: F401  starts PostgreSQL and Valkey
from benchmarks import rows
from benchmarks.peer import RunningPeer
from benchmarks.plan import Plan
from config.local.parent_death import ending_with_this
from tests.support.preloaded import ForkedProcess
from tests.support.stack import ROOT, Stack, prepared_database, wait_until

API: Final = "/api/visual-generation"

SETTINGS = {
    "WEB_WORKERS": "2",
    # It counts every call, and never says no.
    "SUBMIT_RATE": "100000000/h",
    "QUEUE_PROCESSING_INTERVAL": "3000",
}
# No worker: it would empty the queue that the cases are about.
_PROCESSES = ("web", "dispatcher")


class FreshStack(Stack):
    """A stack whose processes start as in production. The tests fork theirs from a process that has imported the
    libraries, so those start sooner, and share memory that real ones do not."""

    def start(self, *names: str, **settings: str) -> None:
        """Start the processes, which end with this one at the latest."""
        for name in names:
            command = self._commands[name.partition(":")[0]]
            with (self.logs / f"{name}.log").open("ab") as log:
                process = subprocess.Popen(
                    ["/bin/sh", "-c", command],
                    cwd=ROOT,
                    env=self.env | settings,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=ending_with_this(),
                )
            self._running[name] = cast("ForkedProcess", process)  # of which it has all that is used


class FloorStack(FreshStack):
    """The web process of the Procfile with an empty view in place of the product."""

    def __init__(self, folder: Path, **settings: str) -> None:
        super().__init__(folder, **settings)
        self._commands = {"web": self._commands["web"].replace("config.wsgi", "benchmarks.floor")}


def bare_worker(command: str) -> str:
    """The worker's command for an app that knows nothing of ours."""
    return command.replace("--app config", "--app benchmarks.bare").replace(" worker ", " worker --pool threads ")


@dataclass(frozen=True)
class Stacks:
    """``floor`` serves an empty view, ``empty`` the product without a request, ``full`` the product after a busy day.

    ``database`` is a connection to that of ``full``, and ``empty_database`` to that of ``empty``. The ``peer`` has no
    request, and the ``full_peer`` has as many queued as ``full``.
    """

    floor: Stack
    empty: Stack
    full: Stack
    database: psycopg.Connection
    empty_database: psycopg.Connection
    peer: RunningPeer | None
    full_peer: RunningPeer | None


def new_log(stack: Stack, name: str, start: int = 0) -> str:
    """Return what a process has written from this character on; nothing while its log does not exist yet."""
    path = stack.logs / f"{name}.log"
    return path.read_text()[start:] if path.exists() else ""


def numbered_redis(number: int) -> str:
    """The address of a database of its own in the Redis that there is."""
    return urlunsplit(urlsplit(os.environ["REDIS_URL"])._replace(path=f"/{number}"))


def bearer(stack: Stack, name: str) -> dict[str, str]:
    """Return the authorization header of a user."""
    with stack.client(name) as client:
        return {"Authorization": client.headers["Authorization"]}


def resident(pid: int) -> float:
    """MB of memory that a process has."""
    command = ["ps", "-o", "rss=", "-p", str(pid)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) * 1024 / 1e6


@contextlib.contextmanager
def running(plan: Plan) -> Iterator[Stacks]:
    """Start everything, and stop it when the block ends."""
    with contextlib.ExitStack() as stack:

        def start(kind: type[Stack], name: str, number: int, *processes: str, **settings: Any) -> Stack:
            folder = plan.folder / name
            folder.mkdir()
            made = kind(folder, REDIS_URL=numbered_redis(number), **SETTINGS, **settings)
            stack.callback(made.stop_all)
            made.start(*processes)
            return made

        urls = [stack.enter_context(prepared_database()) for _ in range(2)]
        connections = [stack.enter_context(psycopg.connect(url, autocommit=True)) for url in urls]
        rows.make(urls[1], total=plan.requests, queued=plan.queued)
        stacks = Stacks(
            start(FloorStack, "floor", 1, "web"),
            start(FreshStack, "empty", 2, *_PROCESSES, DATABASE_URL=urls[0]),
            start(FreshStack, "full", 3, *_PROCESSES, DATABASE_URL=urls[1]),
            connections[1],
            connections[0],
            *((stack.enter_context(plan.peer.running()) if plan.peer else None) for _ in range(2)),
        )
        stacks.full.manage("check_counters", "--fix")
        if stacks.full_peer:
            stacks.full_peer.fill(plan.queued)
        for made in (stacks.floor, stacks.empty, stacks.full):
            wait_until(made.answers, seconds=30, what="the web process")
        yield stacks
