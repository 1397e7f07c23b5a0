"""Faults of an operator: each gives one clear line, and the correct input works afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.engine.daemon import Engine
from tests.engine.project import SERVICES, Project, deployment, ended, said, submit
from tests.servers import temporary_folder
from tests.support.stack import closed_port, wait_until

ODD = r"""a$b${c}'d"e#f\g%h@i:j/k é"""


@pytest.fixture
def other(engine: Engine, name: str, empty_folder: Path) -> Iterator[Project]:
    """A deployment that was not started."""
    with deployment(engine, empty_folder, name=f"{name}-other") as project:
        yield project


def lines_about(text: str, word: str) -> list[str]:
    """The different lines that name it."""
    return sorted({line for line in text.splitlines() if word in line})


def test_a_missing_secret_is_named_and_nothing_is_started(other: Project) -> None:
    other.make_secrets()
    (other.secrets / "secret_key").unlink()
    done = other.up(check=False)
    assert done.returncode != 0
    assert len(lines_about(said(done), "secrets/secret_key")) == 1, said(done)
    assert running(other) == set()


def test_without_secrets_nothing_is_started(other: Project) -> None:
    done = other.up(check=False)
    assert done.returncode != 0
    assert lines_about(said(done), "deploy/secrets/"), said(done)
    assert running(other) == set()


def test_without_the_address_nothing_is_started(other: Project) -> None:
    del other.settings["PUBLIC_BASE_URL"]
    other.write_settings()
    done = other.up(check=False)
    assert done.returncode != 0
    (line,) = lines_about(said(done), "PUBLIC_BASE_URL")
    assert "set it in .env, for example to https://images.example.org" in line
    assert not other.engine.docker("ps", "--all", "--quiet", "--filter", f"name={other.name}").split()


@pytest.fixture(scope="module")
def odd(engine: Engine, name: str) -> Iterator[Project]:
    """A deployment with odd passwords, Windows line ends and a small volume, not started, and its image not built."""
    more = {"APP_IMAGE": f"{name}-not-built:latest", "PROVIDERS": "clipart", "EXTRA": "last"}
    with deployment(engine, temporary_folder(), name=f"{name}-odd", **more) as project:
        small = "{driver_opts: {type: tmpfs, device: tmpfs, o: 'size=8m,uid=10001,gid=10001'}}"
        (project.folder / "docker-compose.override.yml").write_text(f"volumes:\n  var: {small}\n")
        own = {"postgres_app_password": ODD, "postgres_owner_password": ODD + "2", "valkey_password": ODD + "3"}
        project.make_secrets(**own, openai_api_key="sk-$odd'key\n")
        project.write_settings(newline="\r\n")
        yield project


def test_a_taken_port_is_named_and_the_rest_is_built_and_started(odd: Project) -> None:
    free = odd.settings["HTTP_PORT"]
    odd.write_settings(newline="\r\n", HTTP_PORT=f"127.0.0.1:{closed_port()}")
    done = odd.up(check=False)
    odd.write_settings(newline="\r\n", HTTP_PORT=free)
    assert done.returncode != 0
    (line,) = lines_about(said(done), str(closed_port()))
    assert re.search("already (in use|allocated)", line)
    assert running(odd) == set(SERVICES) - {"proxy"}


def test_odd_passwords_and_windows_line_ends_are_no_fault(odd: Project) -> None:
    odd.up()
    health = odd.health()
    assert {name: health[name] for name in SERVICES} == {name: ["healthy"] for name in SERVICES}
    assert httpx2.get(f"{odd.url}/readyz", timeout=20).status_code == 200
    inside = odd.execute("worker", "sh", "-c", "cat /run/secrets/openai_api_key; env")
    assert "\r" not in inside
    assert "sk-$odd'key" in inside


def test_a_full_volume_of_images_is_waited_for(odd: Project) -> None:
    """Calls are accepted meanwhile, and nothing is generated that could not be stored."""
    odd.up()
    odd.make_people()
    filler = "/var/lib/visual-generation/filler"
    odd.execute("web", "sh", "-c", f"head -c 20m /dev/zero > {filler} || true")
    with odd.client("alice") as alice:
        request_id = submit(alice, "A dragon whose image has no place yet")
        cause = "images cannot be stored: [Errno 28] No space left on device"
        wait_until(lambda: cause in odd.logs("worker"), seconds=60, what="a line about the disk")
        (line,) = lines_about(odd.logs("worker"), "No space left")
        assert '"exception"' not in line
        assert alice.get(f"/status/{request_id}").json()["status"] in {"queued", "in-progress"}
        assert odd.is_ready()
        odd.execute("web", "rm", filler)
        assert ended(alice, request_id, seconds=120)["status"] == "completed"


def running(project: Project) -> set[str]:
    """The services that have a running container."""
    return set(project.compose("ps", "--services", "--status", "running").stdout.split())
