"""Every row of SECURITY.md names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`(test_[a-z0-9_]+)`")


def rows() -> list[str]:
    lines = (ROOT / "SECURITY.md").read_text().splitlines()
    return [line for line in lines if line.startswith("| ") and not line.startswith("| threat")]


def test_every_row_is_closed_by_tests_that_are_there() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"def (test_[a-z0-9_]+)\(", sources))
    assert len(rows()) > 20
    for row in rows():
        named = NAMED.findall(row)
        assert named or "make audit" in row, row
        assert set(named) <= there, set(named) - there
