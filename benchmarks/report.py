"""A run as a table, as JSON, and beside an older one."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

#: What must not be called slower: two runs on a shared machine differ by as much.
_TOLERANCE: Final = 1.2


@dataclass(frozen=True)
class Figure:
    """What a case came to. Times are in ms, ``rate`` is in one second, and ``share`` is of one; ``floors`` is how many
    empty views one call costs."""

    case: str
    goal: str = ""
    met: bool | None = None
    p50: float | None = None
    p99: float | None = None
    slowest: float | None = None
    rate: float | None = None
    share: float | None = None
    floors: float | None = None

    @classmethod
    def of_times(cls, case: str, taken: Sequence[float], *, p50: float, p99: float = float("inf")) -> Figure:
        """Of times in ms, with what p50 and p99 may be at most."""
        times = sorted(taken)
        middle, late = statistics.median(times), times[int(len(times) * 0.99)]
        goal = f"p50 ≤ {p50:g} ms" + (f", p99 ≤ {p99:g} ms" if p99 < float("inf") else "")
        return cls(case, goal, middle <= p50 and late <= p99, p50=middle, p99=late, slowest=times[-1])


def _cell(value: float | None, width: int, form: str) -> str:
    return " " * width if value is None else f"{value:{width}{form}}"


def table(figures: Sequence[Figure]) -> str:
    """Lines for people."""
    width = max(len(one.case) for one in figures)
    lines = [f"{'case':<{width}} {'p50 ms':>7} {'p99 ms':>7} {'per s':>6} {'share':>6} {'floors':>6}  goal"]
    for one in figures:
        cells = [
            _cell(one.p50, 7, ".1f"),
            _cell(one.p99, 7, ".1f"),
            _cell(one.rate, 6, ".0f"),
            _cell(one.share, 6, ".0%"),
            _cell(one.floors, 6, ".1f"),
        ]
        verdict = {True: "ok", False: "MISSED", None: ""}[one.met]
        lines.append(f"{one.case:<{width}} {' '.join(cells)}  {verdict:<6} {one.goal}".rstrip())
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
        if was and now and now > was * _TOLERANCE:
            found.append(f"{one.case}: {was:.1f} → {now:.1f} {unit} (+{now / was - 1:.0%})")
    return found
