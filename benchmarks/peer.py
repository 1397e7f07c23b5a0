"""The peer: the design that this product began as, one Express process on PostgreSQL. Its file is not part of this
project; where ``--peer`` names it, it is measured in turns with us, on the same servers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from uuid import uuid4

import httpx2
import psycopg
from psycopg.conninfo import conninfo_to_dict

import tests.servers  # noqa: F401  starts PostgreSQL and Valkey
from config.local.valkey import free_port
from tests.support.stack import ROOT, wait_until

SUBMIT: Final = "/api/visual-generation/submit"
#: ms between two looks of the peer into its queue, which bound what it gets done: it takes no more than its free slots
#: at each. This is the best that was found for it; its own default is 3,000, and 1 was no quicker.
INTERVAL: Final = 5
_PACKAGES: Final = ("express", "ws", "knex", "pg")
_PROVIDER: Final = Path(__file__).with_name("peer.cjs")


@dataclass(frozen=True)
class RunningPeer:
    """One process of it, and a connection to its database."""

    port: int
    database: psycopg.Connection
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        """Where it takes submits."""
        return f"http://127.0.0.1:{self.port}{SUBMIT}"

    def clear(self) -> None:
        """Forget every request."""
        self.database.execute("TRUNCATE generation_requests CASCADE")

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            return httpx2.get(f"http://127.0.0.1:{self.port}/").status_code == 404
        except httpx2.TransportError:
            return False

    def fill(self, count: int) -> None:
        """Queue so many at once."""
        self.database.execute(
            "WITH made AS (INSERT INTO generation_requests (id, type, prompt) "
            "SELECT 'vga_' || gen_random_uuid(), 'illustration', 'A friendly dragon' FROM generate_series(1, %s) "
            "RETURNING id) INSERT INTO generation_queue (request_id, priority_weight) SELECT id, 10 FROM made",
            [count],
        )
        self.database.execute("VACUUM (ANALYZE)")

    def one(self, query: str) -> Any:
        """The first column of the first row."""
        row = self.database.execute(query.encode()).fetchone()
        return row and row[0]


@dataclass(frozen=True)
class Peer:
    """Where its file and its packages are."""

    server: Path
    modules: Path

    @contextlib.contextmanager
    def running(self, *, slots: int = 0, seconds: float = 0.0) -> Iterator[RunningPeer]:
        """Start one with a database of its own, and stop it when the block ends. Without slots it takes submits, and
        runs nothing; a provider takes it so many seconds."""
        with database() as url, psycopg.connect(url, autocommit=True) as connection:
            port = free_port()
            process = self.start(url, port, slots=slots, seconds=seconds)
            peer = RunningPeer(port, connection, process)
            try:
                wait_until(peer.answers, seconds=30, what="the peer")
                yield peer
            finally:
                stop(process)

    def start(self, database_url: str, port: int, *, slots: int = 0, seconds: float = 0.0) -> subprocess.Popen[bytes]:
        """Only the process, in a session of its own."""
        environment = os.environ | {
            "NODE_PATH": str(self.modules),
            "NODE_ENV": "production",
            "SEED_DATABASE_URL": database_url,
            "PORT": str(port),
            "PROVIDER_URL": "",
            "INSTANT_SECONDS": str(seconds),
        }
        if slots:
            environment |= {
                "PROVIDER_URL": "http://127.0.0.1",  # that there is one; it is inside
                "MAX_CONCURRENT_REQUESTS": str(slots),
                "QUEUE_PROCESSING_INTERVAL": str(INTERVAL),
            }
        return subprocess.Popen(
            ["node", "--require", str(_PROVIDER), str(self.server)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(20)


def find(server: Path | None, say: Callable[[str], None]) -> Peer | None:
    """The peer, with its packages installed where they are missing; none, and one line why, where it cannot run."""
    missing = ""
    if server is None:
        missing = "--peer does not name its server.js"
    elif not server.is_file():
        missing = f"there is no {server}"
    elif shutil.which("node") is None or shutil.which("npm") is None:
        missing = "there is no node with npm"
    if missing or server is None:
        say(f"the peer is left out: {missing}")
        return None
    folder = ROOT / "var" / "bench" / "peer"
    modules = folder / "node_modules"
    if not all((modules / name).is_dir() for name in _PACKAGES):
        say("installing the peer's packages")
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *_PACKAGES]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return Peer(server.resolve(), modules)


@contextlib.contextmanager
def database() -> Iterator[str]:
    """An empty database, by an address that libpq and node-postgres both read, also where the server is a socket."""
    server = os.environ["DATABASE_URL"]
    name = f"peer_{uuid4().hex[:12]}"
    where = {key: value for key, value in conninfo_to_dict(server).items() if value and key != "dbname"}
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield f"postgresql:///{name}?{urlencode(where)}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
