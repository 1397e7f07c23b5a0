"""Where the pages may connect to, by the settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import ROOT

_ASK = (
    "import json; from config import settings as s;"
    "print(json.dumps(s.CONTENT_SECURITY_POLICY['DIRECTIVES']['connect-src'] + [s.REALTIME_HAS_ITS_PORT]))"
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["ws://127.0.0.1:8001", "ws://localhost:8001", True]),
        (
            {"REALTIME_PORT": "9", "ALLOWED_HOSTS": ".example.org"},
            ["ws://*.example.org:9", "ws://localhost:9", "ws://127.0.0.1:9", True],
        ),
        ({"PUBLIC_BASE_URL": "https://studio.example.org"}, [False]),
        ({"REALTIME_BASE_URL": "wss://studio.example.org:8443/"}, ["wss://studio.example.org:8443", False]),
    ],
)
def test_the_websocket_is_the_one_other_place(
    tmp_path: Path, given: dict[str, str], expected: list[str | bool]
) -> None:
    environment = {"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path), "DEBUG": "true", **given}
    done = subprocess.run(
        [sys.executable, "-c", _ASK], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == ["'self'", *expected]
