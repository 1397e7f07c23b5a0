"""Calls from a process of its own, so that the time that making them takes is not part of what is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, kw_only=True)
class Load:
    """Calls over so many connections, each of which makes its next call as soon as the last one is answered."""

    port: int
    paths: list[str]
    connections: int
    seconds: int
    method: str = "GET"
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of a load. ``p50``, ``p99`` and ``slowest`` are in ms."""

    calls: int
    failed: int
    seconds: float
    p50: float
    p99: float
    slowest: float

    @property
    def rate(self) -> float:
        """Calls in a second."""
        return self.calls / self.seconds


def run(load: Load) -> Measured:
    """Make the calls. Raises ``RuntimeError`` where one failed, since then the others prove nothing."""
    command = [sys.executable, "-m", "benchmarks.client"]
    printed = subprocess.run(command, input=json.dumps(asdict(load)), check=True, stdout=subprocess.PIPE, text=True)
    measured = Measured(**json.loads(printed.stdout))
    if measured.failed:
        raise RuntimeError(f"{measured.failed} of {measured.calls} calls of {load.method} {load.paths[0]} failed")
    return measured
