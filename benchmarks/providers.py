"""What a call of a vendor costs on our side: processor time, and the memory of many at once. The vendor is a fake."""

from __future__ import annotations

import contextlib
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg

from benchmarks.floors import Floors
from benchmarks.plan import Plan
from benchmarks.report import Figure
from benchmarks.stacks import numbered_redis, resident
from tests.fakes.control import FakeProvider
from tests.support.stack import Stack, prepared_database, wait_until

_CALLS: Final = 300
_IN_FLIGHT: Final = 200
#: Goals.
_MS: Final = 10.0
_MB: Final = 420.0

#: Submits so many requests.
_SUBMIT: Final = """
from django.contrib.auth.models import User
from generation.requests import lifecycle
draft = lifecycle.Draft(type="cover", prompt="A friendly dragon in a garden", priority="normal")
requests = lifecycle.submit([draft] * {count}, owner=User.objects.get(username="alice"))
"""
#: Runs them one after the other. The time is that of all threads of the process.
_RUN: Final = """
import json, time
from config.startup import settle
from workers import tasks
executor = tasks.executor()
settle()  # as a worker does
taken = []
for request in requests:
    began = time.process_time()
    executor.run(request.pk)
    taken.append((time.process_time() - began) * 1000)
"""
#: The least that a call takes which can be broken off: the SDK's own on the loop of a worker's process, waited for by a
#: thread, to the same vendor.
_BARE: Final = """
from django.conf import settings
from openai import AsyncOpenAI
from generation import event_loop
options = settings.PROVIDER_OPTIONS["openai"]
sdk = AsyncOpenAI(api_key=options["api_key"], base_url=options["base_url"])
bare = []
for _ in range({count}):
    began = time.process_time()
    asked = dict(model="gpt-image-2", prompt="A friendly dragon in a garden", size="1024x1536")
    event_loop.loop.submit(sdk.images.generate(**asked)).result()
    bare.append((time.process_time() - began) * 1000)
print(json.dumps({{"bare": bare, "ours": taken}}))
"""


_LEFT: Final = "SELECT count(*) FROM generation_requests WHERE status <> 'completed'"


@contextlib.contextmanager
def _stack(folder: Path, name: str, number: int, vendor: FakeProvider, **settings: str) -> Iterator[Stack]:
    (folder / name).mkdir()
    with prepared_database() as url:
        stack = Stack(
            folder / name,
            DATABASE_URL=url,
            REDIS_URL=numbered_redis(number),
            PROVIDERS="openai",
            OPENAI_API_KEY="sk-test",
            OPENAI_BASE_URL=vendor.openai_url,
            WEB_WORKERS="2",
            **settings,
        )
        try:
            yield stack
        finally:
            stack.stop_all()


def run(plan: Plan, floors: Floors) -> Iterator[Figure]:
    """Measure everything, one case after the other."""
    with FakeProvider() as vendor:
        calls = plan.size(_CALLS, quick=50)
        plan.say(f"providers: {calls} calls")
        yield from _processor(plan.folder, vendor, calls)
        vendor.reset()
        plan.say(f"providers: {_IN_FLIGHT} calls under way")
        yield _memory(plan.folder, vendor)


def _processor(folder: Path, vendor: FakeProvider, calls: int) -> Iterator[Figure]:
    """From claim to end, with all that is written to the database and the storage; and how much of that is not the
    SDK's call itself."""
    cold = 30  # the first ones open connections and load what is used
    script = _SUBMIT.format(count=calls + cold) + _RUN + _BARE.format(count=calls + cold)
    with _stack(folder, "processor", 10, vendor) as stack:
        printed = stack.manage("shell", "-v0", "-c", script)
    assert vendor.stats().count == 2 * (calls + cold)
    taken: dict[str, list[float]] = json.loads(printed.strip().splitlines()[-1])
    bare, ours = taken["bare"][cold:], taken["ours"][cold:]
    floor = Figure.of_times("floor: processor time of a bare call with OpenAI's SDK", bare)
    yield floor
    yield Figure.of_times("processor time of a call, from claim to end", ours).beside(floor, "SDK")
    added = [milliseconds - statistics.median(bare) for milliseconds in ours]
    yield Figure.of_times("what of it we add to the SDK's own", added).beside(floor, "SDK").hoping(p50=_MS)


def _memory(folder: Path, vendor: FakeProvider) -> Figure:
    vendor.script(default="hold")
    with contextlib.ExitStack() as opened:
        slots = {"MAX_CONCURRENT_REQUESTS": str(_IN_FLIGHT)}
        stack = opened.enter_context(_stack(folder, "memory", 11, vendor, **slots))
        # Before the worker has all the connections that there are.
        database = opened.enter_context(psycopg.connect(stack.env["DATABASE_URL"], autocommit=True))
        stack.manage("shell", "-v0", "-c", _SUBMIT.format(count=_IN_FLIGHT))
        stack.start("worker")
        wait_until(lambda: " ready." in stack.log("worker"), what="the worker")
        idle = Figure("the same without a call", memory=resident(stack.pid("worker")))
        stack.start("dispatcher")
        wait_until(lambda: vendor.stats().active == _IN_FLIGHT, seconds=120, what="all calls under way")
        waiting = resident(stack.pid("worker"))
        vendor.script()
        vendor.release()
        wait_until(lambda: database.execute(_LEFT).fetchone() == (0,), seconds=120, what="all images")
        most = max(waiting, _peak(stack))
    figure = Figure(f"a worker's memory with {_IN_FLIGHT} calls under way, at most", memory=most)
    return figure.beside(idle, "no call").also(f"≤ {_MB:.0f} MB (waiting {waiting:.0f})", met=most <= _MB)


def _peak(stack: Stack) -> float:
    """MB, the most that was ever resident, where the system tells; else what is now."""
    status = Path(f"/proc/{stack.pid('worker')}/status")
    if not status.exists():
        return resident(stack.pid("worker"))
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6
