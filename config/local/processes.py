"""The Procfile's processes, run by honcho: started together, logged line by line, stopped together."""

from __future__ import annotations

import functools
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from honcho.manager import Manager
from honcho.printer import Message, Printer
from honcho.process import Popen

from config.local.parent_death import ending_with_this

_LOG_BYTES = 10_000_000


class Console(Printer):  # type: ignore[misc]  # honcho has no types
    """Writes each process's lines to ``logs/NAME.log`` and, unless ``quiet``, to the terminal.

    A log file is kept for this run and the one before, and is bounded.
    """

    def __init__(self, logs: Path, *, quiet: bool) -> None:
        super().__init__(sys.stdout)
        self._directory = logs
        self._files: dict[str, RotatingFileHandler] = {}
        self._shows_processes = not quiet
        self._terminal_is_there = True

    def log_of(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    def write(self, message: Message) -> None:
        if message.name is None:
            self.say(message.data)
            return
        line = message.data.decode("utf-8", "replace") if isinstance(message.data, bytes) else message.data
        self._file_of(message.name).emit(logging.makeLogRecord({"msg": line.rstrip("\n")}))
        if self._shows_processes and self._terminal_is_there:
            # Without its terminal or pipe the stack goes on, and the log files have all lines.
            try:
                super().write(message)
            except OSError:
                self._terminal_is_there = False

    def say(self, line: str) -> None:
        """Print a line of the launcher itself, which stands out among those of the processes."""
        emphasis = "\033[1m{}\033[0m" if sys.stdout.isatty() else "{}"
        try:
            print(emphasis.format(line) + "\n", end="", flush=True)
        except OSError:
            self._terminal_is_there = False

    def _file_of(self, name: str) -> RotatingFileHandler:
        if name not in self._files:
            path = self.log_of(name)
            self._files[name] = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=1, encoding="utf-8")
            if path.stat().st_size:
                self._files[name].doRollover()
        return self._files[name]


class ProcessGroup(Manager):  # type: ignore[misc]
    """Runs the commands until one of them ends or a signal comes, and then stops them all.

    ``companion`` runs in a thread beside them. ``culprit`` names the process that ended by itself, with its exit code.
    """

    def __init__(
        self, commands: Mapping[str, str], directory: Path, console: Console, companion: Callable[[ProcessGroup], None]
    ) -> None:
        super().__init__(console)
        self.events: queue.Queue[Message] = queue.Queue()
        self._companion = companion
        self._asked_to_stop = False
        self.culprit: tuple[str, int] | None = None
        for name, command in commands.items():
            process = self.add_process(name, command, cwd=directory)
            process._child_ctor = functools.partial(Popen, preexec_fn=ending_with_this())

    def say(self, line: str) -> None:
        """Print a line from any thread, between those of the processes."""
        self.events.put(Message("line", line, datetime.now(), None, None))  # noqa: DTZ005  as honcho does

    def stop(self) -> None:
        """End the loop from any thread, as a signal would."""
        os.kill(os.getpid(), signal.SIGTERM)

    def end_with(self, name: str, server: subprocess.Popen[bytes]) -> None:
        """Stop the processes if an embedded server ends before them."""

        def watch() -> None:
            code = server.wait()
            if not self._asked_to_stop:
                self.culprit = (name, code)
                self.stop()

        threading.Thread(target=watch, name=name, daemon=True).start()

    def terminate(self) -> None:
        """Stop every process. honcho calls this on a signal, and when a process has ended by itself."""
        self._asked_to_stop = True
        if not self._all_started():
            return  # honcho cannot stop a process that it has not seen start; see _system_print
        if not self._terminating and self.culprit is None:
            self.culprit = next(iter(self._ended()), None)
        super().terminate()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self.kill())  # a second signal means not to wait

    def _ended(self) -> list[tuple[str, int]]:
        children = [(name, known["obj"]._child) for name, known in self._processes.items()]
        return [(name, child.returncode) for name, child in children if child and child.poll() is not None]

    def _a_child_ended(self, *_: object) -> None:
        if not self._asked_to_stop and self._ended():
            self.terminate()

    def _start(self) -> None:
        # honcho waits for the end of a process's output, which children of a killed process may hold open.
        signal.signal(signal.SIGCHLD, self._a_child_ended)
        # honcho would fork itself for each process, to read its lines; threads do it in a quarter of the memory.
        for name, known in self._processes.items():
            known["process"] = threading.Thread(target=known["obj"].run, args=(self.events,), name=name, daemon=True)
            known["process"].start()
        threading.Thread(target=self._companion, args=(self,), name="companion", daemon=True).start()

    def _system_print(self, data: str) -> None:
        # honcho's lines on each start and stop are not printed; that on a start may end a wait.
        if self._asked_to_stop and not self._terminating:
            self.terminate()
