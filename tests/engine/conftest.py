"""One engine, one image and one running deployment for all tests of this folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.engine.base_images import make_base_images
from tests.engine.daemon import Engine, running_engine
from tests.engine.neighbors import ContainerVendor
from tests.engine.project import FIGURES, Project, deployment
from tests.servers import temporary_folder

KEY = "sk-canary-of-a-deployment"
_TIMES: list[tuple[str, float]] = []


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Note how long a part of the run takes."""
    started = time.monotonic()
    yield
    _TIMES.append((what, time.monotonic() - started))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how long each part took."""
    terminalreporter.section("parts of the run")
    for what, seconds in _TIMES:
        terminalreporter.write_line(f"{seconds:7.1f} s  {what}")
    for figure in FIGURES:
        terminalreporter.write_line(figure)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Time each test without its fixtures."""
    with timed(item.name):
        return (yield)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    started = time.monotonic()
    with running_engine() as engine:
        _TIMES.append(("engine: packages and start", time.monotonic() - started))
        if engine.is_ours:
            with timed("base images"):
                make_base_images(engine)
        yield engine


@pytest.fixture(scope="session")
def built(engine: Engine) -> Iterator[Project]:
    """A deployment whose image is built and whose secrets are made, as by docs/operations.md. It was not started."""
    settings = {
        "OPENAI_BASE_URL": ContainerVendor.INSIDE,
        "SUBMIT_RATE": "1000000/m",
        "TOKEN_RATE": "1000000/m",
        "RETRY_DELAY_MS": "200",
        "LEASE_MS": "10000",
        "QUEUE_PROCESSING_INTERVAL": "1000",
        "WEBHOOK_ALLOW_HTTP": "true",
        "WEBHOOK_ALLOWED_NETWORKS": "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16",
    }
    with deployment(engine, temporary_folder(), name=f"vga-tests-{os.getpid()}", **settings) as project:
        project.make_secrets()
        project.set_secret("openai_api_key", KEY)
        with timed("docker compose build"):
            project.build()
        yield project


@pytest.fixture(scope="session")
def project(built: Project) -> Project:
    """The same, running."""
    with timed("docker compose up"):
        built.up()
    built.make_people()
    return built


@pytest.fixture(scope="session")
def up_seconds(project: Project) -> float:
    """How long the start took."""
    return dict(_TIMES)["docker compose up"]


@pytest.fixture(scope="session")
def _vendor(project: Project) -> Iterator[ContainerVendor]:
    with ContainerVendor(project) as vendor:
        yield vendor


@pytest.fixture
def vendor(_vendor: ContainerVendor) -> ContainerVendor:
    """A fake vendor without a script and with an empty journal."""
    _vendor.reset()
    return _vendor


@pytest.fixture
def alice(project: Project) -> Iterator[httpx2.Client]:
    with project.client("alice") as client:
        yield client


@pytest.fixture
def empty_folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path
