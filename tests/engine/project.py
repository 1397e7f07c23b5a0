"""A deployment: a copy of the files that a team has, and ``docker compose`` in it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2

from config.local.valkey import free_port
from tests.engine.daemon import Engine
from tests.support.stack import PASSWORD, PEOPLE, ROOT, wait_until

#: What the files of a deployment are; the folder must not have what a developer's working tree has besides.
_FILES: Final = ("Dockerfile", ".dockerignore", "docker-compose.yml", "manage.py", "requirements.txt")
_FOLDERS: Final = ("config", "deploy", "generation", "templates", "workers")
#: The services that have a health check, and so are waited for.
SERVICES: Final = ("web", "realtime", "worker", "dispatcher", "deliverer", "postgres", "valkey", "proxy")
#: The first process of our containers is an init; this ends its child, as a crash does.
_CRASH: Final = "import os; os.kill(int(open('/proc/1/task/1/children').read().split()[0]), 9)"
#: What ``note`` told since a test was reported.
NOTES: Final[list[str]] = []
#: More than the longest grace period, so that a stop that takes all of it is told by its cause.
_UP_SECONDS: Final = 300
Done = subprocess.CompletedProcess[str]


class Project:
    """``compose`` runs any command. The rest are commands of ``docs/operations.md`` and what tests look at."""

    def __init__(self, engine: Engine, folder: Path, *, name: str, **settings: str) -> None:
        """``settings`` are what an operator writes into ``.env``."""
        self.engine, self.folder, self.name = engine, folder, name
        for file in _FILES:
            shutil.copy(ROOT / file, folder)
        unwanted = shutil.ignore_patterns("__pycache__", "secrets")
        for tree in _FOLDERS:
            shutil.copytree(ROOT / tree, folder / tree, ignore=unwanted)
        self.port, secure = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.secrets = folder / "deploy" / "secrets"
        self.settings = {
            "COMPOSE_PROJECT_NAME": name,
            "PUBLIC_BASE_URL": self.url,
            "HTTP_PORT": f"127.0.0.1:{self.port}",
            "HTTPS_PORT": f"127.0.0.1:{secure}",
            "APP_IMAGE": f"{name}:latest",
        }
        self.settings |= engine.images | settings
        self.write_settings()

    @property
    def image(self) -> str:
        """The image of its processes."""
        return self.settings["APP_IMAGE"]

    def write_settings(self, *, newline: str = "\n", **changes: str) -> None:
        """Write ``.env``."""
        self.settings |= changes
        lines = [f"{name}={value}" for name, value in self.settings.items()]
        (self.folder / ".env").write_text("\n".join([*lines, ""]), newline=newline)

    # --- Commands ---

    def make_secrets(self, **own: str) -> None:
        """``deploy/make-secrets.sh``, after an operator has put files of their own there."""
        self.secrets.mkdir(exist_ok=True)
        for name, value in own.items():
            self.set_secret(name, value)
        subprocess.run([self.folder / "deploy/make-secrets.sh"], cwd=self.folder, check=True, capture_output=True)

    def set_secret(self, name: str, value: str) -> None:
        """Write the file of a secret."""
        path = self.secrets / name
        if path.exists():
            path.chmod(0o644)
        path.write_text(value)

    def compose(self, *arguments: str, seconds: float = 180, check: bool = True, given: str | None = None) -> Done:
        """``docker compose …``"""
        try:
            done = self.engine.run("compose", *arguments, cwd=self.folder, seconds=seconds, given=given)
        except subprocess.TimeoutExpired as error:
            states = self.engine.run("compose", "ps", "--all", cwd=self.folder).stdout
            raise AssertionError(f"{error}\n{states}\n{self.compose_logs()}") from None
        if check and done.returncode != 0:
            raise AssertionError(f"docker compose {' '.join(arguments)}: {said(done)}\n{self.compose_logs()}")
        return done

    def build(self) -> None:
        """Build the image of the processes."""
        self.compose("build", seconds=900)

    def type(self, command: str) -> str:
        """The output of a command line; fails if it fails."""
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env=dict(self.engine.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, f"{command}: {said(done)}\n{self.compose_logs()}"
        return done.stdout

    def up(self, *arguments: str, scale: dict[str, int] | None = None, check: bool = True) -> Done:
        """Start what does not run, and wait until it is healthy. The arguments are options and services."""
        counts = [part for name, count in (scale or {}).items() for part in ("--scale", f"{name}={count}")]
        return self.compose("up", "--detach", "--wait", *counts, *arguments, seconds=_UP_SECONDS, check=check)

    def down(self) -> None:
        """Remove containers, network and data."""
        self.compose("down", "--volumes", "--timeout", "2", check=False)

    def run(self, service: str, *command: str, check: bool = True) -> Done:
        """Run a command in a new container of the service."""
        return self.compose("run", "--rm", "--no-TTY", service, *command, check=check)

    def execute(self, service: str, *command: str, index: int = 1, user: str = "", check: bool = True) -> str:
        """The output of a command in a running container of the service."""
        whom = ["--user", user] if user else []
        return self.compose("exec", "--no-TTY", *whom, "--index", str(index), service, *command, check=check).stdout

    def sql(self, statement: str) -> list[list[str]]:
        """The rows of a statement, run as the database's superuser."""
        options = ["--username", "postgres", "--dbname", "visual_generation", "--tuples-only", "--no-align"]
        out = self.execute("postgres", "psql", "--no-psqlrc", *options, "--command", statement)
        return [line.split("|") for line in out.splitlines() if line]

    def crash(self, service: str, index: int = 1) -> None:
        """Kill a process of ours from inside. The engine starts its container again, by the restart policy."""
        self.execute(service, "python", "-c", _CRASH, index=index, check=False)

    def kill(self, service: str) -> None:
        """``docker kill`` the first container of the service. It stays down until the next ``up``."""
        self.engine.docker("kill", "--signal", "KILL", self.containers(service)[0])

    # --- What is there ---

    def containers(self, service: str) -> list[str]:
        """The ids of its containers."""
        return self.compose("ps", "--all", "--quiet", service).stdout.split()

    def inspect(self, service: str) -> dict[str, Any]:
        """Its first container, as the engine describes it."""
        found: list[dict[str, Any]] = json.loads(self.engine.docker("inspect", self.containers(service)[0]))
        return found[0]

    def health(self) -> dict[str, list[str]]:
        """Service → the health of each of its containers, or its state if it has no health check."""
        found: dict[str, list[str]] = {}
        for line in self.compose("ps", "--all", "--format", "json").stdout.splitlines():
            one = json.loads(line)
            found.setdefault(one["Service"], []).append(one["Health"] or one["State"])
        return found

    def logs(self, *services: str) -> str:
        """What they wrote."""
        done = self.compose("logs", "--no-color", "--no-log-prefix", *services)
        return done.stdout + done.stderr

    def compose_logs(self) -> str:
        """The last lines of all services, for the message of a failure."""
        done = self.engine.run("compose", "logs", "--no-color", "--tail", "15", cwd=self.folder)
        return done.stdout[-6000:]

    # --- Clients ---

    def make_people(self) -> None:
        """The people of the tests."""
        script = "from django.contrib.auth.models import User\n" + "\n".join(
            f"User.objects.create_user({name!r}, password={PASSWORD!r}, is_staff={staff})"
            for name, staff in PEOPLE.items()
        )
        self.run("web", "python", "manage.py", "shell", "-v0", "-c", script)

    def token(self, name: str = "alice") -> str:
        """A token of this user."""
        answer = httpx2.post(f"{self.url}/api/token", json={"username": name, "password": PASSWORD}, timeout=30)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access"])

    def client(self, name: str = "alice") -> httpx2.Client:
        """A client that is signed in, through the proxy."""
        headers = {"Authorization": f"Bearer {self.token(name)}"}
        return httpx2.Client(base_url=f"{self.url}/api/visual-generation", headers=headers, timeout=60)

    def is_ready(self) -> bool:
        """Whether ``/readyz`` says so through the proxy."""
        try:
            return httpx2.get(f"{self.url}/readyz", timeout=10).status_code == 200
        except httpx2.TransportError:
            return False

    def wait_ready(self, seconds: float = 60) -> None:
        """Until it is."""
        wait_until(self.is_ready, seconds=seconds, what="a ready deployment")


