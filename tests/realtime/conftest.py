from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.realtime.live import STUDIO, Live, running


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A stack with production settings, so that updates arrive only through Redis."""
    with running(tmp_path_factory.mktemp("live")) as live:
        yield live


@pytest.fixture(scope="package")
def watchful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A stack with very frequent maintenance rounds, which are rarer in production."""
    folder = tmp_path_factory.mktemp("watchful")
    often: Any = {"REALTIME_RESYNC_MS": "200", "REALTIME_IDLE_MS": "3000", "REALTIME_HEARTBEAT_MS": "200"}
    with running(folder, CORS_ALLOWED_ORIGINS=STUDIO, **often) as live:
        yield live
