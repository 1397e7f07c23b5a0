"""Start the product's processes as forks of one process that has imported their libraries.

Starting Python and importing the libraries takes 1.5 s of a processor for each process, and the fault tests start and
kill hundreds. A fork takes 20 ms. Only libraries are imported before it: the child gets its own environment, session,
output and arguments first, and then runs the same script as the Procfile's command would, with our code from the start.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
#: What the processes import, as far as it needs no settings.
_LIBRARIES: Final = (
    "celery.__main__", "celery.bin.celery", "celery.bin.worker", "celery.bin.amqp", "celery.bin.events",
    "celery.apps.worker", "celery.worker.consumer", "celery.concurrency.thread",
    "kombu.transport.redis", "redis.asyncio", "hiredis",
    "django.core.management", "django.db.models", "django.contrib.postgres.fields", "django.test.client",
    "django.db.backends.postgresql.base", "django.contrib.admin.options", "django.core.cache.backends.redis",
    "psycopg", "psycopg_pool", "psycopg.types.json",
    "channels.layers", "channels_redis.core", "msgpack", "uvicorn.main", "uvicorn.protocols.websockets.websockets_impl",
    "uvloop", "httptools", "granian.cli", "granian.server", "httpx2", "httpcore2", "PIL.Image", "PIL.ImageCms",
    "PIL.PngImagePlugin", "PIL.JpegImagePlugin", "PIL.WebPImagePlugin", "structlog", "prometheus_client",
    "prometheus_client.multiprocess", "cachetools", "environ", "jwt", "cryptography.hazmat.primitives.asymmetric.rsa",
    "yaml", "jsonschema", "inflection", "orjson", "openai", "pydantic", "google.auth.transport.requests",
    "multiprocessing.process", "wsgiref.simple_server", "whitenoise", "csp.constants", "corsheaders.defaults", "psutil",
)  # fmt: skip


class ForkedProcess:
    """A child of the server, with the part of ``subprocess.Popen`` that the tests use."""

    def __init__(self, server: _Server, pid: int) -> None:
        self._server = server
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code (negative for a signal), or None while the process runs."""
        if self.returncode is None:
            self.returncode = self._server.ask({"poll": self.pid})["code"]
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for the end and return the exit code. Raises ``subprocess.TimeoutExpired``."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)
        return code


class _Server:
    """The process that forks, one for each process of the tests. It ends when its socket closes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "tests.support.preloaded", str(theirs.fileno())]
        self._process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()
        self._socket = ours
        self._reader = ours.makefile("rb")
        atexit.register(self._stop)

    def _stop(self) -> None:
        self._reader.close()
        self._socket.close()
        self._process.wait(10)

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Send a question and return the answer."""
        with self._lock:
            self._socket.sendall(json.dumps(question).encode() + b"\n")
            answer: dict[str, Any] = json.loads(self._reader.readline())
        return answer


@functools.cache
def _server() -> _Server:
    return _Server()


def start(command: str, *, environment: Mapping[str, str], log: Path) -> ForkedProcess:
    """Run a command of the Procfile in a session of its own; its output is appended to the log."""
    script = f'set -- {command.removeprefix("exec ")}; printf "%s\\n" "$@"'
    expanded = subprocess.run(
        ["/bin/sh", "-c", script], env=dict(environment), capture_output=True, text=True, check=True
    )
    arguments = expanded.stdout.splitlines()
    if arguments[0] == "python":
        arguments = [str(ROOT / arguments[1]), *arguments[2:]]
    else:
        arguments[0] = str(shutil.which(arguments[0], path=environment["PATH"]))
    log.touch()  # a reader may come before the child has opened it
    question = {"arguments": arguments, "environment": dict(environment), "log": str(log)}
    server = _server()
    return ForkedProcess(server, server.ask(question)["pid"])


# --- In the server ----------------------------------------------------------------------------------------------------


def _run(question: dict[str, Any]) -> None:
    """Become the process: this is a new child."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(question["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.closerange(3, 256)
    os.environ.clear()
    os.environ.update(question["environment"])
    sys.argv = question["arguments"]
    sys.path[0] = str(ROOT)
    runpy.run_path(sys.argv[0], run_name="__main__")


def _serve(connection: socket.socket) -> None:
    for name in _LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError:  # it is imported by the process that needs it
            continue
    codes: dict[int, int] = {}
    reader = connection.makefile("rb")
    for line in reader:
        question = json.loads(line)
        if "poll" in question:
            pid = question["poll"]
            if pid not in codes:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    codes[pid] = os.waitstatus_to_exitcode(status)
            answer: dict[str, Any] = {"code": codes.get(pid)}
        else:
            pid = os.fork()
            if not pid:
                code = 1
                try:
                    _run(question)
                    code = 0
                except SystemExit as end:
                    code = end.code if isinstance(end.code, int) else int(end.code is not None)
                except BaseException:
                    sys.excepthook(*sys.exc_info())
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(code)
            answer = {"pid": pid}
        connection.sendall(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    _serve(socket.socket(fileno=int(sys.argv[1])))
