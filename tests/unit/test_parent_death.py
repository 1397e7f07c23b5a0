"""Processes that end with their parent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import ROOT, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can")

#: Waits until its parent, whose id it is given, is dead, and only then asks to end with it.
_CHILD = """
import os, pathlib, sys, time
from config.local.parent_death import end_with_parent
parent, noted = int(sys.argv[1]), pathlib.Path(sys.argv[2])
noted.with_suffix(".began").touch()
while os.getppid() == parent:
    time.sleep(0.01)
end_with_parent(parent)
noted.touch()
time.sleep(60)
"""
#: Is gone when its child has begun. Prints the child's id.
_PARENT = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid()), sys.argv[2]], stdout=subprocess.DEVNULL)
while not pathlib.Path(sys.argv[2]).with_suffix(".began").exists():
    time.sleep(0.01)
print(child.pid, flush=True)
os._exit(0)
"""


def test_a_process_started_after_its_parent_died_ends_as_well(tmp_path: Path) -> None:
    noted = tmp_path / "lives.on"
    done = subprocess.run(
        [sys.executable, "-c", _PARENT, _CHILD, str(noted)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    wait_until(lambda: is_gone(done.stdout.strip()), what="the child's end")
    assert not noted.exists()


def is_gone(pid: str) -> bool:
    """Return whether the process has ended, reaped or not."""
    try:
        return "(zombie)" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
