"""A whole house to break: production processes on a database and a Redis of its own, and a provider that counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
from celery import Celery
from psycopg import sql
from psycopg.rows import dict_row

from generation import dispatch
from tests.fakes.control import FakeProvider
from tests.fakes.journal import Call
from tests.faults import invariants
from tests.support.length import lasting
from tests.support.stack import Stack, prepared_database, wait_until
from tests.support.valkey import Valkey

ENDED = {"completed", "failed", "cancelled"}
LEASE_SECONDS = 2.0


class House:
    """What a test breaks and what it looks at afterwards."""

    def __init__(self, stack: Stack, provider: FakeProvider, valkey: Valkey, database_url: str) -> None:
        self.stack = stack
        self.provider = provider
        self.valkey = valkey
        self.media = Path(stack.env["VAR_DIR"]) / "media"
        #: Every id that was answered to a submit.
        self.accepted: set[str] = set()
        self._database = urlunsplit(urlsplit(database_url)._replace(scheme="postgresql"))
        self._client: httpx.Client | None = None

    @property
    def alice(self) -> httpx.Client:
        """Alice's client, signed in on first use."""
        if self._client is None:
            self._client = self.stack.client("alice")
        return self._client

    def close(self) -> None:
        """Let go of connections."""
        if self._client is not None:
            self._client.close()

    def wait_until_up(self, *, workers: int = 0) -> None:
        """Until the API answers and so many workers report themselves."""
        wait_until(self.stack.answers, seconds=30, what="the API")
        query = (
            "SELECT count(*) AS n FROM generation_workers WHERE kind = 'worker' AND seen_at > now() - interval '3 s'"
        )
        wait_until(lambda: self.rows(query)[0]["n"] >= workers, seconds=30, what=f"{workers} workers")

    @contextmanager
    def locked(self, table: str, key: str, value: str) -> Iterator[None]:
        """Hold a row of the database, so that whoever wants to write it stops right there."""
        with psycopg.connect(self._database) as connection:
            query = sql.SQL("SELECT 1 FROM {} WHERE {} = %s FOR UPDATE").format(
                sql.Identifier(table), sql.Identifier(key)
            )
            found = connection.execute(query, [value])
            assert found.fetchone(), f"no {table} {value}"
            yield

    def deliver(self, *request_ids: str, queue: str = "normal") -> None:
        """Send messages of these requests, beside those that were sent."""
        with Celery(broker=self.valkey.url, set_as_current=False) as sender:
            for request_id in request_ids:
                sender.send_task(dispatch.TASK, args=[request_id], queue=queue, retry=False)

    def is_locked(self, table: str, key: str, value: str) -> bool:
        """Whether somebody holds the row."""
        query = sql.SQL("SELECT 1 FROM {} WHERE {} = %s FOR UPDATE SKIP LOCKED").format(
            sql.Identifier(table), sql.Identifier(key)
        )
        with psycopg.connect(self._database) as connection:
            return connection.execute(query, [value]).fetchone() is None

    def wait_for_blocked(self) -> None:
        """Until somebody waits for a lock."""
        query = "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_until(lambda: self.rows(query)[0]["n"] > 0, what="somebody who waits for the lock")

    def execute(self, statement: str, *parameters: Any) -> None:
        """Change the database."""
        with psycopg.connect(self._database) as connection:
            connection.execute(statement.encode(), parameters)

    def submit(self, number: int, **more: Any) -> str:
        """Submit the so-many-th dragon; the number tells its calls apart."""
        body = {"type": "illustration", "prompt": f"Dragon number {number:06d} in a garden", **more}
        answer = self.alice.post("/submit", json=body)
        assert answer.status_code == 200, answer.text
        request_id = str(answer.json()["requestId"])
        self.accepted.add(request_id)
        return request_id

    def submit_batch(self, numbers: Iterable[int], *, limit: int | None = None, **more: Any) -> tuple[str, list[str]]:
        """Submit these dragons together; the ids of the batch and of its requests."""
        items = [
            {"type": "illustration", "prompt": f"Dragon number {number:06d} in a garden", **more} for number in numbers
        ]
        body = {"requests": items, "batchOptions": {"maxConcurrent": limit} if limit else {}}
        answer = self.alice.post("/batch", json=body)
        assert answer.status_code == 200, answer.text
        ids = [str(item["requestId"]) for item in answer.json()["requests"]]
        self.accepted.update(ids)
        return str(answer.json()["batchId"]), ids

    def cancel(self, request_id: str) -> bool:
        """Give the request up; whether there was something to give up."""
        answer = self.alice.delete(f"/cancel/{request_id}")
        assert answer.status_code in {200, 404}, answer.text
        return answer.status_code == 200

    def calls(self, number: int) -> list[Call]:
        """The calls for the so-many-th dragon."""
        return [call for call in self.provider.journal() if f"number {number:06d} " in call.prompt]

    def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        """Look into the database."""
        with psycopg.connect(self._database, row_factory=dict_row) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def status(self, request_id: str) -> str:
        """The status in the database."""
        return str(self.rows("SELECT status FROM generation_requests WHERE id = %s", request_id)[0]["status"])

    def wait_for(self, request_id: str, *statuses: str, seconds: float = 20) -> str:
        """Until the request has one of these statuses."""
        return str(
            wait_until(
                lambda: (found := self.status(request_id)) in statuses and found, seconds=seconds, what=str(statuses)
            )
        )

    def wait_for_row(self, count: int) -> None:
        """Until so many requests are committed."""
        query = "SELECT count(*) AS n FROM generation_requests"
        wait_until(lambda: self.rows(query)[0]["n"] >= count, what=f"{count} requests")

    def wait_all_ended(self, *, seconds: float = 60) -> None:
        """Until nothing is active any more (the first invariant)."""
        query = "SELECT count(*) AS n FROM generation_requests WHERE status IN ('queued', 'in-progress')"
        wait_until(lambda: self.rows(query)[0]["n"] == 0, seconds=seconds, what="an end of everything")

    def wait_for_calls(self, count: int, *, seconds: float = 20) -> None:
        """Until the provider was called so often."""
        wait_until(lambda: self.provider.stats().count >= count, seconds=seconds, what=f"{count} calls")

    def assert_all_done(self) -> None:
        """Everything is completed or cancelled, or failed as it must be where two of its calls were lost."""
        lost = "SELECT count(*) FROM generation_attempts WHERE request_id = r.id AND error_code = 'unknown_outcome'"
        query = (
            "SELECT id, status, error FROM generation_requests r WHERE status NOT IN ('completed', 'cancelled')"  # noqa: S608
            f" AND NOT (status = 'failed' AND ({lost}) = 2)"
        )
        assert self.rows(query) == []

    def assert_whole(self, *, media: Path | None = None) -> None:
        """The invariants that hold whatever was broken."""
        calls = self.provider.journal()
        # The rows as they were at one moment, and after the calls: what is under way meanwhile breaks nothing.
        with psycopg.connect(self._database, row_factory=dict_row) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            rows = {
                name: connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))).fetchall()
                for name, table in invariants.TABLES.items()
            }
        assert self.accepted <= {row["id"] for row in rows["requests"]}
        invariants.assert_whole(calls=calls, media=media or self.media, **rows)


@contextmanager
def built(folder: Path, **settings: str) -> Iterator[House]:
    """A house with tables and people; nothing runs in it yet."""
    with prepared_database() as database_url, FakeProvider() as provider, Valkey(folder / "valkey") as valkey:
        stack = Stack(
            folder,
            DATABASE_URL=database_url,
            REDIS_URL=valkey.url,
            PROVIDERS="openai",
            OPENAI_API_KEY="sk-only-for-tests",
            OPENAI_BASE_URL=provider.openai_url,
            SUBMIT_RATE="1000000/m",
            **{"LEASE_MS": str(int(LEASE_SECONDS * 1000))} | settings,
        )
        house = House(stack, provider, valkey, database_url)
        try:
            yield house
        finally:
            house.close()
            stack.stop_all()


__all__ = ["ENDED", "LEASE_SECONDS", "House", "built", "lasting"]
