"""A whole house to break: production processes on a database and a Redis of its own, and a provider that counts."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from generation.states import TRANSITIONS
from tests.fakes.control import FakeProvider
from tests.fakes.journal import Call
from tests.support.databases import database
from tests.support.stack import Stack, prepared_database, wait_until
from tests.support.valkey import Valkey

ENDED = {"completed", "failed", "cancelled"}
LEASE_SECONDS = 2.0
#: Set to ``full``, what lasts takes as long as it would in earnest (``make faults``).
_FULL = os.environ.get("FAULTS") == "full"
_EDGES = {(edge.source or "", edge.target, edge.reason) for edge in TRANSITIONS}


def lasting(seconds: float, *, full: float) -> float:
    """How long something goes on: so long in the everyday suite, and so long in full."""
    return full if _FULL else seconds


class House:
    """What a test breaks and what it looks at afterwards."""

    def __init__(self, stack: Stack, provider: FakeProvider, valkey: Valkey, database_url: str) -> None:
        self.stack = stack
        self.provider = provider
        self.valkey = valkey
        self.database_url = database_url
        self._database = database(database_url)
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
        query = "SELECT count(*) AS n FROM generation_workers WHERE kind = 'worker' AND seen_at > %s"
        heartbeat = timedelta(milliseconds=int(self.stack.env["LEASE_MS"])) / 3

        def up() -> bool:
            since = datetime.now(UTC) - heartbeat - timedelta(seconds=2)
            return bool(self.rows(query, since)[0]["n"] >= workers)

        wait_until(up, seconds=30, what=f"{workers} workers")

    def locked(self, table: str, key: str, value: str) -> AbstractContextManager[None]:
        """Hold a row of the database, so that whoever wants to write it stops right there."""
        return self.holding(f"SELECT 1 FROM {table} WHERE {key} = %s FOR UPDATE", value)  # noqa: S608  a test's own

    def holding(self, statement: str, *parameters: Any) -> AbstractContextManager[None]:
        """Do this in the database and neither commit it nor let go, so that others wait for what it locks."""
        return self._database.holding(statement, *parameters)

    def wait_for_blocked(self) -> None:
        """Until somebody waits for a lock."""
        query = "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_until(lambda: self.rows(query)[0]["n"] > 0, what="somebody who waits for the lock")

    def cut(self, which: str = "true") -> int:
        """End the connections to the database, all but one's own, or those of which this condition on
        ``pg_stat_activity`` is true. Returns how many."""
        ours = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        query = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours} AND {which}"  # noqa: S608
        return len(self.rows(query))

    def execute(self, statement: str, *parameters: Any) -> None:
        """Change the database."""
        self._database.execute(statement, *parameters)

    def try_submit(self, number: int, *, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        """Submit the so-many-th dragon, whatever the answer; the number tells its calls apart."""
        body = {"type": "illustration", "prompt": f"Dragon number {number:06d} in a garden", **more}
        return self.alice.post("/submit", json=body, headers=headers)

    def submit(self, number: int, **more: Any) -> str:
        """Submit the so-many-th dragon, which must be accepted."""
        answer = self.try_submit(number, **more)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["requestId"])

    def calls(self, number: int) -> list[Call]:
        """The calls for the so-many-th dragon."""
        return [call for call in self.provider.journal() if f"number {number:06d} " in call.prompt]

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

    def assert_whole(self, *, media: Path | None = None) -> None:
        """The invariants that hold whatever was broken."""
        requests = {row["id"]: row for row in self.rows("SELECT * FROM generation_requests")}
        changes = self.rows("SELECT * FROM generation_status_changes ORDER BY request_id, sequence")
        seen: dict[str, list[dict[str, Any]]] = {}
        for change in changes:
            seen.setdefault(change["request_id"], []).append(change)
        assert set(seen) == set(requests)
        for request_id, history in seen.items():
            # Only steps of the table, numbered without gaps, each from where the last one led.
            assert [change["sequence"] for change in history] == list(range(1, len(history) + 1)), request_id
            before = ""
            for change in history:
                assert change["from_status"] == before
                assert (before, change["to_status"], change["reason"]) in _EDGES
                before = change["to_status"]
            assert before == requests[request_id]["status"]
        # A ledger row exists exactly while its request is queued.
        queued = {request_id for request_id, row in requests.items() if row["status"] == "queued"}
        assert {row["request_id"] for row in self.rows("SELECT request_id FROM generation_queue")} == queued
        # Every call belongs to an attempt of its own, and none follows one whose picture was kept.
        calls = Counter(call.prompt.partition(" in a garden")[0] for call in self.provider.journal())
        attempts = Counter(
            row["prompt"].partition(" in a garden")[0]
            for row in self.rows("SELECT prompt FROM generation_attempts WHERE call_started_at IS NOT NULL")
        )
        assert not calls - attempts, calls - attempts
        if media is not None:
            for row in requests.values():
                if row["status"] == "completed":
                    data = (media / row["result"]["image_key"]).read_bytes()
                    assert hashlib.sha256(data).hexdigest() == row["result"]["sha256"]


@contextmanager
def built(folder: Path, *, server: str = "", **settings: str) -> Iterator[House]:
    """A house with tables and people, in a database of this server if not of the tests' own; nothing runs in it yet."""
    with prepared_database(server) as database_url, FakeProvider() as provider, Valkey(folder / "valkey") as valkey:
        stack = Stack(
            folder,
            DATABASE_URL=database_url,
            REDIS_URL=valkey.url,
            PROVIDERS="openai",
            OPENAI_API_KEY="sk-only-for-tests",
            OPENAI_BASE_URL=provider.openai_url,
            **{"LEASE_MS": str(int(LEASE_SECONDS * 1000)), "SUBMIT_RATE": "1000000/m"} | settings,
        )
        house = House(stack, provider, valkey, database_url)
        try:
            yield house
        finally:
            house.close()
            stack.stop_all()


__all__ = ["ENDED", "LEASE_SECONDS", "House", "built", "lasting"]
