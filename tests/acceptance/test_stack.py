"""``make run`` and ``make demo``: what a person sees, and what is left when it is over."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.composed import proportional_mb
from tests.support.launcher import Launcher, bare_environment, fault, launched, processes_of
from tests.support.stack import ROOT, wait_until

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``VAR_DIR`` of a stack that has run, to be copied: making its database takes seconds."""
    folder = tmp_path_factory.mktemp("stopped") / "var"
    with launched("run", folder) as launcher:
        launcher.wait_ready()
    return folder


def copy_of(stopped: Path, folder: Path) -> Path:
    subprocess.run(["cp", "-a", stopped, folder], check=True)  # with the owner of the database
    return folder / stopped.name


@pytest.fixture(scope="module")
def running(stopped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """A stack that is up, for tests that leave it so."""
    with launched("run", copy_of(stopped, tmp_path_factory.mktemp("running"))) as launcher:
        launcher.wait_ready()
        yield launcher


@pytest.fixture
def var(stopped: Path, tmp_path: Path) -> Path:
    """The ``VAR_DIR`` of a stack that has run before."""
    return copy_of(stopped, tmp_path)


class TestRun:
    def test_says_where_it_is_once_it_serves(self, running: Launcher) -> None:
        assert running.line("Ready: ") == f"Ready: {running.url}"
        assert f"/v1 with an API key from {running.url}/keys" in running.line("For OpenAI clients: ")
        answer = httpx2.get(f"{running.url}/readyz")
        assert answer.status_code == 200, answer.text

    def test_realtime_listens(self, running: Launcher) -> None:
        socket.create_connection(("127.0.0.1", running.realtime_port), timeout=5).close()

    def test_the_demo_user_may_sign_in(self, running: Launcher) -> None:
        _, name, password = re.split(r"Demo user: |  password: ", running.line("Demo user: "))
        answer = httpx2.post(f"{running.url}/api/token", json={"username": name, "password": password})
        assert answer.status_code == 200, answer.text
        assert running.lines.index(running.line("Demo user: ")) < running.lines.index(running.line("Ready: "))

    def test_the_pages_come_with_all_that_they_load(self, running: Launcher) -> None:
        page = httpx2.get(f"{running.url}/", follow_redirects=True)
        assert page.url.path == "/sign-in"
        assert f"ws://127.0.0.1:{running.realtime_port}" in page.headers["Content-Security-Policy"]
        loaded = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)
        assert loaded
        for at in [*loaded, "/static/generation/studio.js", "/static/generation/fonts/inter.woff2"]:
            assert httpx2.get(f"{running.url}{at}").status_code == 200, at

    def test_secrets_are_for_their_owner_alone(self, running: Launcher) -> None:
        for name in (
            *("demo_password", "secret_key", "valkey/url"),
            *("postgresql", "postgresql/url", "postgresql/password", "postgresql/data", "logs/postgresql.log"),
        ):
            assert (running.var / name).stat().st_mode & 0o077 == 0, name

    def test_it_needs_little_more_than_half_a_gigabyte(self, running: Launcher) -> None:
        everything = [running.process.pid, *processes_of(running.var)]
        needed = {pid: proportional_mb(pid) for pid in everything}
        assert 200 < sum(needed.values()) < 610, needed  # the tools of the tests bring modules of their own

    def test_each_process_has_its_log(self, running: Launcher) -> None:
        assert "ready" in (running.var / "logs" / "worker.log").read_text()

    def test_a_second_one_in_the_same_directory_is_refused(self, running: Launcher) -> None:
        assert fault(running.var) == (
            f"error: {running.var} is in use by a stack that is running (process {running.process.pid}): "
            "stop it, or set VAR_DIR"
        )
        assert httpx2.get(f"{running.url}/readyz").status_code == 200

    @pytest.mark.parametrize("name", ["PORT", "REALTIME_PORT"])
    def test_a_taken_port_is_named(self, running: Launcher, tmp_path: Path, name: str) -> None:
        line = fault(tmp_path / "var", **{name: str(running.port)})
        assert line == f"error: port {running.port} is taken: set {name} to another one"


