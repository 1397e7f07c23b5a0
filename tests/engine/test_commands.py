"""The commands of docs/operations.md from an empty folder to a deployment that answers."""

from __future__ import annotations

import json
import re

import httpx2

from tests.engine.daemon import Engine
from tests.engine.project import SERVICES, Project, note

UP_SECONDS = 60
IMAGE_MB = 450
#: As of the same processes without containers (tests/acceptance/test_compose.py).
IDLE_MB = 700
#: Debian's slim image with Python, which a base image made here does not match in size.
SLIM_MB = 125


def test_every_service_becomes_healthy_within_a_minute(project: Project, up_seconds: float) -> None:
    health = project.health()
    assert health.pop("migrate") == ["exited"]
    assert health == {name: ["healthy"] for name in SERVICES}
    assert project.inspect("migrate")["State"]["ExitCode"] == 0
    assert httpx2.get(f"{project.url}/readyz", timeout=20).status_code == 200
    assert up_seconds < UP_SECONDS


def test_idle_they_take_little_memory(project: Project) -> None:
    found = {service: proportional_mb(project, service) for service in SERVICES}
    note(f"memory: {sum(found.values()):.0f} MB: { ({name: round(size) for name, size in found.items()}) }")
    assert min(found.values()) > 1
    assert sum(found.values()) < IDLE_MB


def proportional_mb(project: Project, service: str) -> float:
    """The memory of the processes in its container; what several processes share is divided among them."""
    told = project.execute(service, "sh", "-c", "cat /proc/[0-9]*/smaps_rollup 2>/dev/null || true")
    return sum(int(size) for size in re.findall(r"^Pss:\s+(\d+) kB", told, re.MULTILINE)) / 1024


def test_the_image_is_small(project: Project, engine: Engine) -> None:
    size = size_mb(engine, engine.image)
    if base := engine.images.get("PYTHON_IMAGE"):
        size += SLIM_MB - size_mb(engine, base)
    note(f"the image: {size:.0f} MB")
    assert size <= IMAGE_MB


def size_mb(engine: Engine, image: str) -> float:
    return float(json.loads(engine.docker("image", "inspect", image))[0]["Size"]) / 1e6
