"""Packages of npm, for tests of what JavaScript clients do."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def install(package: str, folder: Path) -> None:
    """Install the package below the folder; without npm, or without its registry, skip the test."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    command = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), package]
    try:
        subprocess.run(command, capture_output=True, timeout=120, check=True)
    except subprocess.SubprocessError:
        pytest.skip(f"npm cannot install {package}")
