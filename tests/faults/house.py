"""A whole house to break: production processes on a database and a Redis of its own, and a provider that counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import psycopg
from celery import current_app
from django.contrib.auth.models import User
from kombu import Connection
from rest_framework_simplejwt.tokens import AccessToken

from generation.db import counter_checks
from generation.queue import dispatch
from generation.states import WEIGHTS
from tests.fakes.control import FakeProvider
from tests.fakes.journal import Call
from tests.faults import invariants
from tests.support.databases import Database
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
        self.database_url = database_url
        self._database = Database(database_url)
        self._client: httpx2.Client | None = None

    @property
    def alice(self) -> httpx2.Client:
        """Alice's client."""
        if self._client is None:
            # Signing in would hash her password, which is slow on purpose.
            [row] = self.rows("SELECT id, password FROM auth_user WHERE username = 'alice'")
            self._client = self.stack.client(token=str(AccessToken.for_user(User(**row))))
        return self._client

    def close(self) -> None:
        """Let go of connections."""
        if self._client is not None:
            self._client.close()

    def wait_until_up(self, *, workers: int = 0) -> None:
        """Until the API answers and so many workers report themselves."""
        wait_until(self.stack.answers, seconds=30, what="the API")
        query = "SELECT count(*) AS n FROM generation_workers WHERE kind = 'worker' AND seen_at > %s"
        heartbeat = timedelta(milliseconds=int(self.stack.env["LEASE_MS"])) / 3

        def up() -> bool:
            since = datetime.now(UTC) - heartbeat - timedelta(seconds=2)
            return bool(self.rows(query, since)[0]["n"] >= workers)

        wait_until(up, seconds=30, what=f"{workers} workers")

    def locked(self, table: str, key: str, value: str) -> AbstractContextManager[None]:
        """Hold a row of the database, so that a process that wants to write it blocks."""
        return self.holding(f"SELECT 1 FROM {table} WHERE {key} = %s FOR UPDATE", value)  # noqa: S608  a test's own

    def holding(self, statement: str, *parameters: Any) -> AbstractContextManager[None]:
        """Do this in the database and neither commit it nor let go, so that others wait for what it locks."""
        return self._database.holding(statement, *parameters)

    def is_locked(self, table: str, key: str, value: str) -> bool:
        """Return whether the row is locked."""
        return not self.rows(f"SELECT 1 FROM {table} WHERE {key} = %s FOR UPDATE SKIP LOCKED", value)  # noqa: S608

    def wait_for_blocked(self, count: int = 1) -> None:
        """Until so many wait for a lock."""
        query = "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_until(lambda: self.rows(query)[0]["n"] >= count, what=f"{count} who wait for the lock")

    def cut(self, which: str = "true") -> int:
        """End the connections to the database, all but one's own, or those of which this condition on
        ``pg_stat_activity`` is true. Returns how many."""
        ours = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        query = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours} AND {which}"  # noqa: S608
        return len(self.rows(query))

    def execute(self, statement: str, *parameters: Any) -> None:
        """Change the database."""
        self._database.execute(statement, *parameters)

    def try_submit(self, number: int, *, headers: dict[str, str] | None = None, **more: Any) -> httpx2.Response:
        """Submit the so-many-th dragon, whatever the answer; the number tells its calls apart."""
        body = {"type": "illustration", "prompt": f"Dragon number {number:06d} in a garden", **more}
        return self.alice.post("/submit", json=body, headers=headers)

    def submit(self, number: int, **more: Any) -> str:
        """Submit the so-many-th dragon, which must be accepted."""
        answer = self.try_submit(number, **more)
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

    def publish(self, *arguments: Any, queue: str = "normal", task: str = dispatch.TASK, **options: Any) -> None:
        """Send a message as the product does, whatever its queue row says."""
        with Connection(self.valkey.url) as connection:
            current_app.send_task(task, args=arguments, queue=queue, connection=connection, **options)

    def lose_messages(self) -> None:
        """Take the messages out of Redis, unnoticed by the processes."""
        with self.valkey.client() as client:
            client.delete(*WEIGHTS)

    def unacknowledged(self) -> int:
        """How many messages that were taken Redis keeps a copy of."""
        with self.valkey.client() as client:
            return int(client.hlen("unacked"))

    def messages(self) -> int:
        """How many messages wait in Redis."""
        with self.valkey.client() as client:
            return sum(int(client.llen(queue)) for queue in WEIGHTS)

    def wait_for_no_messages(self) -> None:
        """Until the workers have taken all of them."""
        wait_until(lambda: self.messages() == 0, seconds=30, what="empty queues")

    def calls(self, number: int) -> list[Call]:
        """The calls for the so-many-th dragon."""
        return [call for call in self.provider.journal() if f"number {number:06d} " in call.prompt]

    def called_once_each(self, *numbers: int) -> bool:
        """Whether the provider was called once for each of ``range(*numbers)`` dragons, and for nothing else."""
        called = Counter(call.prompt.partition("number ")[2][:6] for call in self.provider.journal())
        assert called == Counter(f"{number:06d}" for number in range(*numbers)), called
        return True

    def counts_of_calls(self) -> Counter[int]:
        """How often the provider was called for each dragon."""
        return Counter(int(call.prompt.split()[2]) for call in self.provider.journal())

    def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        """Look into the database."""
        return self._database.rows(query, *parameters)

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

    def wait_for_active_calls(self, count: int) -> None:
        """Until the provider has so many calls under way."""
        wait_until(lambda: self.provider.stats().active >= count, what=f"{count} calls under way")

    def wait_for_log(self, name: str, text: str, *, times: int = 1) -> None:
        """Until the process has written the text so often."""
        wait_until(lambda: self.stack.log(name).count(text) >= times, what=f"{text!r} in the log of the {name}")

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
        rows = self._database.snapshot(invariants.TABLES)
        assert self.accepted <= {row["id"] for row in rows["requests"]}
        invariants.assert_whole(calls=calls, media=media or self.media, **rows)
        self.assert_counted()

    def assert_counted(self) -> None:
        """The counters equal the tables, and no dispatcher had to correct them."""
        with psycopg.connect(self.database_url) as connection, connection.cursor() as cursor:
            assert counter_checks.compare(cursor) == []
        for log in self.stack.logs.glob("dispatcher*.log"):
            assert "corrected a counter" not in log.read_text()


@contextmanager
def built(folder: Path, *, server: str = "", **settings: str) -> Iterator[House]:
    """A house with tables and people, in a database of this server if not of the tests' own; nothing runs in it yet."""
    with prepared_database(server) as database_url, FakeProvider() as provider, Valkey(folder / "valkey") as valkey:
        usual = {
            "PROVIDERS": "openai",
            "OPENAI_API_KEY": "sk-only-for-tests",
            "OPENAI_BASE_URL": provider.openai_url,
            "STABILITY_API_KEY": "sk-only-for-tests",
            "STABILITY_BASE_URL": provider.stability_url,
            "GOOGLE_API_KEY": "only-for-tests",
            "GOOGLE_BASE_URL": provider.base_url,
            "LEASE_MS": str(int(LEASE_SECONDS * 1000)),
            "SUBMIT_RATE": "1000000/m",
        }
        stack = Stack(folder, DATABASE_URL=database_url, REDIS_URL=valkey.url, **usual | settings)
        house = House(stack, provider, valkey, database_url)
        try:
            yield house
        finally:
            house.close()
            stack.stop_all()


__all__ = ["ENDED", "LEASE_SECONDS", "House", "built", "lasting"]