_TWO_OF_THREE = {"DATABASE_URL": "postgres://user@127.0.0.1:1/nothing", "REDIS_URL": "redis://127.0.0.1:1/0"}


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"DEBUG": "false", **_TWO_OF_THREE}, "SECRET_KEY must be set, since DEBUG is off"),
        ({"PORT": "http"}, "PORT must be a whole number, not 'http'"),
        (
            {"DATABASE_URL": "mysql://host/name"},
            "DATABASE_URL must start with postgres://: leave it empty for the embedded PostgreSQL server, "
            "or set postgres://user:password@host:5432/name",
        ),
        (
            {"DATABASE_URL": "sqlite:///db.sqlite3"},
            "DATABASE_URL: SQLite is not supported: leave it empty for the embedded PostgreSQL server, "
            "or set postgres://user:password@host:5432/name",
        ),
    ],
)
def test_a_wrong_setting_gives_one_line(tmp_path: Path, wrong: dict[str, str], expected: str) -> None:
    assert fault(tmp_path / "var", **{"DEBUG": "true"} | wrong) == f"error: {expected}"


def test_a_directory_that_cannot_be_written_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    var = tmp_path / "file" / "var"
    line = fault(tmp_path / "unused", VAR_DIR=str(var))
    assert line == f"error: VAR_DIR {var} cannot be written: Not a directory"


def test_ctrl_c_leaves_nothing_behind_and_the_next_run_goes_on(var: Path) -> None:
    with launched("run", var) as first:
        first.wait_ready()
        demo_user = first.line("Demo user: ")
        assert len(processes_of(first.var)) > 4
        first.press(signal.SIGINT)
        assert first.wait() == 0
        assert not processes_of(first.var)
        assert not [name for name in ("valkey", "postgresql") if (first.var / name / "url").exists()]
    with launched("run", var) as second:
        second.wait_ready()
        assert second.line("Demo user: ") == demo_user
        second.process.terminate()
        assert second.wait() == 0
        assert not processes_of(second.var)


def test_a_closed_terminal_stops_everything(var: Path) -> None:
    with launched("run", var) as launcher:
        launcher.wait_ready()
        launcher.press(signal.SIGHUP)
        assert launcher.wait() == 0
        assert not processes_of(launcher.var)


def test_a_killed_launcher_takes_everything_with_it(var: Path) -> None:
    with launched("run", var) as launcher:
        launcher.wait_ready()
        launcher.process.kill()
        launcher.wait()
        launcher.wait_nothing_left()
    with launched("run", var) as next_one:
        next_one.wait_ready()


@pytest.mark.parametrize("name", ["web", "valkey", "postgresql"])
def test_a_process_that_dies_stops_the_rest_and_is_named(var: Path, name: str) -> None:
    command = {"web": "config.wsgi", "valkey": "valkey-server", "postgresql": "bin/postgres"}[name]
    with launched("run", var) as launcher:
        launcher.wait_ready()
        os.kill(first_process(launcher.var, command), signal.SIGKILL)
        assert launcher.wait() == 1
        assert launcher.lines[-1] == (
            f"error: {name} ended by itself (killed by signal 9), so everything was stopped; "
            f"its log is {launcher.var}/logs/{name}.log"
        )
        assert not processes_of(launcher.var)


def first_process(var: Path, command: str) -> int:
    """The oldest process of the stack whose command has this in it."""
    return min(pid for pid in processes_of(var) if command.encode() in Path(f"/proc/{pid}/cmdline").read_bytes())


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_a_database_that_was_left_half_made_is_made_again(tmp_path: Path, by: signal.Signals) -> None:
    var = tmp_path / "var"
    with launched("run", var) as launcher:
        wait_until(lambda: list(var.glob("postgresql/new.*/base")), what="a database that is being made")
        if by == signal.SIGINT:
            launcher.press(by)
            assert launcher.wait() == 128 + by
            assert not list((var / "postgresql").iterdir())
        else:
            launcher.process.kill()
            launcher.wait()
        launcher.wait_nothing_left()
    with launched("run", var) as next_one:
        next_one.wait_ready()
        assert sorted(path.name for path in (var / "postgresql").iterdir()) == ["data", "password", "url"]


def test_a_database_of_another_major_version_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "var" / "postgresql" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("15\n")
    assert fault(tmp_path / "var") == (
        f"error: {data} was made by PostgreSQL 15 and cannot be read by 18: dump it with the older version and restore "
        "the dump, as docs/operations.md says, or set VAR_DIR to start with an empty database"
    )
    assert (data / "PG_VERSION").read_text() == "15\n"


