"""Calls by wrk, which takes little of the processors that the servers need."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from benchmarks.turns import Measured

_LONGEST: Final = 60
_SCRIPT: Final = Path(__file__).with_name("load.lua")


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

    def run(self) -> Measured:
        """Make the calls. Raises ``RuntimeError`` where one failed, since then the others prove nothing. Where none was
        answered in time, they get four times as much."""
        headers = [text for name, value in self.headers.items() for text in ("-H", f"{name}: {value}")]
        options = [f"-c{self.connections}", f"-d{self.seconds}s", "-t1", "--timeout", "20s", "-s", str(_SCRIPT)]
        url = f"http://127.0.0.1:{self.port}/"
        command = ["wrk", *options, *headers, url, "--", self.method, self.body, *self.paths]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        values = json.loads(printed.splitlines()[-1])
        failed = values.pop("failed")
        what = f"{self.method} {self.paths[0]}"
        if failed:
            raise RuntimeError(f"{failed} of {values['calls']} calls of {what} failed")
        if values["calls"]:
            return Measured(**values)
        if self.seconds > _LONGEST:
            raise RuntimeError(f"no call of {what} was answered within {self.seconds} s")
        return replace(self, seconds=4 * self.seconds).run()


def require_wrk() -> None:
    """End with one line where there is no wrk."""
    if shutil.which("wrk") is None:
        sys.exit("error: the load comes from wrk, which is not installed: apt-get install wrk")
