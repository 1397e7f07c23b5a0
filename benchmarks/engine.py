"""What the engine costs: from a submit to the provider's call, requests in a second, slots in use, recovery, memory."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Final

import httpx2

from benchmarks import jobs
from benchmarks.engines import BODY, engine
from benchmarks.floors import Floors
from benchmarks.plan import Plan
from benchmarks.report import Figure
from tests.fakes.control import FakeProvider
from tests.support.stack import wait_until

#: The first ones open connections.
_COLD: Final = 20


def run(plan: Plan, floors: Floors) -> Iterator[Figure]:
    """Measure everything, one case after the other."""
    plan.say("engine: from submit to call")
    theirs = _peers_submit_to_start(plan)
    if theirs:
        yield theirs.beside(floors.publish, "publish")
    yield _submit_to_call(plan).beside(floors.publish, "publish", peer=theirs).hoping(p50=12, p99=40)
    yield from jobs.run(plan)
    plan.say("engine: a dispatcher with nothing to do")
    yield _idle_pass(plan).beside(floors.insert, "INSERT").hoping(p50=20)
    plan.say("engine: an emptied Redis")
    yield _emptied(plan).beside(floors.publish, "publish")


def _submit_to_call(plan: Plan) -> Figure:
    """The client's time before it submits against the provider's time of the call; one processor clock tells both."""
    taken = []
    with FakeProvider() as provider, engine(plan.folder, "idle", 4) as up:
        up.env |= {"PROVIDERS": "openai", "OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": provider.openai_url}
        up.start("web", "dispatcher", "worker")
        up.wait_ready()
        with up.client() as client:
            for number in range(plan.size(200, quick=30) + _COLD):
                began = time.time()
                client.post("/submit", json=BODY).raise_for_status()
                wait_until(lambda number=number: up.completed() > number, what="the image")  # type: ignore[misc]
                taken.append((provider.journal()[-1].started - began) * 1000)
    return Figure.of_times("submit to provider call, idle", taken[_COLD:])


def _peers_submit_to_start(plan: Plan) -> Figure | None:
    """The same until the moment that it notes before its call."""
    if not plan.peer:
        return None
    taken = []
    with plan.peer.running(slots=5) as peer, httpx2.Client() as client:
        for _ in range(plan.size(100, quick=30) + _COLD):
            peer.clear()
            began = time.time()
            client.post(peer.address, json=BODY).raise_for_status()
            query = "SELECT extract(epoch FROM started_at) FROM generation_requests WHERE status = 'completed'"
            taken.append((float(wait_until(partial(peer.one, query), what="the peer's image")) - began) * 1000)
    return Figure.of_times("peer: submit to start, idle", taken[_COLD:])


_PASS: Final = """
import json, time
from workers import dispatcher
taken = []
dispatcher.run_once()  # fills the window
for _ in range(20):
    began = time.perf_counter()
    dispatcher.run_once()
    taken.append((time.perf_counter() - began) * 1000)
print(json.dumps(taken))
"""


def _idle_pass(plan: Plan) -> Figure:
    queued = plan.size(300_000, quick=30_000)
    with engine(plan.folder, "pass", 8, queued=queued) as up:
        printed = up.manage("shell", "-v0", "-c", _PASS)
    return Figure.of_times(f"a dispatcher's pass over {queued:,} queued", json.loads(printed.strip().splitlines()[-1]))


def _emptied(plan: Plan) -> Figure:
    """Measure the time until Redis has as many messages as before. No worker runs, so all of them were sent again."""
    interval = 1.0
    milliseconds = str(int(interval * 1000))
    with engine(plan.folder, "emptied", 9, queued=10_000, QUEUE_PROCESSING_INTERVAL=milliseconds) as up:
        up.start("dispatcher")

        def waiting() -> int:
            return sum(int(up.redis.llen(name)) for name in ("urgent", "high", "normal", "low"))

        def settled() -> int:
            found = waiting()
            time.sleep(2 * interval)
            return found if found and waiting() == found else 0

        full = wait_until(settled, seconds=60, what="full queues")
        taken = []
        for _ in range(plan.slices):
            up.redis.flushdb()
            began = time.monotonic()
            wait_until(lambda: waiting() >= full, what="what was lost")
            taken.append((time.monotonic() - began) * 1000)
    figure = Figure.of_times(f"{full} messages sent again after FLUSHDB", taken)
    worst = max(taken) / 1000 / interval
    return figure.also(f"all within 2 intervals (is {worst:.1f})", met=worst <= 2)
