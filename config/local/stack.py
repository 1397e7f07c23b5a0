"""``python -m config.local.stack run`` (or ``demo``): the whole product on one machine, from one command.

Starts the embedded servers that the settings do not replace, brings the database up to date, and runs the processes of
the Procfile, as in production, until Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import http.client
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from honcho.environ import parse_procfile

from config import env
from config.local import demo, demo_book
from config.local.parent_death import ending_with_this
from config.local.postgresql import running_postgresql
from config.local.processes import Console, ProcessGroup
from config.local.valkey import free_port, running_valkey
from config.startup import lines

ROOT = Path(__file__).resolve().parents[2]
_READY_SECONDS = 60.0
#: The setting that replaces a server, the server's name, and the function that runs it. The database stops last.
_EMBEDDED = (
    ("DATABASE_URL", "postgresql", running_postgresql),
    ("REDIS_URL", "valkey", running_valkey),
)
#: A demo gets the address, a user's name and password, and the folder for its images. Raises ``DemoError``.
Demo = Callable[[str, str, str, Path], None]
_DEMOS: dict[str, Demo] = {"demo": demo.draw, "demo-book": demo_book.draw}
#: Variables that would lead the demo to a real database, account or bill.
_NOT_FOR_THE_DEMO = (
    *("ALLOWED_HOSTS", "BIND_HOST", "CDN_BASE_URL", "DATABASE_URL", "DEMO_PASSWORD", "DEMO_USERNAME", "PROVIDERS"),
    *(
        "GOOGLE_API_KEY",
        "GOOGLE_CLOUD_PROJECT_ID",
        "OPENAI_API_KEY",
        "PUBLIC_BASE_URL",
        "REDIS_URL",
        "RESULT_STORAGE",
        "SENTRY_DSN",
        "STABILITY_API_KEY",
    ),
)


class DemoUser(NamedTuple):
    """The first user of the embedded database."""

    username: str
    password: str


def _fail(sentence: str) -> NoReturn:
    sys.exit(f"error: {sentence}")


# --- Before anything is started ---------------------------------------------------------------------------------------


def prepare_environment(*, for_demo: bool) -> None:
    """Set the environment of this process and the others."""
    if for_demo:
        var = env.directory("VAR_DIR", ROOT / "var") / "demo"
        for name in _NOT_FOR_THE_DEMO:
            os.environ.pop(name, None)
            os.environ.pop(f"{name}_FILE", None)
        ports = {"PORT": str(free_port()), "REALTIME_PORT": str(free_port())}
        os.environ |= {"VAR_DIR": str(var), "DEBUG": "true", "WEB_WORKERS": "1", **ports}
    else:
        env.read_file(ROOT / ".env")
        if not env.present("DEBUG"):
            os.environ["DEBUG"] = "true"
            if env.present("DATABASE_URL"):
                print("Note: DEBUG is on. Set DEBUG=false if others can reach this.", flush=True)
    # The Procfile's programs are those of this Python.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    os.environ["PYTHONUNBUFFERED"] = "1"
    os.environ["END_WITH_PARENT"] = "1"
    # System checks run once, with the migrations. And a user who is root on a laptop or in CI knows it.
    os.environ["CELERY_SKIP_CHECKS"] = "1"
    os.environ.setdefault("PYTHONWARNINGS", "ignore:You're running the worker with superuser privileges")


@contextlib.contextmanager
def sole_use(directory: Path) -> Iterator[None]:
    """Lock the directory for this stack. Exit if another stack has it."""
    with (directory / "stack.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            _fail(f"{directory} is in use by a stack that is running (process {lock.read()}): stop it, or set VAR_DIR")
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def check_port(host: str, name: str, port: int) -> None:
    """Exit if the port cannot be used."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as fault:
        reason = "is taken" if fault.errno == errno.EADDRINUSE else f"cannot be used on {host} ({fault.strerror})"
        _fail(f"port {port} {reason}: set {name} to another one")


def start_servers(held: contextlib.ExitStack, var: Path) -> dict[str, subprocess.Popen[bytes]]:
    """Start the embedded servers that the settings do not replace, until ``held`` is closed, and return them by name.

    Exit with one line if one of them does not start.
    """
    servers = {}
    for setting, name, running in _EMBEDDED:
        if env.present(setting):
            continue
        if name == "postgresql" and (old := var / "db.sqlite3").exists() and not (var / name).exists():
            print(
                f"Note: {old} is the SQLite database of an earlier version. "
                "It is kept and not read: this version starts with an empty PostgreSQL database.",
                flush=True,
            )
        try:
            servers[name] = held.enter_context(running(var / name, var / "logs" / f"{name}.log"))
        except RuntimeError as fault:
            _fail(str(fault))
        except OSError as fault:
            _fail(f"{fault.filename or var / name}: {fault.strerror}")
    return servers


