from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.realtime.live import Live, running


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """With the settings that production has, so that what comes comes through Redis."""
    with running(tmp_path_factory.mktemp("live")) as live:
        yield live