def said(done: Done) -> str:
    """The output of a command."""
    return f"{done.stdout[-2000:]}{done.stderr[-4000:]}"


@contextmanager
def deployment(engine: Engine, folder: Path, *, name: str, **settings: str) -> Iterator[Project]:
    """A project that is removed at the end; nothing is started yet. It has a name of its own for the image that is
    built, which it may build again, unless the settings name one."""
    project = Project(engine, folder, name=name, **settings)
    if "APP_IMAGE" not in settings:
        engine.docker("tag", engine.image, project.image)
    try:
        yield project
    finally:
        project.down()


def submit(client: httpx2.Client, prompt: str, **more: Any) -> str:
    """Submit a request; its id."""
    answer = client.post("/submit", json={"type": "illustration", "prompt": prompt} | more)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["requestId"])


def ended(client: httpx2.Client, request_id: str, *, seconds: float = 60) -> dict[str, Any]:
    """The request once it has ended. While a server is away its status cannot be read."""

    def look() -> dict[str, Any] | None:
        try:
            answer = client.get(f"/status/{request_id}?imageData=false")
        except httpx2.TransportError:
            return None
        if answer.status_code >= 500:
            return None
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found if found["status"] in {"completed", "failed", "cancelled"} else None

    found: dict[str, Any] = wait_until(look, seconds=seconds, what="an end")
    return found


def note(text: str) -> None:
    """Tell a measured figure at the end of the run."""
    NOTES.append(text)
