"""docs/operations.md, followed word by word: each of its commands, with plain processes in place of containers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from config.local.valkey import free_port
from generation.db.session_settings import Kind
from tests.fakes.control import FakeProvider
from tests.support import compose, promtool
from tests.support.composed import Composed, composed
from tests.support.operations import PAGE, commands
from tests.support.stack import ROOT, wait_until

pytestmark = pytest.mark.long


OURS = compose.OURS[1:]  # without migrate, which ends


@pytest.fixture(scope="module")
def stack() -> Iterator[Composed]:
    promtool.found("nginx", "nginx-light")
    with FakeProvider() as provider, composed(OPENAI_BASE_URL=provider.openai_url, PROVIDERS="clipart,openai") as stack:
        key = stack.secrets / "openai_api_key"
        key.chmod(0o644)
        key.write_text("sk-only-for-tests")
        assert stack.run("migrate").returncode == 0
        stack.make_people()
        stack.start(*OURS)
        stack.wait_healthy(*OURS)
        stack.start_proxy()
        yield stack


class Terminal:
    """Types the commands into a shell in which ``docker`` is the stand-in."""

    def __init__(self, stack: Composed, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        (folder / "bin").mkdir()
        shim = folder / "bin" / "docker"
        shim.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/support/shim.py "$@"\n')
        shim.chmod(0o755)
        (folder / "deploy").symlink_to(ROOT / "deploy")

    def type(self, command: str) -> str:
        """What it prints; fails where the command does."""
        described = self._folder / "composed.json"
        described.write_text(json.dumps(self._stack.described()))
        path = f"{self._folder}/bin{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self._folder,
            env={"PATH": path, "COMPOSED": str(described)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def terminal(stack: Composed, tmp_path: Path) -> Terminal:
    return Terminal(stack, tmp_path)


def test_the_first_start(stack: Composed, terminal: Terminal, tmp_path: Path) -> None:
    secrets, env, build, up, account = commands("## Deployment")
    (tmp_path / "deploy").unlink()  # secrets are made for a folder of the test's
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "make-secrets.sh").symlink_to(ROOT / "deploy" / "make-secrets.sh")
    terminal.type(secrets)
    assert (tmp_path / "deploy" / "secrets" / "database_url").read_text().startswith("postgres://vga_{kind}:")
    terminal.type(env)
    assert (tmp_path / ".env").read_text() == "PUBLIC_BASE_URL=http://images.example.org\n"
    for command in (build, up):
        terminal.type(command)
    terminal.type(f"{account} --no-input --username chief --email chief@example.org")
    with psycopg.connect(stack.database_url()) as connection:
        found = connection.execute("SELECT is_superuser FROM auth_user WHERE username = 'chief'").fetchone()
    assert found == (True,)


def test_nginx_accepts_its_configuration(stack: Composed, tmp_path: Path) -> None:
    tls, in_front = re.findall(r"```nginx\n(.*?)```", PAGE, re.DOTALL)
    block = (tls + in_front).replace("listen 443", f"listen {free_port()}")  # only root may listen on 443
    names = ["-keyout", "privkey.pem", "-out", "fullchain.pem", "-subj", "/CN=images.example.org"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    (tmp_path / "https.conf").write_text(block.replace("/etc/nginx/tls", str(tmp_path)))
    running = (stack.folder / "nginx" / "nginx.conf").read_text()
    running = running.replace(f"{stack.folder}/tls/*.conf", f"{tmp_path}/https.conf")
    (tmp_path / "nginx.conf").write_text(running)
    nginx = promtool.found("nginx", "nginx-light")
    done = subprocess.run([nginx, "-t", "-c", tmp_path / "nginx.conf"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "heading",
    [
        "## Monitoring",
        "### The queue builds up",
        "### Processing is slow",
        "### Memory grows",
        "### Requests fail",
        "### Webhooks do not arrive",
        "### A server is unavailable",
        "## Upgrade without downtime",
    ],
)
def test_the_commands_of_a_section(terminal: Terminal, heading: str) -> None:
    typed = commands(heading)
    assert typed
    for command in typed:
        terminal.type(command)


def test_every_alert_is_explained(stack: Composed) -> None:
    for alert in promtool.alerts():
        assert f"`{alert}`" in PAGE, alert
    anchors = {re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-") for line in PAGE.splitlines()}
    rules = (promtool.FOLDER / "alerts.yml").read_text()
    assert set(re.findall(r"operations\.md#([a-z-]+)", rules)) <= anchors


def test_metrics_and_settings_that_are_named_are_there() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "generation").rglob("*.py"))
    roles = {"vga_owner", "vga_app", *(f"vga_{kind}" for kind in Kind)}
    for name in set(re.findall(r"`(vga_[a-z_]+)", PAGE)) - roles - {"vga_"}:
        assert re.sub(r"_(total|count|bucket)$", "", name) in sources, name
    documented = (ROOT / ".env.example").read_text() + (ROOT / "docker-compose.yml").read_text()
    for name in re.findall(r"`([A-Z][A-Z_]{5,})[=`]", PAGE):
        assert name in documented or name == "CONCURRENTLY", name


def test_a_backup_brings_everything_back(stack: Composed, terminal: Terminal, tmp_path: Path) -> None:
    prune, *backup_and_restore = commands("## Maintenance and backup")
    assert "removed" in terminal.type(prune)
    with stack.client("alice") as alice:
        body = {"type": "coloring-page", "prompt": "A friendly dragon playing in a garden"}
        kept = alice.post("/submit", json=body).json()["requestId"]

        def image() -> bytes | None:
            found = alice.get(f"/image/{kept}")
            return found.content if found.status_code == 200 else None

        before = wait_until(image, seconds=60, what="the image")
    *backup, stop, restore, unpack, up = backup_and_restore
    for command in backup:
        terminal.type(command)
    owner = (stack.secrets / "migration_database_url").read_text().strip()
    with psycopg.connect(owner) as connection:
        connection.execute("TRUNCATE generation_requests CASCADE")
    for path in (stack.folder / "var" / "media" / "results").rglob("*.*"):
        path.unlink()
    for command in (stop, restore, unpack, up):
        terminal.type(command)
    stack.forget_ended()
    stack.start(*OURS)
    stack.wait_healthy(*OURS)
    (stack.folder / "nginx" / "pid").unlink(missing_ok=True)
    stack.restart_proxy()
    with stack.client("alice") as alice:
        assert alice.get(f"/image/{kept}").content == before
        again = alice.post("/submit", json=body)
        assert again.status_code == 200  # the role of the processes may still read and write
    address = stack.database_url()
    with psycopg.connect(address) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("CREATE TABLE mine (id int)")
