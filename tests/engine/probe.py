"""Exits with 0 if a container engine answers on this machine or can be started, else with 1 and the reason. Downloads
what the tests need for it, which ``.ci/run`` lets happen beside other work."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.engine.base_images import debian
from tests.engine.daemon import running_engine

if __name__ == "__main__":
    try:
        with running_engine() as engine:
            engine.docker("network", "create", "vga-probe")
            engine.docker("network", "rm", "vga-probe")
            if engine.is_ours:
                with tempfile.TemporaryDirectory(prefix="vga-base-") as folder:
                    debian(Path(folder))
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"no container engine can be started here: {error}")
