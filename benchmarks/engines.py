"""Stacks whose worker has the provider that is instant, each with a database and a Redis of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import redis

from benchmarks import rows
from benchmarks.stacks import SETTINGS, bare_worker, numbered_redis, resident
from tests.support.stack import Stack, prepared_database

BODY = {"type": "illustration", "prompt": "A friendly dragon in a garden full of flowers"}


class Engine(Stack):
    """A stack with connections to its database and its Redis. Its process ``noop`` is one more worker, for tasks that
    do nothing."""

    def __init__(self, folder: Path, database: psycopg.Connection, redis_url: str, **settings: str) -> None:
        super().__init__(folder, REDIS_URL=redis_url, **{**SETTINGS, **settings})
        worker = self._commands["worker"]
        self._commands |= {"worker": worker.replace("--app config", "--app benchmarks.instant")}
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

    def memory(self, name: str = "worker") -> float:
        """MB that a process has."""
        return resident(self.pid(name))


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
