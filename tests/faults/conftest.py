from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.house import House, built


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house in which everything but a worker runs."""
    with built(tmp_path) as house:
        house.stack.start("web", "dispatcher")
        house.wait_until_up()
        yield house
        house.assert_whole(media=tmp_path / "var" / "media")
