"""Services that a deployment calls, in containers of its network: a fake vendor, and a receiver of webhooks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2

from config.local.valkey import free_port
from tests.engine.project import Project
from tests.fakes.control import FakeProvider
from tests.support.stack import ROOT, wait_until

_PORT: Final = "8080"


class ContainerVendor(FakeProvider):
    """All fake vendors in a container, which other containers know as ``vendor``."""

    #: For ``OPENAI_BASE_URL``.
    INSIDE: Final = f"http://vendor:{_PORT}/v1"

    def __init__(self, project: Project) -> None:
        super().__init__()
        self._neighbor = _Neighbor(project, "vendor")

    def start(self) -> None:
        """Start it in the network of the project, which must exist."""
        command = ["python", "-m", "tests.fakes.providers", "--host", "0.0.0.0", "--port", _PORT]  # noqa: S104
        self.base_url = self._neighbor.start(*command)
        wait_until(self._answers, what="the fake vendor")

    def stop(self) -> None:
        """Remove the container."""
        self._neighbor.stop()

    @contextmanager
    def known_to(self, project: Project) -> Iterator[None]:
        """Let containers of another project reach it as well."""
        with self._neighbor.known_to(project):
            yield

    def paid(self) -> dict[str, int]:
        """Prompt → the number of images that were delivered, and so are paid for."""
        found: dict[str, int] = {}
        for call in self.journal():
            if call.outcome == "200" and not call.disconnected:
                found[call.prompt] = found.get(call.prompt, 0) + 1
        return found

    def _answers(self) -> bool:
        try:
            return self.stats().count >= 0
        except httpx2.TransportError:
            return False


class ContainerReceiver:
    """A receiver of webhooks, which other containers know as ``receiver``."""

    INSIDE: Final = f"http://receiver:{_PORT}/hook"

    def __init__(self, project: Project) -> None:
        self._neighbor = _Neighbor(project, "receiver")

    def __enter__(self) -> ContainerReceiver:
        self._neighbor.start("python", "-m", "tests.engine.receiver_server", _PORT)
        return self

    def __exit__(self, *_: object) -> None:
        self._neighbor.stop()

    def received(self) -> list[dict[str, Any]]:
        """The deliveries: headers and body."""
        return [json.loads(line) for line in self._neighbor.log().splitlines() if line.startswith("{")]


class _Neighbor:
    """A container of our image with the modules of the tests that run in it."""

    def __init__(self, project: Project, alias: str) -> None:
        self._project, self._alias = project, alias
        self._name = f"{project.name}-{alias}"
        # A port of the engine's choice would be another one once the container is connected to a second network.
        self._port = free_port()

    def start(self, *command: str) -> str:
        """Start it; its address from this machine."""
        modules = code(self._project.folder)
        self._project.engine.docker(
            *("run", "--detach", "--name", self._name, "--network", f"{self._project.name}_inside"),
            *("--network-alias", self._alias, "--publish", f"127.0.0.1:{self._port}:{_PORT}", "--no-healthcheck"),
            *("--volume", f"{modules}:/app/tests:ro", self._project.image, *command),
        )
        return f"http://127.0.0.1:{self._port}"

    def stop(self) -> None:
        """Remove it."""
        self._project.engine.run("rm", "--force", self._name)

    @contextmanager
    def known_to(self, project: Project) -> Iterator[None]:
        """Be in the network of this project too, with the same name."""
        docker, network = self._project.engine.docker, f"{project.name}_inside"
        docker("network", "connect", "--alias", self._alias, network, self._name)
        try:
            yield
        finally:
            docker("network", "disconnect", network, self._name)

    def log(self) -> str:
        """Its output."""
        return self._project.engine.docker("logs", self._name)


def code(folder: Path) -> Path:
    """The folder of the modules for containers, where every user can read them."""
    target = folder / "neighbors"
    if not target.exists():
        shutil.copytree(ROOT / "tests" / "fakes", target / "fakes", ignore=shutil.ignore_patterns("__pycache__"))
        (target / "engine").mkdir()
        for module in ("__init__.py", "engine/__init__.py", "engine/receiver_server.py", "engine/bucket_server.py"):
            shutil.copy(ROOT / "tests" / module, target / module)
    return target
