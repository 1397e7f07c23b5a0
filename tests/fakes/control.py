"""A test's end of a fake: starts it as a process of its own, scripts it, reads its journal."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from tests.fakes.journal import Call

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """What was counted: calls, those that go on, the most that went on at once, connections that carried calls."""

    count: int
    active: int
    max_concurrent: int
    connections: int


class FakeProvider:
    """All fake vendors on one free port, and on one more what speaks gRPC. A context manager; ends with the test
    process at the latest."""

    def __init__(self, *, port: int = 0, journal: Path | None = None) -> None:
        self._port = port
        self._grpc_port = 0
        self._journal = journal
        self._process: subprocess.Popen[str] | None = None
        self._client = httpx2.Client(timeout=20, trust_env=False)
        self.base_url = ""

    def start(self) -> None:
        """Returns when it listens."""
        command = [sys.executable, "-m", "tests.fakes.providers", "--end-with-stdin", "--port", str(self._port)]
        command += ["--grpc-port", str(self._grpc_port)]
        if self._journal:
            command += ["--journal", str(self._journal)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout
        # The ports are kept, so that one that is started again is found where it was.
        self._port, self._grpc_port = map(int, self._process.stdout.readline().split())
        self.base_url = f"http://127.0.0.1:{self._port}"

    def stop(self) -> None:
        """End it at once; its clients see their connections closed."""
        if self._process:
            self._process.kill()
            self._process.communicate(timeout=10)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._client.close()

    @property
    def openai_url(self) -> str:
        """For ``OPENAI_BASE_URL``."""
        return f"{self.base_url}/v1"

    @property
    def stability_url(self) -> str:
        """For ``STABILITY_BASE_URL``."""
        return self.base_url

    @property
    def grpc_host(self) -> str:
        """For ``STABILITY_GRPC_HOST``. There is no server if stability-sdk is not installed."""
        return f"127.0.0.1:{self._grpc_port}"

    @property
    def google_url(self) -> str:
        """For ``GOOGLE_BASE_URL``."""
        return self.base_url

    def script(self, *following: str, default: str = "") -> None:
        """How all calls are answered from now on, and the next ones, one by one, instead: ``delay=0.5``,
        ``status=429;retry-after=7``; :class:`tests.fakes.script.Behavior` lists all. ``""`` is a success at once."""
        self._post("_script", {"default": default, "next": list(following)})

    def answer(self, body: object, *, script: str = "") -> None:
        """Let all calls be answered with this body: JSON, or bytes as they are. The script adds to it."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.script(default=f"body={urlsafe_b64encode(raw).decode()};{script}")

    def release(self) -> None:
        """Let the calls that are held go on."""
        self._post("_release")

    def reset(self) -> None:
        """Forget script and journal."""
        self._post("_reset")

    def stats(self) -> Stats:
        """The numbers alone, which cost nothing however many calls there were."""
        return Stats(**self._get("_stats"))

    @property
    def max_concurrent(self) -> int:
        """The most calls that went on at once."""
        return self.stats().max_concurrent

    def journal(self) -> list[Call]:
        """The calls, in the order in which they came."""
        return [Call(**call) for call in self._get("_journal")["calls"]]

    def _get(self, name: str) -> Any:
        return self._client.get(f"{self.base_url}/{name}").raise_for_status().json()

    def _post(self, name: str, content: object = None) -> None:
        answer = self._client.post(f"{self.base_url}/{name}", json=content)
        assert answer.status_code == 200, answer.text