def bring_database_up_to_date() -> DemoUser | None:
    """Migrate in a separate process, to keep the launcher small, and return the demo user if there is one."""
    command = [sys.executable, "-m", "config.local.bootstrap"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, preexec_fn=ending_with_this())
    if done.returncode:
        sys.exit(done.stderr.strip() or f"error: the migrations ended with exit code {done.returncode}")
    found = json.loads(done.stdout)
    return DemoUser(*found) if found else None


# --- While it runs ----------------------------------------------------------------------------------------------------


class Stack:
    """The stack to run: its addresses by the settings, and its readiness."""

    def __init__(self, settings: ModuleType) -> None:
        bind = env.text("BIND_HOST", "127.0.0.1")
        self.bind = bind
        self.host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104  a comparison
        self.port: int = settings.PORT
        self.realtime_port: int = settings.REALTIME_PORT
        self.logs: Path = settings.VAR_DIR / "logs"
        self._known_as = urlsplit(settings.PUBLIC_BASE_URL).netloc

    @property
    def url(self) -> str:
        return self._at(self.port)

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's clients."""
        return f"{self._at(self.realtime_port)}/v1"

    def _at(self, port: int) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{port}"

    def missing(self) -> list[str]:
        """Return the names of the parts that are not up yet; empty once requests and live updates are served."""
        try:
            with contextlib.closing(http.client.HTTPConnection(self.host, self.port, timeout=5)) as connection:
                connection.request("GET", "/readyz", headers={"Host": self._known_as})
                response = connection.getresponse()
                checks = json.loads(response.read())["checks"]
        except (OSError, http.client.HTTPException, ValueError, LookupError):
            return ["web"]
        try:
            socket.create_connection((self.host, self.realtime_port), timeout=5).close()
        except OSError:
            checks["realtime"] = "unreachable"
        return [name for name, state in checks.items() if state != "ok"]

    def wait_until_ready(self, seconds: float) -> list[str]:
        """Wait at most this long and return the parts that are still missing."""
        deadline = time.monotonic() + seconds
        while (missing := self.missing()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return missing


def launch(settings: ModuleType, *, show: Demo | None) -> int:
    """Run until a signal comes, or until the demo to show is over. Exit with one line if a process ends by itself."""
    stack = Stack(settings)
    try:
        stack.logs.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        _fail(f"VAR_DIR {settings.VAR_DIR} cannot be written: {fault.strerror}")
    with contextlib.ExitStack() as held:
        held.enter_context(sole_use(settings.VAR_DIR))
        check_port(stack.bind, "PORT", stack.port)
        check_port(stack.bind, "REALTIME_PORT", stack.realtime_port)
        if show:
            print("Starting the stack ...", flush=True)
        servers = start_servers(held, settings.VAR_DIR)
        user = bring_database_up_to_date()
        problem = ["the demo did not finish"] if show else []

        def announce(group: ProcessGroup) -> None:
            if missing := stack.wait_until_ready(_READY_SECONDS):
                group.say(f"Not ready after {_READY_SECONDS:.0f} s, missing: {', '.join(missing)}. Logs: {stack.logs}")
                stack.wait_until_ready(math.inf)
            if user:
                group.say(f"Demo user: {user.username}  password: {user.password}")
            group.say(f"For OpenAI clients: {stack.openai_url} with an API key from {stack.url}/keys")
            group.say(f"Ready: {stack.url}")
            for name, server in servers.items():
                group.end_with(name, server)

        def demonstrate(group: ProcessGroup, show: Demo) -> None:
            try:
                if missing := stack.wait_until_ready(_READY_SECONDS):
                    raise demo.DemoError(f"the stack is not ready after {_READY_SECONDS:.0f} s: {', '.join(missing)}")
                if user is None:
                    raise demo.DemoError(f"the demo user of {settings.VAR_DIR} is missing: remove that directory")
                show(stack.url, user.username, user.password, settings.VAR_DIR)
                problem.clear()
            except demo.DemoError as fault:
                problem[:] = [str(fault)]
            finally:
                group.stop()

        console = Console(stack.logs, quiet=show is not None)
        commands = parse_procfile((ROOT / "Procfile").read_text()).processes
        group = ProcessGroup(commands, ROOT, console, partial(demonstrate, show=show) if show else announce)
        group.loop()
        culprit = group.culprit
    if culprit:
        name, code = culprit
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        _fail(f"{name} ended by itself ({how}), so everything was stopped; its log is {stack.logs / f'{name}.log'}")
    if problem:
        _fail(f"{problem[0]}; the logs are in {stack.logs}")
    if not show:
        console.say("Stopped")
    return 0


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m config.local.stack", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument("command", choices=["run", *_DEMOS])
    show = _DEMOS.get(parser.parse_args().command)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # and not under nohup
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    try:
        prepare_environment(for_demo=show is not None)
        from config import settings
    except ImproperlyConfigured as fault:
        sys.exit(lines(fault))
    os.environ["VAR_DIR"] = str(settings.VAR_DIR)
    sys.exit(launch(settings, show=show))


if __name__ == "__main__":
    main()
