"""How long the processes of the Procfile take from being started to being of use."""

from __future__ import annotations

import contextlib
import http.client
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from benchmarks import peer as peers
from benchmarks.peer import Peer
from benchmarks.plan import Plan
from benchmarks.report import Figure
from benchmarks.stacks import FloorStack, FreshStack, bare_worker, new_log, numbered_redis
from benchmarks.turns import in_turns
from config.local.valkey import free_port
from tests.support.stack import Stack, prepared_database

_PAUSE: Final = 0.005
_LONGEST: Final = 60.0
#: Goals, in ms.
_WEB: Final = 2_000.0
_WORKER: Final = 2_500.0


class _Bare(FreshStack):
    """The worker of the Procfile, of an app that knows nothing of the product."""

    def __init__(self, folder: Path, **settings: str) -> None:
        super().__init__(folder, **settings)
        self._commands |= {"worker": bare_worker(self._commands["worker"])}


def run(plan: Plan) -> Iterator[Figure]:
    """Web and worker, beside an empty view, a bare worker and the peer."""
    plan.say("cold start")
    with contextlib.ExitStack() as opened:
        settings = {"REDIS_URL": numbered_redis(12), "DATABASE_URL": opened.enter_context(prepared_database())}
        folders = [plan.folder / name for name in ("cold", "cold-view", "cold-bare")]
        for folder in folders:
            folder.mkdir()
        kinds: tuple[type[Stack], ...] = (FreshStack, FloorStack, _Bare)
        ours, view, bare = (kind(folder, **settings) for kind, folder in zip(kinds, folders, strict=True))
        for stack in (ours, view, bare):
            opened.callback(stack.stop_all)
        cases: dict[str, Callable[[], float]] = {
            "view": lambda: _web(view),
            "web": lambda: _web(ours),
            "bare": lambda: _worker(bare),
            "worker": lambda: _worker(ours),
        }
        if plan.peer:
            peer, address = plan.peer, opened.enter_context(peers.database())
            cases["peer"] = lambda: _peer(peer, address)
        taken = in_turns(cases, slices=plan.slices)

    def figure(name: str, case: str) -> Figure:
        return Figure(case, p50=statistics.median(taken[name]), slowest=max(taken[name]))

    view_figure = figure("view", "floor: cold start, an empty view")
    bare_figure = figure("bare", "floor: cold start, a Celery worker")
    theirs = figure("peer", "peer: cold start").beside(view_figure, "empty view") if plan.peer else None
    yield from filter(None, (view_figure, bare_figure, theirs))
    web = figure("web", "cold start: web, to the first answer")
    yield web.beside(view_figure, "empty view", peer=theirs).hoping(p50=_WEB)
    worker = figure("worker", "cold start: worker, to its ready line")
    yield worker.beside(bare_figure, "Celery").hoping(p50=_WORKER)


def _web(stack: Stack) -> float:
    began = time.perf_counter()
    stack.start("web")
    taken = _until(lambda: _answers(stack.port), began)
    stack.stop_all()
    return taken


def _worker(stack: Stack) -> float:
    before = len(new_log(stack, "worker"))
    began = time.perf_counter()
    stack.start("worker")
    taken = _until(lambda: " ready." in new_log(stack, "worker", before), began)
    stack.stop_all()
    return taken


def _peer(peer: Peer, address: str) -> float:
    port = free_port()
    began = time.perf_counter()
    process: subprocess.Popen[bytes] = peer.start(address, port)
    try:
        return _until(lambda: _answers(port), began)
    finally:
        peers.stop(process)


def _answers(port: int) -> bool:
    """Return whether the server answers. Cheaper than a new HTTP client for each check."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_LONGEST)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()


def _until(holds: Callable[[], bool], began: float) -> float:
    """ms from then until it holds, to 5 ms."""
    while not holds():
        if time.perf_counter() - began > _LONGEST:
            raise RuntimeError(f"a process was not of use within {_LONGEST:.0f} s")
        time.sleep(_PAUSE)
    return (time.perf_counter() - began) * 1000
