"""How much one worker process gets done, beside Celery with tasks that do nothing, and the peer."""

from __future__ import annotations

import contextlib
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Final

from benchmarks.engines import Engine, engine
from benchmarks.peer import INTERVAL, RunningPeer
from benchmarks.plan import Plan
from benchmarks.report import Figure
from benchmarks.turns import in_turns
from tests.support.stack import wait_until

_SLOTS: Final = 10
_NOOPS: Final = 2_000
_JOBS: Final = 1_500
#: Seconds of one look at the busy slots.
_LOOK: Final = 4
#: Seconds after which nothing more is waited for.
_LONGEST: Final = 600.0
#: Goals.
_OF_CELERY: Final = 0.5
_GROWN: Final = 0.05
#: The share of so many slots that are busy.
_BUSY: Final = {100: 0.95, 200: 0.97}
_MB: Final = 300.0


def run(plan: Plan) -> Iterator[Figure]:
    """The rate with a provider that answers at once, then the slots in use with one that takes a second."""
    plan.say("engine: requests with an instant provider, beside Celery's tasks that do nothing")
    noop = None
    for figure in _quick(plan):
        noop = noop or figure  # the floor is the first
        yield figure
    for slots in _BUSY:
        plan.say(f"engine: {slots} slots with a provider of 1 s")
        yield from _busy(plan, noop, slots)


# --- A provider that answers at once ----------------------------------------------------------------------------------

#: In a second, from the first to the last of so many that were completed last.
_RATE: Final = """
SELECT (count(*) - 1) / extract(epoch FROM max(completed_at) - min(completed_at)) FROM (
    SELECT completed_at FROM generation_requests WHERE status = 'completed' ORDER BY completed_at DESC LIMIT {count}
) AS last
"""
#: As if they had just come in.
_RELEASE: Final = """
UPDATE generation_queue SET available_at = now(), queued_at = now(), weight_since = now() WHERE request_id IN (
    SELECT request_id FROM generation_queue WHERE available_at > now() LIMIT {count})
"""
_SEND: Final = """
from config.celery import app
with app.producer_pool.acquire() as producer:
    for _ in range({count}):
        app.send_task("benchmarks.noop", args=[{count}], queue="normal", producer=producer)
"""


def _quick(plan: Plan) -> Iterator[Figure]:
    noops, count = plan.size(_NOOPS, quick=500), plan.size(_JOBS, quick=300)
    slots = str(_SLOTS)
    with contextlib.ExitStack() as opened:
        idle = opened.enter_context(engine(plan.folder, "noop", 5, MAX_CONCURRENT_REQUESTS=slots))
        ours = opened.enter_context(
            engine(plan.folder, "quick", 6, queued=count * plan.slices, MAX_CONCURRENT_REQUESTS=slots)
        )
        ours.database.execute("UPDATE generation_queue SET available_at = now() + interval '1 day'")
        ours.env["PROVIDERS"] = "instant"
        ours.start("dispatcher", "worker")
        idle.start("noop")
        wait_until(lambda: "ready" in idle.log("noop"), what="a worker for tasks that do nothing")
        idle.signal("noop", signal.SIGSTOP)
        memory: list[float] = []

        def run_ours() -> float:
            rate = _released(ours, count)
            memory.append(ours.memory())
            return rate

        cases: dict[str, Callable[[], float]] = {"noop": lambda: _noop_rate(idle, noops), "ours": run_ours}
        if plan.peer:
            peer = opened.enter_context(plan.peer.running(slots=_SLOTS))
            cases["peer"] = lambda: _peers_rate(peer, count)
        rates = in_turns(cases, slices=plan.slices)
        floor_memory = idle.memory("noop")
    middles = {name: statistics.median(taken) for name, taken in rates.items()}
    floor = Figure("floor: Celery, a task that does nothing", rate=middles["noop"], memory=floor_memory)
    yield floor
    theirs = None
    if "peer" in middles:
        case = f"peer: completed, {_SLOTS} slots, looks every {INTERVAL} ms"
        theirs = Figure(case, rate=middles["peer"]).beside(floor, "Celery")
        yield theirs
    case = f"completed, instant provider, one worker, {_SLOTS} slots"
    figure = Figure(case, rate=middles["ours"]).beside(floor, "Celery", peer=theirs)
    figure = figure.at_least(_OF_CELERY, floor, "Celery")
    yield figure.at_least(1, theirs, "peer") if theirs else figure
    if len(memory) > 1:
        grown = memory[-1] / memory[0] - 1
        case = f"a worker's memory grown from {count:,} to {count * plan.slices:,} jobs"
        figure = Figure(case, share=grown, memory=memory[-1]).beside(floor, "Celery")
        yield figure.also(f"≤ {_GROWN:.0%}", met=grown <= _GROWN)


