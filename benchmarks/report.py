"""A run as a table, as JSON, and beside an older one."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.cases import Figure

#: What must not be called slower: two runs on a shared machine differ by as much.
_TOLERANCE: Final = 1.2


def table(figures: Sequence[Figure]) -> str:
    """Lines for people."""
    lines = [f"{'case':<41} {'p50 ms':>7} {'p99 ms':>7} {'per s':>6} {'floors':>6}  goal"]
    for one in figures:
        rate = f"{one.rate:6.0f}" if one.rate else " " * 6
        floors = f"{one.floors:6.1f}" if one.floors else " " * 6
        verdict = {True: "ok", False: "MISSED", None: ""}[one.met]
        lines.append(f"{one.case:<41} {one.p50:7.1f} {one.p99:7.1f} {rate} {floors}  {verdict:<6} {one.goal}".rstrip())
    lines.append("floors: how many empty DRF views one call costs, by the rates of the same number of connections")
    return "\n".join(lines)


def write(path: Path, figures: Sequence[Figure], *, total: int, queued: int) -> None:
    """Keep a run for :func:`slower`."""
    run = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "requests": total,
        "queued": queued,
        "figures": [asdict(one) for one in figures],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run, indent=2) + "\n")


def slower(old: dict[str, Any], figures: Sequence[Figure]) -> list[str]:
    """What got slower by more than 20 % since the older run: in floors, in which machines are alike, or without a
    floor in ms."""
    before = {one["case"]: one for one in old["figures"]}
    found = []
    for one in figures:
        if (known := before.get(one.case)) is None:
            continue
        unit = "floors" if one.floors and known["floors"] else "ms"
        was, now = (known["floors"], one.floors) if unit == "floors" else (known["p50"], one.p50)
        if now and now > was * _TOLERANCE:
            found.append(f"{one.case}: {was:.1f} → {now:.1f} {unit} (+{now / was - 1:.0%})")
    return found
