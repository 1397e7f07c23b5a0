"""How much one worker process gets done, beside Celery with tasks that do nothing, and the peer."""

from __future__ import annotations

import contextlib
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from benchmarks.engines import RATE, Engine, engine
from benchmarks.peer import INTERVAL, RunningPeer
from benchmarks.plan import Plan
from benchmarks.report import Figure
from benchmarks.stacks import new_log
from benchmarks.turns import in_turns
from tests.support.stack import wait_until

_SLOTS: Final = 10
_NOOPS: Final = 2_000
_JOBS: Final = 1_000
#: Seconds after which nothing more is waited for.
_LONGEST: Final = 600.0
#: Goals.
_RATE: Final = 450.0
_OF_CELERY: Final = 0.3
_GROWN: Final = 0.05
_BUSY: Final = 0.97
_CONNECTIONS: Final = 4


@dataclass(frozen=True, kw_only=True)
class _Load:
    """So many slots with a provider that takes ``seconds``. They are measured ``looks`` times for ``look`` seconds
    after ``rounds`` of all slots; ``memory`` is the limit in MB."""

    slots: int
    seconds: int
    rounds: int
    look: int
    looks: int
    memory: float


def _loads(plan: Plan) -> Iterator[_Load]:
    yield _Load(slots=200, seconds=1, rounds=3, look=4, looks=plan.slices, memory=300)
    # Slots that began together end together, so a look is a multiple of the provider's time.
    yield _Load(slots=1000, seconds=10, rounds=1, look=plan.size(20, quick=10), looks=1, memory=600)


def run(plan: Plan) -> Iterator[Figure]:
    """The rate with a provider that answers at once, then the slots in use with one that takes a second."""
    plan.say("engine: requests with an instant provider, beside Celery's tasks that do nothing")
    noop = None
    for figure in _quick(plan):
        noop = noop or figure  # the floor is the first
        yield figure
    for load in _loads(plan):
        plan.say(f"engine: {load.slots:,} slots with a provider of {load.seconds} s")
        yield from _busy(plan, noop, load)


# --- A provider that answers at once ----------------------------------------------------------------------------------

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
        ours.start("dispatcher", "instant")
        idle.start("noop")
        wait_until(lambda: " ready" in new_log(idle, "noop"), what="a worker for tasks that do nothing")
        idle.signal("noop", signal.SIGSTOP)
        memory: list[float] = []

        def run_ours() -> float:
            rate = _released(ours, count)
            memory.append(ours.memory("instant"))
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
    figure = Figure(case, rate=middles["ours"], least=_RATE).beside(floor, "Celery", peer=theirs)
    figure = figure.also(f"≥ {_RATE:g}/s", met=middles["ours"] >= _RATE)
    yield figure.at_least(_OF_CELERY, floor, "Celery")
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
    return ours.rate(count)


def _peers_rate(peer: RunningPeer, count: int) -> float:
    peer.clear()
    peer.fill(count)
    wait_until(lambda: _peer_completed(peer) >= count, seconds=_LONGEST, what="all of the peer's")
    return float(peer.one(RATE.format(count=count)))


def _peer_completed(peer: RunningPeer) -> int:
    return int(peer.one("SELECT count(*) FROM generation_requests WHERE status = 'completed'"))


# --- A provider that takes its time -----------------------------------------------------------------------------------


def _busy(plan: Plan, noop: Figure | None, load: _Load) -> Iterator[Figure]:
    slots = f"{load.slots:,} slots"
    most = load.slots / load.seconds
    ideal = Figure("every slot in use all the time", rate=most)
    queued = int(load.slots * (load.rounds + 2) + most * load.look * load.looks * 1.2)
    theirs = None
    if plan.peer and load.seconds == 1:
        with plan.peer.running(slots=load.slots, seconds=load.seconds) as peer:
            peer.fill(queued)
            rate = _watched(load, lambda: _peer_completed(peer))
        case = f"peer: {slots}, provider of {load.seconds} s"
        theirs = Figure(case, rate=rate, share=rate / most).beside(ideal, "slots")
        yield theirs
    settings = {"MAX_CONCURRENT_REQUESTS": str(load.slots)}
    with engine(plan.folder, f"busy-{load.slots}", 7, queued=queued, **settings) as up:
        up.start("dispatcher")
        up.env |= {"PROVIDERS": "instant", "INSTANT_SECONDS": str(load.seconds)}
        up.start("instant")
        connections = 0

        def completed() -> int:
            nonlocal connections
            connections = max(connections, up.connections())
            return up.completed()

        rate = _watched(load, completed)
        memory = up.memory("instant")
    share = rate / most
    case = f"{slots} busy, provider of {load.seconds} s, one worker"
    figure = Figure(case, rate=rate, share=share).beside(ideal, "slots", peer=theirs)
    yield figure.also(f"≥ {_BUSY:.0%} busy", met=share >= _BUSY)
    figure = Figure(f"memory of that worker, {slots}", memory=memory).beside(noop, "Celery")
    yield figure.also(f"< {load.memory:.0f} MB", met=memory < load.memory)
    figure = Figure(f"connections of that worker to PostgreSQL, {slots}", count=connections)
    yield figure.also(f"≤ {_CONNECTIONS}", met=connections <= _CONNECTIONS)


def _watched(load: _Load, completed: Callable[[], int]) -> float:
    """Requests in a second once all slots have had their first rounds."""
    wait_until(lambda: completed() >= load.slots * load.rounds, seconds=_LONGEST, what="the first rounds")
    rates = []
    for _ in range(load.looks):
        began, before = time.monotonic(), completed()
        while time.monotonic() < began + load.look:
            time.sleep(0.5)
            now = completed()
        rates.append((now - before) / (time.monotonic() - began))
    return statistics.median(rates)