def _noop_rate(idle: Engine, count: int) -> float:
    """Tasks in a second from the first to the last. They are sent before the worker may go on."""
    idle.redis.delete("benchmarks:noop")
    idle.manage("shell", "-v0", "-c", _SEND.format(count=count))
    idle.signal("noop", signal.SIGCONT)
    seconds = wait_until(lambda: idle.redis.get("benchmarks:noop"), seconds=_LONGEST, what="the last task")
    idle.signal("noop", signal.SIGSTOP)
    return count / float(seconds)


def _released(ours: Engine, count: int) -> float:
    """Requests in a second from the first to the last that is completed."""
    all_of_them = ours.completed() + count
    ours.database.execute(_RELEASE.format(count=count).encode())
    wait_until(lambda: ours.completed() >= all_of_them, seconds=_LONGEST, what="all of them")
    return float(ours.one(_RATE.format(count=count)))


def _peers_rate(peer: RunningPeer, count: int) -> float:
    peer.clear()
    peer.fill(count)
    wait_until(lambda: _peer_completed(peer) >= count, seconds=_LONGEST, what="all of the peer's")
    return float(peer.one(_RATE.format(count=count)))


def _peer_completed(peer: RunningPeer) -> int:
    return int(peer.one("SELECT count(*) FROM generation_requests WHERE status = 'completed'"))


# --- A provider of a second -------------------------------------------------------------------------------------------


def _busy(plan: Plan, noop: Figure | None, slots: int) -> Iterator[Figure]:
    ideal = Figure("every slot in use all the time", rate=float(slots))
    queued = slots * (_LOOK * plan.slices + 20)
    theirs = None
    if plan.peer:
        with plan.peer.running(slots=slots, seconds=1) as peer:
            peer.fill(queued)
            rate = _watched(plan, slots, lambda: _peer_completed(peer))
        case = f"peer: {slots} slots, provider of 1 s"
        theirs = Figure(case, rate=rate, share=rate / slots).beside(ideal, "slots")
        yield theirs
    with engine(plan.folder, f"busy-{slots}", 7, queued=queued, MAX_CONCURRENT_REQUESTS=str(slots)) as up:
        up.start("dispatcher")
        up.env |= {"PROVIDERS": "instant", "INSTANT_SECONDS": "1"}
        up.start("worker")
        rate = _watched(plan, slots, up.completed)
        memory = up.memory()
    share = rate / slots
    case = f"{slots} slots busy, provider of 1 s, one worker"
    figure = Figure(case, rate=rate, share=share).beside(ideal, "slots", peer=theirs)
    yield figure.also(f"≥ {_BUSY[slots]:.0%} busy", met=share >= _BUSY[slots])
    figure = Figure(f"memory of that worker, {slots} slots", memory=memory).beside(noop, "Celery")
    yield figure.also(f"< {_MB:.0f} MB", met=memory < _MB)


def _watched(plan: Plan, slots: int, completed: Callable[[], int]) -> float:
    """Requests in a second once all slots have had their third."""
    wait_until(lambda: completed() >= slots * 3, seconds=_LONGEST, what="three rounds")
    rates = []
    for _ in range(plan.slices):
        began, before = time.monotonic(), completed()
        time.sleep(_LOOK)
        rates.append((completed() - before) / (time.monotonic() - began))
    return statistics.median(rates)
