"""What the engine costs: from a submit to the provider's call, requests in a second, slots in use, recovery, memory."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis

from benchmarks import rows
from benchmarks.report import Figure
from tests.fakes.control import FakeProvider
from tests.support.stack import Stack, prepared_database, wait_until

_BODY: Final = {"type": "illustration", "prompt": "A friendly dragon in a garden full of flowers"}
_QUICK_JOBS: Final = 20_000
_NOOPS: Final = 10_000
_SLOTS: Final = 100
_BUSY_SECONDS: Final = 20


class _Engine(Stack):
    """A stack whose worker has the provider that is instant, with a database and a Redis of its own."""

    def __init__(self, folder: Path, database: psycopg.Connection, redis_url: str, **settings: str) -> None:
        super().__init__(folder, REDIS_URL=redis_url, SUBMIT_RATE="100000000/h", **settings)
        self._commands |= {"worker": self._commands["worker"].replace("--app config", "--app benchmarks.instant")}
        self._commands |= {"noop": self._commands["worker"]}
        self.database = database
        self.redis = redis.Redis.from_url(redis_url)

    def one(self, query: str) -> Any:
        """The first column of the first row."""
        row = self.database.execute(query.encode()).fetchone()
        return row and row[0]

    def completed(self) -> int:
        """How many requests are."""
        return int(self.one("SELECT count(*) FROM generation_requests WHERE status = 'completed'"))

    def worker_memory(self) -> int:
        """Bytes that are resident."""
        command = ["ps", "-o", "rss=", "-p", str(self._running["worker"].pid)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) * 1024


@contextlib.contextmanager
def _engine(folder: Path, name: str, number: int, *, queued: int = 0, **settings: str) -> Iterator[_Engine]:
    with prepared_database() as url, psycopg.connect(url, autocommit=True) as database:
        if queued:
            rows.make(url, total=queued, queued=queued)
            # As if they had just come in, and none was sent yet.
            database.execute(
                "UPDATE generation_queue SET queued_at = now(), available_at = now(), weight_since = now(),"
                " dispatched_at = NULL, redispatch_at = NULL, dispatch_count = 0"
            )
            database.execute("VACUUM ANALYZE generation_queue")
        (folder / name).mkdir()
        redis_url = urlunsplit(urlsplit(os.environ["REDIS_URL"])._replace(path=f"/{number}"))
        engine = _Engine(folder / name, database, redis_url, DATABASE_URL=url, PROVIDERS="clipart", **settings)
        try:
            yield engine
        finally:
            engine.stop_all()
            engine.redis.close()


def run(folder: Path, say: Callable[[str], None]) -> Iterator[Figure]:
    """Measure everything, one case after the other."""
    say("engine: from submit to call")
    yield _submit_to_call(folder)
    say(f"engine: Celery with {_NOOPS:,} tasks that do nothing")
    noops = _noop_rate(folder)
    yield Figure("floor: Celery, a task that does nothing", rate=noops)
    say(f"engine: {_QUICK_JOBS:,} requests with an instant provider")
    yield from _quick_jobs(folder, noops)
    say(f"engine: {_SLOTS} slots with a provider of 1 s")
    yield _busy_slots(folder)
    say("engine: a dispatcher with nothing to do")
    yield _idle_pass(folder)
    say("engine: an emptied Redis")
    yield _emptied(folder)


def _submit_to_call(folder: Path) -> Figure:
    """The client's time before it submits against the provider's time of the call; one processor clock tells both."""
    taken = []
    with FakeProvider() as provider, _engine(folder, "idle", 4) as engine:
        engine.env |= {"PROVIDERS": "openai", "OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": provider.openai_url}
        engine.start("web", "dispatcher", "worker")
        engine.wait_ready()
        with engine.client() as client:
            for number in range(220):
                began = time.time()
                client.post("/submit", json=_BODY).raise_for_status()
                wait_until(partial(_called, provider, number), what="the call")
                taken.append((provider.journal()[-1].started - began) * 1000)
    cold = 20  # the first ones open connections
    return Figure.of_times("submit to provider call, idle", taken[cold:], p50=30, p99=200)


def _called(provider: FakeProvider, times: int) -> bool:
    return provider.stats().count > times


def _noop_rate(folder: Path) -> float:
    """Tasks in a second of one worker process."""
    with _engine(folder, "noop", 5, MAX_CONCURRENT_REQUESTS="10") as engine:
        script = (
            "from config.celery import app\n"
            "with app.producer_pool.acquire() as producer:\n"
            f"    for _ in range({_NOOPS}):\n"
            f"        app.send_task('benchmarks.noop', args=[{_NOOPS}], queue='normal', producer=producer)"
        )
        engine.manage("shell", "-v0", "-c", script)
        engine.start("noop")
        seconds = wait_until(lambda: engine.redis.get("benchmarks:noop"), seconds=120, what="the last task")
        return _NOOPS / float(seconds)


def _quick_jobs(folder: Path, noops: float) -> Iterator[Figure]:
    with _engine(folder, "quick", 6, queued=_QUICK_JOBS, MAX_CONCURRENT_REQUESTS="10") as engine:
        engine.start("dispatcher")
        engine.env["PROVIDERS"] = "instant"
        engine.start("worker")
        quarter = _QUICK_JOBS // 4
        wait_until(lambda: engine.completed() >= quarter, seconds=600, what="the first quarter")
        early, began, before = engine.worker_memory(), time.monotonic(), engine.completed()
        wait_until(lambda: engine.completed() >= _QUICK_JOBS, seconds=1200, what="all")
        late = engine.worker_memory()
        rate = (_QUICK_JOBS - before) / (time.monotonic() - began)
    share = rate / noops
    goal = f"≥ 0.3 × Celery (is {share:.2f})"
    yield Figure("completed, instant provider, one worker", goal, share >= 0.3, rate=rate)
    grown = late / early - 1
    case = f"a worker's memory grown from {quarter:,} to {_QUICK_JOBS:,} jobs"
    yield Figure(case, f"≤ 5 %, of {early / 2**20:.0f} MiB", grown <= 0.05, share=grown)


def _busy_slots(folder: Path) -> Figure:
    queued = _SLOTS * (_BUSY_SECONDS + 20)
    with _engine(folder, "busy", 7, queued=queued, MAX_CONCURRENT_REQUESTS=str(_SLOTS)) as engine:
        engine.start("dispatcher")
        engine.env |= {"PROVIDERS": "instant", "INSTANT_SECONDS": "1"}
        engine.start("worker")
        wait_until(lambda: engine.completed() >= _SLOTS * 3, seconds=120, what="three rounds")
        began, before = time.monotonic(), engine.completed()
        time.sleep(_BUSY_SECONDS)
        rate = (engine.completed() - before) / (time.monotonic() - began)
    share = rate / _SLOTS
    return Figure(f"{_SLOTS} slots busy with a provider of 1 s", "≥ 95 %", share >= 0.95, rate=rate, share=share)


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


def _idle_pass(folder: Path) -> Figure:
    with _engine(folder, "pass", 8, queued=300_000) as engine:
        printed = engine.manage("shell", "-v0", "-c", _PASS)
    taken = json.loads(printed.strip().splitlines()[-1])
    return Figure.of_times("a dispatcher's pass over 300,000 queued", taken, p50=20)


def _emptied(folder: Path) -> Figure:
    """How long until Redis holds as much as before. Nobody takes anything out, so what is there was sent again."""
    interval = 1.0
    with _engine(folder, "emptied", 9, queued=10_000, QUEUE_PROCESSING_INTERVAL=str(int(interval * 1000))) as engine:
        engine.start("dispatcher")

        def waiting() -> int:
            return sum(int(engine.redis.llen(name)) for name in ("urgent", "high", "normal", "low"))

        def settled() -> int:
            found = waiting()
            time.sleep(2 * interval)
            return found if found and waiting() == found else 0

        full = wait_until(settled, seconds=60, what="full queues")
        taken = []
        for _ in range(5):
            engine.redis.flushdb()
            began = time.monotonic()
            wait_until(lambda: waiting() >= full, what="what was lost")
            taken.append((time.monotonic() - began) * 1000)
    worst = max(taken)
    goal = f"all within 2 intervals (is {worst / 1000 / interval:.1f})"
    case = f"{full} messages sent again after FLUSHDB"
    return Figure(case, goal, worst <= 2000 * interval, p50=statistics.median(taken), p99=worst, slowest=worst)
