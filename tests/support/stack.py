"""The processes of the Procfile, run as they are in production, on a database and a Redis of their own."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import httpx2
import psycopg
from honcho.environ import parse_procfile

from config.local.valkey import free_port
from tests.support import preloaded
from tests.support.preloaded import ForkedProcess

ROOT = Path(__file__).parents[2]
PASSWORD = "a-password-for-tests"
#: Name → whether on the staff. One test needs a user who has nothing yet, which is dora.
PEOPLE = {"alice": False, "bob": True, "charlie": False, "dora": False}
_READY_SECONDS = 30.0


@functools.cache
def closed_port() -> int:
    """A port of loopback that refuses connections as long as this process lives: taken, without a server."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    port = int(taken.getsockname()[1])
    taken.detach()  # open until the process ends
    return port


def wait_until(holds: Callable[[], Any], *, seconds: float = 20.0, what: str = "it") -> Any:
    """Return the first true value. Fails when the deadline passes without one, and says how often it looked: a slow
    look may miss a state that lasted a few seconds."""
    started = looked_at = time.monotonic()
    looks, slowest = 0, 0.0
    while not (value := holds()):
        now = time.monotonic()
        looks, slowest = looks + 1, max(slowest, now - looked_at)
        if now > started + seconds:
            looked = f"{looks} looks, the slowest {slowest:.2f} s"
            raise AssertionError(f"{what} did not come within {seconds:g} s ({looked})")
        time.sleep(0.02)
        looked_at = time.monotonic()
    return value


class Stack:
    """Starts and stops processes by their name in the Procfile. Their output is in ``logs``."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.port, self.realtime_port = free_port(), free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.logs = folder / "logs"
        self.logs.mkdir()
        self._commands = dict(parse_procfile((ROOT / "Procfile").read_text()).processes)
        self._running: dict[str, ForkedProcess] = {}
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
            "WEB_WORKERS": "1",  # each takes most of a second of the processor to start
            **settings,
        }

    def manage(self, *arguments: str) -> str:
        """Run ``manage.py`` and return what it printed."""
        return _manage(self.env, *arguments)

    def start(self, *names: str, **settings: str) -> None:
        """Start the processes, with settings of their own; does not wait for them. ``worker:2`` is a second worker,
        and so on."""
        for name in names:
            command = self._commands[name.partition(":")[0]]
            self._running[name] = preloaded.start(
                command, environment=self.env | settings, log=self.logs / f"{name}.log"
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

    def pid(self, name: str) -> int:
        """The process's number, by which a worker or dispatcher names itself."""
        return self._running[name].pid

    def has_ended(self, name: str) -> bool:
        """Whether the process ended by itself."""
        return self._running[name].poll() is not None

    def log(self, name: str) -> str:
        """What the process has written so far."""
        return (self.logs / f"{name}.log").read_text()

    @contextmanager
    def supervised(self, *names: str) -> Iterator[list[str]]:
        """Start the processes and, while this lasts, start again what ends, as a supervisor does. The list names what
        ended, one by one."""
        ended: list[str] = []
        over = threading.Event()

        def supervise() -> None:
            while not over.wait(0.1):
                for name in names:
                    if self.has_ended(name):
                        ended.append(name)
                        self.start(name)

        self.start(*names)
        thread = threading.Thread(target=supervise, name="supervisor")
        thread.start()
        try:
            yield ended
        finally:
            over.set()
            thread.join()

    def stop_all(self) -> None:
        """End what still runs, at once, also what was paused."""
        for name in list(self._running):
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                os.killpg(self._running[name].pid, signal.SIGCONT)
            self.stop(name, by=signal.SIGKILL)

    def ready(self) -> bool:
        """Whether everything is up, by ``/readyz``."""
        try:
            return httpx2.get(f"{self.base_url}/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def answers(self) -> bool:
        """Whether the web process is up."""
        try:
            return httpx2.get(f"{self.base_url}/healthz").status_code == 200
        except httpx2.TransportError:
            return False

    def wait_ready(self) -> None:
        """Until ``/readyz`` says so."""
        wait_until(self.ready, seconds=_READY_SECONDS, what="a stack that is ready")

    def client(self, name: str = "alice", *, token: str = "") -> httpx2.Client:
        """A client that is signed in, or has this access token, at the prefix of the API."""
        if not token:
            answer = httpx2.post(f"{self.base_url}/api/token", json={"username": name, "password": PASSWORD})
            token = answer.raise_for_status().json()["access"]
        headers = {"Authorization": f"Bearer {token}"}
        return httpx2.Client(base_url=f"{self.base_url}/api/visual-generation", headers=headers, timeout=20)


def _manage(environment: Mapping[str, str], *arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


def _prepare(environment: Mapping[str, str]) -> None:
    """Make the tables and the people in the database of this environment."""
    _manage(environment, "migrate", "-v0")
    people = [
        f"User.objects.create_user({name!r}, password={PASSWORD!r}, is_staff={staff})" for name, staff in PEOPLE.items()
    ]
    operators = "Group.objects.get(name='operator').user_set.set(User.objects.filter(is_staff=True))"
    script = "\n".join(["from django.contrib.auth.models import Group, User", *people, operators])
    _manage(environment, "shell", "-v0", "-c", script)


def _on_server(server: str, statement: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement.encode())


def _database_url(server: str, name: str) -> str:
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


@functools.cache
def _template(server: str) -> str:
    """A database with tables and people, made once: copying it takes a tenth of a second, making it several."""
    name = f"stack_{uuid4().hex[:12]}"
    _on_server(server, f"CREATE DATABASE {name}")
    atexit.register(_drop, server, name)
    _prepare(os.environ | {"DATABASE_URL": _database_url(server, name)})
    return name


def _drop(server: str, name: str) -> None:
    with contextlib.suppress(psycopg.OperationalError):  # the server of the tests ended before
        _on_server(server, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def empty_database() -> Iterator[str]:
    """A new database without tables on the server of the tests."""
    server, name = os.environ["DATABASE_URL"], f"empty_{uuid4().hex[:12]}"
    _on_server(server, f"CREATE DATABASE {name}")
    yield _database_url(server, name)
    _on_server(server, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def prepared_database(server: str = "") -> Iterator[str]:
    """A new database with tables and people on this server, else on that of the tests."""
    server = server or os.environ["DATABASE_URL"]
    template = _template(server)
    name = f"stack_{uuid4().hex[:12]}"
    _on_server(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _database_url(server, name)
    _on_server(server, f"DROP DATABASE {name} WITH (FORCE)")


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
    with prepared_database() as database_url, own_redis() as redis_url:
        stack = Stack(folder, DATABASE_URL=database_url, REDIS_URL=redis_url, **settings)
        try:
            yield stack
        finally:
            stack.stop_all()
