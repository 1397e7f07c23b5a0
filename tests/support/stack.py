"""The processes of the Procfile, run as they are in production, on a database and a Redis of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import httpx
import psycopg
from honcho.environ import parse_procfile

ROOT = Path(__file__).parents[2]
PASSWORD = "a-password-for-tests"
PEOPLE = {"alice": False, "bob": True, "charlie": False}  # name → on the staff
_READY_SECONDS = 30.0


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(holds: Callable[[], Any], *, seconds: float = 20.0, what: str = "it") -> Any:
    """The first true value; fails when the deadline passes without one."""
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {seconds:g} s")
        time.sleep(0.02)
    return value


class Stack:
    """Starts and stops processes by their name in the Procfile. Their output is in ``logs``."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.port, self.realtime_port = free_port(), free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.logs = folder / "logs"
        self.logs.mkdir()
        self._commands = dict(parse_procfile((ROOT / "Procfile").read_text()).processes)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.env = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "VAR_DIR": str(folder / "var"),
            "DEBUG": "false",
            "ALLOWED_HOSTS": "127.0.0.1",
            "PORT": str(self.port),
            "REALTIME_PORT": str(self.realtime_port),
            "PUBLIC_BASE_URL": self.base_url,
            "QUEUE_PROCESSING_INTERVAL": "200",
            "RETRY_DELAY_MS": "200",
            "TOKEN_RATE": "1000000/m",
            **settings,
        }

    def manage(self, *arguments: str) -> str:
        """Run ``manage.py`` and return what it printed."""
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.env, check=True, capture_output=True, text=True).stdout

    def prepare(self) -> None:
        """Make the tables and the people."""
        self.manage("migrate", "-v0")
        script = "from django.contrib.auth.models import User\n" + "\n".join(
            f"User.objects.create_user({name!r}, password={PASSWORD!r}, is_staff={staff})"
            for name, staff in PEOPLE.items()
        )
        self.manage("shell", "-v0", "-c", script)

    def start(self, *names: str) -> None:
        """Start the processes; does not wait for them. ``worker:2`` is a second worker, and so on."""
        for name in names:
            with (self.logs / f"{name}.log").open("ab") as log:
                self._running[name] = subprocess.Popen(
                    ["/bin/sh", "-c", self._commands[name.partition(":")[0]]],
                    cwd=ROOT,
                    env=self.env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def stop(self, *names: str, by: signal.Signals = signal.SIGTERM) -> None:
        """Send the signal to the whole process group and wait for its end."""
        for name in names:
            process = self._running.pop(name)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, by)
            process.wait(20)

    def signal(self, name: str, by: signal.Signals) -> None:
        """Send the signal to the whole process group and do not wait."""
        os.killpg(self._running[name].pid, by)

    def has_ended(self, name: str) -> bool:
        """Whether the process ended by itself."""
        return self._running[name].poll() is not None

    def stop_all(self) -> None:
        """End what still runs, at once, also what was paused."""
        for name in list(self._running):
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                os.killpg(self._running[name].pid, signal.SIGCONT)
            self.stop(name, by=signal.SIGKILL)

    def ready(self) -> bool:
        """Whether everything is up, by ``/readyz``."""
        try:
            return httpx.get(f"{self.base_url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def answers(self) -> bool:
        """Whether the web process is up."""
        try:
            return httpx.get(f"{self.base_url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def wait_ready(self) -> None:
        """Until ``/readyz`` says so."""
        wait_until(self.ready, seconds=_READY_SECONDS, what="a stack that is ready")

    def client(self, name: str = "alice") -> httpx.Client:
        """Somebody who is signed in, at the prefix of the API."""
        answer = httpx.post(f"{self.base_url}/api/token", json={"username": name, "password": PASSWORD})
        answer.raise_for_status()
        headers = {"Authorization": f"Bearer {answer.json()['access']}"}
        return httpx.Client(base_url=f"{self.base_url}/api/visual-generation", headers=headers, timeout=20)


@contextmanager
def own_database() -> Iterator[str]:
    """A new database on the server of the tests; for SQLite, the processes' own default file."""
    url = urlsplit(os.environ["DATABASE_URL"])
    if not url.scheme.startswith("postgres"):
        with_file = Path(os.environ["VAR_DIR"]) / f"{uuid4().hex}.sqlite3"
        yield f"sqlite:///{with_file}"
        return
    name = f"stack_{uuid4().hex[:12]}"
    server = urlunsplit(url._replace(scheme="postgresql"))
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield urlunsplit(url._replace(path=f"/{name}"))
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def own_redis() -> Iterator[str]:
    """The tests' Redis, but a numbered database of its own, emptied."""
    import redis

    url = urlunsplit(urlsplit(os.environ["REDIS_URL"])._replace(path="/1"))
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()


@contextmanager
def prepared_stack(folder: Path, **settings: str) -> Iterator[Stack]:
    """A stack with tables and people, and nothing running yet."""
    with own_database() as database_url, own_redis() as redis_url:
        stack = Stack(folder, DATABASE_URL=database_url, REDIS_URL=redis_url, **settings)
        stack.prepare()
        try:
            yield stack
        finally:
            stack.stop_all()
