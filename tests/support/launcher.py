"""``python -m config.local.stack``, run as by a person at a terminal, and a look at what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.local.valkey import free_port
from tests.support.stack import ROOT, wait_until

_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
#: For a whole demo: start, images, stop.
_DEMO_SECONDS = 240.0


def bare_environment(**settings: str) -> dict[str, str]:
    """What a new shell has, and these settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TERM", "TMPDIR") if name in os.environ}
    return kept | settings


def processes_of(folder: Path) -> list[int]:
    """Every process that was started with ``VAR_DIR`` in the folder, or works in it, by the kernel's own lists."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            environment = (process / "environ").read_bytes() if process.name.isdigit() else b""
            if f"VAR_DIR={folder}".encode() in environment or Path(os.readlink(process / "cwd")).is_relative_to(folder):
                found.append(int(process.name))
        except (OSError, ValueError):
            continue  # ended meanwhile, or no process at all
    return found


class Launcher:
    """One run of the launcher, in a session of its own as in a terminal of its own."""

    def __init__(self, command: str, var: Path, **settings: str) -> None:
        self.var = var
        self.port, self.realtime_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        usual = {"PORT": str(self.port), "REALTIME_PORT": str(self.realtime_port)}
        usual["WEB_WORKERS"] = "1"  # each takes most of a second of the processor to start
        self._output = var.with_name(f"{var.name}-{self.port}.out")
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "config.local.stack", command],
                cwd=ROOT,
                env=bare_environment(**{"VAR_DIR": str(var)} | usual | settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                # As a shell does; these tests may themselves run under nohup.
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
            )

    @property
    def lines(self) -> list[str]:
        """What it printed so far."""
        return self._output.read_text().splitlines()

    def line(self, beginning: str) -> str:
        """The line that begins so; fails where there is none."""
        found = [line for line in self.lines if line.startswith(beginning)]
        assert found, f"no line begins with {beginning!r}: {self.lines}"
        return found[-1]

    def wait_ready(self) -> None:
        """Until it says so; fails where it ends before."""

        def ready() -> bool:
            assert self.process.poll() is None, self.lines
            return any(line.startswith("Ready: ") for line in self.lines)

        wait_until(ready, seconds=_START_SECONDS, what="the Ready line")

    def press(self, number: signal.Signals) -> None:
        """Send the signal to all that the terminal would send it to."""
        os.killpg(self.process.pid, number)

    def wait(self) -> int:
        """Until it has ended; returns the exit code."""
        return self.process.wait(_DEMO_SECONDS)

    def wait_nothing_left(self) -> None:
        """Until no process of this run is there."""
        wait_until(lambda: not processes_of(self.var), seconds=_STOP_SECONDS, what="an end of every process")


@contextmanager
def launched(command: str, var: Path, **settings: str) -> Iterator[Launcher]:
    """A launcher that is gone after the block, whatever happens in it."""
    launcher = Launcher(command, var, **settings)
    try:
        yield launcher
    finally:
        if launcher.process.poll() is None:
            launcher.press(signal.SIGTERM)
            launcher.wait()


def fault(var: Path, command: str = "run", **settings: str) -> str:
    """The one line with which the launcher refuses to start."""
    with launched(command, var, **settings) as launcher:
        assert launcher.wait() == 1, launcher.lines
        (line,) = launcher.lines
        return line
