"""A stack whose provider is a fake OpenAI, and the official SDK as its client."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.fakes.control import FakeProvider
from tests.support.databases import Database
from tests.support.stack import Stack, prepared_stack, wait_until

PROMPT = "A friendly dragon playing in a garden"


class OpenAIStack:
    """The processes, the fake vendor behind them, and clients in front of them."""

    def __init__(self, stack: Stack, fake: FakeProvider, key: str) -> None:
        self.stack, self.fake, self.key = stack, fake, key
        self.base_url = f"http://127.0.0.1:{stack.realtime_port}/v1"
        self.database = Database(stack.env["DATABASE_URL"])
        self._closing = contextlib.ExitStack()
        self.raw = httpx2.Client(base_url=self.base_url, headers={"Authorization": f"Bearer {key}"}, timeout=30)

    def sdk(self, **options: Any) -> openai.OpenAI:
        """Return a client of the official SDK, which is closed after the test."""
        given: dict[str, Any] = {"base_url": self.base_url, "api_key": self.key, "timeout": 30.0} | options
        return self._closing.enter_context(openai.OpenAI(**given))

    def generate(self, body: Any = None, **headers: str) -> httpx2.Response:
        """Call without an SDK."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.raw.post("/images/generations", json=body or {"prompt": PROMPT}, headers=named)

    @property
    def calls(self) -> int:
        """The number of calls that the vendor got."""
        return self.fake.stats().count

    def new_requests(self) -> list[dict[str, Any]]:
        """Return the rows of the test's requests, the oldest first."""
        return self.database.rows("SELECT * FROM generation_requests ORDER BY id")

    def wait_for(self, status: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until so many of the test's requests have this status, and return them."""

        def look() -> list[dict[str, Any]]:
            found = [row for row in self.new_requests() if row["status"] == status]
            return found if len(found) >= count else []

        found: list[dict[str, Any]] = wait_until(look, what=f"{count} requests in {status}")
        return found

    def end(self) -> None:
        """Close the clients of the test, and let the vendor answer what it holds."""
        self._closing.close()
        self.fake.release()

    def forget(self) -> None:
        """Let the next test begin with an empty journal, and without requests that it could join."""
        self.fake.reset()
        self.database.execute("TRUNCATE generation_requests, generation_idempotency_keys CASCADE")


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAIStack]:
    folder: Path = tmp_path_factory.mktemp("openai")
    with FakeProvider() as fake:
        vendor = {"OPENAI_API_KEY": "sk-only-for-tests", "OPENAI_BASE_URL": fake.openai_url, "PROVIDERS": "openai"}
        more = {"SUBMIT_RATE": "1000000/m", "MAX_CONCURRENT_REQUESTS": "2"}
        with prepared_stack(folder, **vendor, **more) as stack:
            stack.start("web", "realtime", "worker", "dispatcher")
            stack.wait_ready()
            with contextlib.closing(stack.client()) as alice:
                made = alice.post("/keys", json={"name": "SDK", "scopes": ["requests:read", "requests:write"]})
            running = OpenAIStack(stack, fake, made.raise_for_status().json()["key"])
            with running.raw:
                yield running


@pytest.fixture
def vendor(running: OpenAIStack) -> Iterator[OpenAIStack]:
    running.forget()
    yield running
    running.end()