def test_demo_draws_the_example_and_cleans_up(tmp_path: Path) -> None:
    old = tmp_path / "var" / "demo" / "db.sqlite3"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"SQLite format 3")
    elsewhere = {"DATABASE_URL": "postgres://user@127.0.0.1:1/nothing", "REDIS_URL": "redis://127.0.0.1:1/0"}
    with launched("demo", tmp_path / "var", **elsewhere) as launcher:
        assert launcher.wait() == 0, launcher.lines
        image = tmp_path / "var" / "demo" / "friendly-dragon.png"
        data = image.read_bytes()
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        assert launcher.line("  Image ").split() == ["Image", str(image)]
        assert re.fullmatch(r"  Completed +\d+ ms after it was submitted", launcher.line("  Completed "))
        assert re.fullmatch(r"  Request +vga_\d+_[a-z0-9]{9,}", launcher.line("  Request "))
        assert "OpenMoji" in launcher.line("  Attribution ")
        assert launcher.line("Note: ") == (
            f"Note: {old} is the SQLite database of an earlier version. "
            "It is kept and not read: this version starts with an empty PostgreSQL database."
        )
        assert old.read_bytes() == b"SQLite format 3"
        assert not processes_of(launcher.var)
        image.unlink()
    with launched("demo", tmp_path / "var") as again:
        assert again.wait() == 0, again.lines
        assert not [line for line in again.lines if line.startswith("Note: ")]
        assert image.read_bytes().startswith(b"\x89PNG")


def test_demo_book_draws_one_character_on_each_page(tmp_path: Path) -> None:
    with launched("demo-book", tmp_path / "var") as launcher:
        assert launcher.wait() == 0, launcher.lines
        folder = tmp_path / "var" / "demo" / "book"
        names = {"character-sheet.png", "contact-sheet.png", *(f"page-{number}.png" for number in range(1, 5))}
        assert {path.name for path in folder.iterdir()} == names
        assert launcher.line("  Contact sheet ").split()[-1] == str(folder / "contact-sheet.png")
        assert "OpenMoji" in launcher.line("  Attribution ")
        assert not processes_of(launcher.var)


class TestMakefile:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        """The Makefile on a machine that has make and a shell, and no Python yet."""
        programs = tmp_path / "bin"
        programs.mkdir()
        for name in ("make", "sh", "awk", "touch", "rm"):
            (programs / name).symlink_to(str(shutil.which(name)))
        for name in ("Makefile", "requirements.txt", "requirements-dev.txt"):
            shutil.copy(ROOT / name, tmp_path)
        return tmp_path

    def make(self, project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = bare_environment() | {"PATH": str(project / "bin")}
        return subprocess.run(
            ["make", *arguments],
            cwd=project,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def python(self, project: Path, script: str) -> None:
        path = project / "bin" / "python3"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    @pytest.mark.parametrize("target", ["demo", "run", "test"])
    def test_a_python_too_old_is_refused_with_one_line(self, project: Path, target: str) -> None:
        self.python(project, "echo 3.9.18")
        done = self.make(project, target)
        assert done.returncode
        assert done.stderr.splitlines()[0] == "error: Python 3.11, 3.12 or 3.13 is needed; python3 is 3.9.18"
        assert not done.stdout

    def test_no_python_is_said_with_one_line(self, project: Path) -> None:
        done = self.make(project, "demo")
        assert done.returncode
        assert done.stderr.splitlines()[0] == (
            "error: Python 3.11, 3.12 or 3.13 is needed; there is no python3 on the PATH"
        )

    def test_a_python_that_cannot_make_an_environment_is_explained(self, project: Path) -> None:
        self.python(project, 'case "$*" in *ensurepip*) exit 1;; esac; echo 3.11.2')
        done = self.make(project, "demo")
        assert done.returncode
        assert done.stderr.splitlines()[0] == (
            "error: python3 cannot make a virtual environment: install python3-venv (Debian, Ubuntu) or uv"
        )

    def test_help_lists_every_target(self, project: Path) -> None:
        listed = re.findall(r"^  make ([\w-]+) ", self.make(project).stdout, re.MULTILINE)
        assert sorted(listed) == sorted(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
