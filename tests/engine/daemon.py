"""A container engine for the tests: that of this machine, or one of our own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import psutil

from tests.engine import programs
from tests.support.stack import wait_until

_STOP_SECONDS: Final = 40
#: The variable with which the tests learn of the engine.
_TOLD: Final = "TESTS_ENGINE"
#: Available memory with which the images and volumes are kept in memory. They may take half of it.
_MEMORY: Final = 12 * 2**30


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine that answers, and how its client is called."""

    #: What the client needs besides ``HOME``.
    environment: Mapping[str, str]
    #: Whether it has no registry, so that the base images are made here.
    is_ours: bool = False
    #: The beginning of the names of all that the tests make on it.
    name: str = field(default_factory=lambda: f"vga-tests-{os.getpid()}")
    #: Variable of the compose file or the Dockerfile → a base image to use instead of the real one.
    images: dict[str, str] = field(default_factory=dict)

    @property
    def image(self) -> str:
        """The image under test. A deployment has a name of its own for it."""
        return f"{self.name}:latest"

    @classmethod
    def told(cls) -> Self:
        """The engine on which this process runs tests; fails outside ``make compose-test``."""
        assert _TOLD in os.environ, 'these tests need an engine and an image: run make compose-test ARGS="…"'
        told: dict[str, Any] = json.loads(os.environ[_TOLD])
        return cls(**told)

    def as_environment(self) -> dict[str, str]:
        """The variable for :meth:`told`."""
        return {_TOLD: json.dumps(asdict(self))}

    def docker(self, *arguments: str, seconds: float = 120, cwd: Path | None = None) -> str:
        """What ``docker …`` prints; fails if it fails."""
        done = self.run(*arguments, seconds=seconds, cwd=cwd)
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout[-1000:]}{done.stderr[-3000:]}"
        return done.stdout

    def run(
        self, *arguments: str, seconds: float = 120, cwd: Path | None = None, given: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run ``docker …``, whatever its exit code is."""
        return subprocess.run(
            ["docker", *arguments],
            cwd=cwd,
            env=dict(self.environment),
            input=given or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def remove_all(self) -> None:
        """Remove what the tests left: containers, networks, volumes and images."""
        for kind, found in {
            "container": self.docker("ps", "--all", "--quiet", "--filter", f"name={self.name}"),
            "network": self.docker("network", "ls", "--quiet", "--filter", f"name={self.name}"),
            "volume": self.docker("volume", "ls", "--quiet", "--filter", f"name={self.name}"),
            "image": self.docker("images", "--format", "{{.Repository}}", "--filter", f"reference={self.name}*"),
        }.items():
            if names := found.split():
                self.run(kind, "rm", "--force", *names)


@contextmanager
def running_engine() -> Iterator[Engine]:
    """The engine of this machine if it answers, else one of our own. Fails if neither is possible."""
    there = Engine(environment=_environment(os.environ["PATH"]))
    with contextlib.suppress(FileNotFoundError, subprocess.TimeoutExpired):
        if there.run("info", seconds=20).returncode == 0:
            assert there.run("compose", "version").returncode == 0, "docker has no compose: install its plugin"
            yield there
            return
    assert "DOCKER_HOST" not in os.environ, f"no engine answers at {os.environ['DOCKER_HOST']}"
    assert programs.can_make_an_engine(), "no container engine answers, and only root on Debian can start one here"
    programs.installed()
    folder = Path(tempfile.mkdtemp(prefix="vga-engine-"))
    folder.chmod(0o755)
    try:
        with _in_memory(folder / "data"), _our_own(folder, programs.unpacked()) as engine:
            yield engine
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _in_memory(folder: Path) -> Iterator[None]:
    """Keep the folder in memory, if there is enough: images are thousands of small files, which a slow disk takes
    minutes to write and to delete."""
    folder.mkdir()
    if psutil.virtual_memory().available < _MEMORY:
        yield
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_MEMORY // 2}", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _environment(path: str, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.startswith("DOCKER_") or name == "HOME"}
    return {"PATH": path, "COMPOSE_PROGRESS": "plain", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"} | kept | more


@contextmanager
def _our_own(folder: Path, binaries: Path) -> Iterator[Engine]:
    """Start ``dockerd`` with everything below the folder, and end it. It ends its containerd and all containers."""
    path = f"{binaries}:{os.environ['PATH']}:/usr/sbin:/sbin"
    config = folder / "config"
    config.mkdir()
    (config / "cli-plugins").symlink_to(binaries / "cli-plugins")
    address = f"unix://{folder}/socket"
    init = programs.system_program("tini-static")
    command = [
        *("dockerd", "--config-file", "/dev/null", "--host", address, "--pidfile", f"{folder}/pid"),
        *("--data-root", f"{folder}/data", "--exec-root", f"{folder}/run"),
        *("--init-path", str(init), "--log-level", "warn"),
    ]
    log = folder / "dockerd.log"
    with log.open("ab") as out:
        daemon = subprocess.Popen(
            command,
            env={"PATH": path, "HOME": str(folder)},
            executable=binaries / "dockerd",
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,  # Ctrl-C is for pytest, which then ends it in order
        )
    engine = Engine(environment=_environment(path, DOCKER_HOST=address, DOCKER_CONFIG=str(config)), is_ours=True)

    def answers() -> bool:
        assert daemon.poll() is None, f"dockerd ended with {daemon.returncode}: {log.read_text()[-3000:]}"
        return engine.run("info").returncode == 0

    try:
        wait_until(answers, seconds=60, what="an engine")
        yield engine
    finally:
        daemon.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(_STOP_SECONDS)
        if daemon.poll() is None:
            os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait()
        _end_containers(folder)


def _end_containers(folder: Path) -> None:
    """End the containers that outlive a daemon that had to be killed. Their parents name the engine's folder."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(str(folder) in argument for argument in process.cmdline()):
                for one in [process, *process.children(recursive=True)]:
                    one.kill()
