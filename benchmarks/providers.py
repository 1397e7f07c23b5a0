"""What a call of a vendor costs on our side: processor time, and the memory of many at once. The vendor is a fake."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import psycopg

from benchmarks.report import Figure
from tests.fakes.control import FakeProvider
from tests.support.stack import Stack, prepared_database, wait_until

_CALLS: Final = 300
_IN_FLIGHT: Final = 200
_MIB: Final = 2**20

#: Submits so many requests.
_SUBMIT: Final = """
from django.contrib.auth.models import User
from generation import lifecycle
draft = lifecycle.Draft(type="cover", prompt="A friendly dragon in a garden", priority="normal")
requests = lifecycle.submit([draft] * {count}, owner=User.objects.get(username="alice"))
"""
#: Runs them one after the other. The time is that of all threads of the process.
_RUN: Final = """
import json, time
from workers import tasks
executor = tasks.executor()
taken = []
for request in requests:
    began = time.process_time()
    executor.run(request.pk)
    taken.append((time.process_time() - began) * 1000)
print(json.dumps(taken))
"""


_LEFT: Final = "SELECT count(*) FROM generation_requests WHERE status <> 'completed'"


@contextlib.contextmanager
def _stack(folder: Path, name: str, number: int, vendor: FakeProvider, **settings: str) -> Iterator[Stack]:
    (folder / name).mkdir()
    redis_url = urlunsplit(urlsplit(os.environ["REDIS_URL"])._replace(path=f"/{number}"))
    with prepared_database() as url:
        stack = Stack(
            folder / name,
            DATABASE_URL=url,
            REDIS_URL=redis_url,
            PROVIDERS="openai",
            OPENAI_API_KEY="sk-test",
            OPENAI_BASE_URL=vendor.openai_url,
            **settings,
        )
        try:
            yield stack
        finally:
            stack.stop_all()


def run(folder: Path, say: Callable[[str], None]) -> Iterator[Figure]:
    """Measure everything, one case after the other."""
    with FakeProvider() as vendor:
        say(f"providers: {_CALLS} calls")
        yield _processor(folder, vendor)
        vendor.reset()
        say(f"providers: {_IN_FLIGHT} calls under way")
        yield _memory(folder, vendor)


def _processor(folder: Path, vendor: FakeProvider) -> Figure:
    """From claim to end, with all that is written to the database and the storage."""
    cold = 30  # the first ones open connections and load what is used
    with _stack(folder, "processor", 10, vendor) as stack:
        printed = stack.manage("shell", "-v0", "-c", _SUBMIT.format(count=_CALLS + cold) + _RUN)
    assert vendor.stats().count == _CALLS + cold
    taken = json.loads(printed.strip().splitlines()[-1])[cold:]
    return Figure.of_times("processor time of a call, from claim to end", taken, p50=10)


def _memory(folder: Path, vendor: FakeProvider) -> Figure:
    vendor.script(default="hold")
    with contextlib.ExitStack() as opened:
        slots = {"MAX_CONCURRENT_REQUESTS": str(_IN_FLIGHT)}
        stack = opened.enter_context(_stack(folder, "memory", 11, vendor, **slots))
        # Before the worker has all the connections that there are.
        database = opened.enter_context(psycopg.connect(stack.env["DATABASE_URL"], autocommit=True))
        stack.manage("shell", "-v0", "-c", _SUBMIT.format(count=_IN_FLIGHT))
        stack.start("dispatcher", "worker")
        wait_until(lambda: vendor.stats().active == _IN_FLIGHT, seconds=120, what="all calls under way")
        waiting = _resident(stack)
        vendor.script()
        vendor.release()
        wait_until(lambda: database.execute(_LEFT).fetchone() == (0,), seconds=120, what="all pictures")
        most = max(waiting, _peak(stack))
    goal = f"≤ 400 MiB (waiting {waiting / _MIB:.0f}, at most {most / _MIB:.0f})"
    return Figure(f"a worker's memory with {_IN_FLIGHT} calls under way", goal, most <= 400 * _MIB)


def _resident(stack: Stack) -> int:
    command = ["ps", "-o", "rss=", "-p", str(stack.pid("worker"))]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) * 1024


def _peak(stack: Stack) -> int:
    """The most that was ever resident, where the system tells; else what is now."""
    status = Path(f"/proc/{stack.pid('worker')}/status")
    if not status.exists():
        return _resident(stack)
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
