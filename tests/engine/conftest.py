"""A running deployment for the tests of one process. ``make compose-test`` starts the engine and builds the image."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.engine.daemon import Engine
from tests.engine.neighbors import ContainerVendor
from tests.engine.project import NOTES, Project, deployment, note
from tests.servers import temporary_folder

KEY = "sk-canary-of-a-deployment"


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Note how long a part of the run takes."""
    started = time.monotonic()
    yield
    note(f"{time.monotonic() - started:6.1f} s  {what}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Time each test without its fixtures."""
    with timed(item.name):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> None:
    """Report what was noted, to the process that writes the summary."""
    item.user_properties.extend(("note", text) for text in NOTES)
    NOTES.clear()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what was noted: how long each part took, and measured figures."""
    terminalreporter.section("parts of the run")
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "teardown":  # the last report of a test has all of its notes
                for _, text in report.user_properties:
                    terminalreporter.write_line(text)


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine.told()


@pytest.fixture(scope="session")
def name(engine: Engine) -> str:
    """The beginning of the names of all that this process makes."""
    return f"{engine.name}-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"


@pytest.fixture(scope="session")
def usual() -> dict[str, str]:
    """What an operator of these tests writes into ``.env``."""
    return {
        "OPENAI_BASE_URL": ContainerVendor.INSIDE,
        "SUBMIT_RATE": "1000000/m",
        "TOKEN_RATE": "1000000/m",
        "RETRY_DELAY_MS": "200",
        "LEASE_MS": "10000",
        "QUEUE_PROCESSING_INTERVAL": "1000",
        "WEBHOOK_ALLOW_HTTP": "true",
        "WEBHOOK_ALLOWED_NETWORKS": "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16",
    }


@pytest.fixture(scope="session")
def _started(engine: Engine, name: str, usual: dict[str, str]) -> Iterator[tuple[Project, float]]:
    with deployment(engine, temporary_folder(), name=name, **usual) as project:
        project.make_secrets()
        project.set_secret("openai_api_key", KEY)
        started = time.monotonic()
        with timed("docker compose up"):
            project.up()
        seconds = time.monotonic() - started
        project.make_people()
        yield project, seconds


@pytest.fixture(scope="session")
def project(_started: tuple[Project, float]) -> Project:
    """A deployment as by docs/operations.md, running."""
    return _started[0]


@pytest.fixture(scope="session")
def up_seconds(_started: tuple[Project, float]) -> float:
    """How long its start took."""
    return _started[1]


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
