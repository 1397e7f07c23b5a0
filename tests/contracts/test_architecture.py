"""The diagram in docs/architecture.md shows the imports, which point down and have no cycle."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "make_architecture.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("make_architecture", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_diagram_is_what_make_architecture_writes(script: Any) -> None:
    page = script.PAGE.read_text(encoding="utf-8")
    assert script.updated(page) == page


def test_generation_has_at_most_23_packages_and_modules(script: Any) -> None:
    rooms, _ = script.rooms_and_arrows()
    assert len(rooms) <= 23, sorted(rooms)
    assert rooms == {room for layer in script.layers() for room in layer}


def test_no_import_points_upwards(script: Any) -> None:
    _, arrows = script.rooms_and_arrows()
    assert len(arrows) > 50
    assert script.upward_arrows(arrows) == set()


def test_packages_have_no_cycle_of_imports(script: Any) -> None:
    _, arrows = script.rooms_and_arrows()
    assert script.find_cycle(arrows) == set()
    assert script.find_cycle(arrows | {("states", "api")}) >= {"states", "api"}
