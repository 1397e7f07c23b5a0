"""Stacks with a database and a Redis of their own, whose processes can be measured."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import redis

from benchmarks import rows
from benchmarks.stacks import SETTINGS, FreshStack, bare_worker, numbered_redis
from benchmarks.usage import processor_seconds, proportional_memory
from tests.support.stack import prepared_database

#: In a second, from the first to the last of so many that were completed last.
RATE: Final = """
SELECT (count(*) - 1) / extract(epoch FROM max(completed_at) - min(completed_at)) FROM (
    SELECT completed_at FROM generation_requests WHERE status = 'completed' ORDER BY completed_at DESC LIMIT {count}
) AS last
"""
_BURST_RATE: Final = """
SELECT count(*) / extract(epoch FROM max(completed_at) - min(started_at)) FROM (
    SELECT started_at, completed_at FROM generation_requests WHERE status = 'completed'
    ORDER BY completed_at DESC LIMIT {count}
) AS last
"""
BODY = {"type": "illustration", "prompt": "A friendly dragon in a garden full of flowers"}


class Engine(FreshStack):
    """A stack with connections to its database and its Redis. Besides those of the Procfile it has two more processes:
    ``instant`` is a worker that also has the instant provider, and ``noop`` one for tasks that do nothing."""

    def __init__(self, folder: Path, database: psycopg.Connection, redis_url: str, **settings: str) -> None:
        super().__init__(folder, REDIS_URL=redis_url, **{**SETTINGS, **settings})
        worker = self._commands["worker"]
        self._commands |= {"instant": worker.replace("--app config", "--app benchmarks.instant")}
        self._commands |= {"noop": bare_worker(worker)}
        self.database = database
        self.redis = redis.Redis.from_url(redis_url)

    def one(self, query: str) -> Any:
        """The first column of the first row."""
        row = self.database.execute(query.encode()).fetchone()
        return row and row[0]

    def completed(self) -> int:
        """How many requests are."""
        return int(self.one("SELECT count(*) FROM generation_requests WHERE status = 'completed'"))

    def unfinished(self, count: int) -> int:
        """How many of this many completed requests are missing. Raises ``RuntimeError`` if a request failed."""
        if error := self.one("SELECT error FROM generation_requests WHERE status = 'failed' LIMIT 1"):
            raise RuntimeError(f"a request failed: {error}")
        return max(0, count - self.completed())

    def rate(self, count: int) -> float:
        """Requests in a second, of so many that were completed last."""
        return float(self.one(RATE.format(count=count)))

    def burst_rate(self, count: int) -> float:
        """Requests in a second from the first start to the last end, of so many that were completed last."""
        return float(self.one(_BURST_RATE.format(count=count)))

    def memory(self, name: str) -> float:
        """The proportional set size of a process with its children, in MB."""
        return proportional_memory(self.pid(name))

    def connections(self) -> int:
        """How many connections the workers have to the database."""
        return int(
            self.one(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'vga-worker'"
            )
        )

    def processor_seconds(self) -> dict[str, float]:
        """The processor time of what runs an image, by its name: the worker, its children, dispatcher and servers."""
        worker, children = processor_seconds(self.pid("worker"))
        servers = {
            "PostgreSQL": int(self.one("SELECT pg_read_file('postmaster.pid')").split()[0]),
            "Valkey": int(self.redis.info("server")["process_id"]),
            "dispatcher": self.pid("dispatcher"),
        }
        taken = {"worker": worker, "children of the worker": children}
        return taken | {name: sum(processor_seconds(pid)) for name, pid in servers.items()}


@contextlib.contextmanager
def engine(folder: Path, name: str, number: int, *, queued: int = 0, **settings: str) -> Iterator[Engine]:
    """An engine with nothing running yet, and so many requests as if they had just come in and none was sent yet.
    ``name`` and ``number`` set its folder and its Redis apart."""
    with prepared_database() as url, psycopg.connect(url, autocommit=True) as database:
        if queued:
            rows.make(
                url,
                total=queued,
                queued=queued,
                more="UPDATE generation_queue SET queued_at = now(), available_at = now(), weight_since = now(),"
                " dispatched_at = NULL, redispatch_at = NULL, dispatch_count = 0",
            )
        (folder / name).mkdir()
        made = Engine(
            folder / name, database, numbered_redis(number), DATABASE_URL=url, PROVIDERS="clipart", **settings
        )
        try:
            yield made
        finally:
            made.stop_all()
            made.redis.close()
