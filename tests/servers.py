"""A pytest plugin that starts the real PostgreSQL and Valkey which the tests run against, from their wheels.

It is loaded with ``-p``, before Django reads its settings. ``DATABASE_URL`` and ``REDIS_URL`` that are set are used
instead; the queues of that Redis are emptied by the tests. With ``-n`` every process has servers of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

from config.local.postgresql import running_postgresql
from config.local.valkey import free_port, running_valkey

#: Names the addresses that are of servers which we started.
_STARTED = "TESTS_STARTED"


def temporary_folder() -> Path:
    """A folder that every user may pass through, gone when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="vga-tests-"))
    folder.chmod(0o755)  # some servers do not run as root
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class PostgresServer:
    """The product's embedded PostgreSQL. It keeps its data and its address over restarts, and ends with the tests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "postgresql"
        # It has to survive its own end, not the machine's; waiting for the disk would be most of what the tests do.
        self._settings = {"fsync": "off", "port": str(free_port())}
        self._running = contextlib.ExitStack()
        atexit.register(self.stop)
        self.start()
        self.url = (self._folder / "url").read_text().strip()

    def start(self) -> None:
        """Start it, again after ``stop``."""
        server = running_postgresql(self._folder, self._folder.with_suffix(".log"), **self._settings)
        self.process = self._running.enter_context(server)

    def stop(self) -> None:
        """Stop it, if it runs."""
        self._running.close()


def _postgresql_url(folder: Path) -> str:
    return PostgresServer(folder).url


def _valkey_url(folder: Path) -> str:
    """Only our own server has the password, so what another run of the tests started is never taken for it."""
    running = contextlib.ExitStack()
    atexit.register(running.close)
    running.enter_context(running_valkey(folder / "valkey", folder / "valkey.log"))
    return (folder / "valkey" / "url").read_text().strip()


def _end(*_: object) -> NoReturn:
    pytest.exit("ended by SIGTERM", returncode=128 + signal.SIGTERM)  # in an orderly way, so that servers are stopped


def _prepare() -> None:
    signal.signal(signal.SIGTERM, _end)
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Coverage is measured in the processes of the tests alone: tracing the product's processes takes too long.
        os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    folder = temporary_folder()
    os.environ.setdefault("DEBUG", "true")
    os.environ.setdefault("SECRET_KEY", "only-for-tests-and-long-enough-for-a-key-of-hmac")
    os.environ["VAR_DIR"] = str(folder / "var")
    os.environ["PROVIDERS"] = "clipart"  # whatever key a developer has, no test spends money
    started = os.environ.get(_STARTED, "").split()
    for name, start in (("DATABASE_URL", _postgresql_url), ("REDIS_URL", _valkey_url)):
        # What a run with several processes started for itself is not shared among them.
        if name in started or not os.environ.get(name):
            os.environ[name] = start(folder)
            started.append(name)
    os.environ[_STARTED] = " ".join(started)


# At import, since the settings are read right after the plugins are loaded.
_prepare()


def is_ours(name: str) -> bool:
    """Whether the server with the address in this variable was started for this run, and goes with it."""
    return name in os.environ.get(_STARTED, "").split()


def pytest_report_header(config: pytest.Config) -> list[str]:
    redis = os.environ["REDIS_URL"].rpartition("@")[2]
    return [f"database: {os.environ['DATABASE_URL'].partition(':')[0]}, redis: {redis}"]
