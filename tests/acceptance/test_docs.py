"""The pages of ``docs`` that are made from a running stack say what it does now."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.launcher import bare_environment
from tests.support.stack import ROOT

pytestmark = pytest.mark.long


def test_the_page_of_the_api_shows_what_a_stack_answers() -> None:
    command = [sys.executable, "docs/make_api.py", "--check"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=bare_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
