"""A run as a table, as JSON, and beside an older one."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.turns import Measured

#: What must not be called slower: two runs on a shared machine differ by as much.
_TOLERANCE: Final = 1.2


@dataclass(frozen=True)
class Figure:
    """What a case came to. Times are in ms, ``rate`` is in one second, ``share`` is of one, ``memory`` in
    MB, and ``count`` a number of things.

    ``floor`` and ``peer`` are the case's speed as a multiple of that of a floor, which ``on`` names, and of the peer:
    2 is twice as fast, or half as large. The rates tell, else the middle times, else the memory. ``most`` is what
    ``p99`` may be, and ``least`` what ``rate`` has to be; ``met`` says whether every goal was met.
    """

    case: str
    goal: str = ""
    met: bool | None = None
    p50: float | None = None
    p99: float | None = None
    most: float | None = None
    slowest: float | None = None
    rate: float | None = None
    least: float | None = None
    share: float | None = None
    memory: float | None = None
    count: float | None = None
    floor: float | None = None
    on: str = ""
    peer: float | None = None

    @classmethod
    def of(cls, measured: Measured, case: str) -> Figure:
        """Of calls one after the other."""
        return cls(case, p50=measured.p50, p99=measured.p99, slowest=measured.slowest, rate=measured.rate)

    @classmethod
    def of_times(cls, case: str, taken: Sequence[float]) -> Figure:
        """Of times in ms."""
        times = sorted(taken)
        late = times[min(len(times) - 1, int(len(times) * 0.99))]
        return cls(case, p50=statistics.median(times), p99=late, slowest=times[-1])

    def beside(self, floor: Figure | None = None, on: str = "", *, peer: Figure | None = None) -> Figure:
        """The same with its ratios to these, as far as they are there."""
        return replace(
            self,
            floor=_speed(self, floor) if floor else self.floor,
            on=on if floor else self.on,
            peer=_speed(self, peer) if peer else self.peer,
        )

    def hoping(self, *, p50: float | None = None, p99: float | None = None) -> Figure:
        """The same with what its times may be at most."""
        figure = replace(self, most=p99)
        for name, limit in (("p50", p50), ("p99", p99)):
            if limit is not None:
                figure = figure.also(f"{name} ≤ {limit:,g} ms", met=getattr(self, name) <= limit)
        return figure

    def at_least(self, share: float, other: Figure, word: str) -> Figure:
        """The same with a goal for its rate: so much of another's."""
        least = share * (other.rate or 0)
        figure = self.also(f"≥ {share:g} × {word}", met=(self.rate or 0) >= least)
        return replace(figure, least=max(least, self.least or 0))

    def also(self, goal: str, *, met: bool) -> Figure:
        """The same with one more goal, and whether it was met."""
        judged = f"{'met' if met else 'MISSED'}: {goal}"
        return replace(self, goal=f"{self.goal}; {judged}" if self.goal else judged, met=met and self.met is not False)


def _speed(one: Figure, other: Figure) -> float | None:
    if one.rate and other.rate:
        return one.rate / other.rate
    for mine, theirs in ((one.p50, other.p50), (one.memory, other.memory)):
        if mine and theirs:
            return theirs / mine
    return None


# --- As a table -------------------------------------------------------------------------------------------------------

_HEADS: Final = ("case", "p50 ms", "p99 ms", "per s", "share", "MB", "count", "× floor", "floor", "× peer", "goal")
_WORDS: Final = {"case", "floor", "goal"}


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value >= 0.095 else f"{value:.2g}"


def _cells(one: Figure) -> list[str]:
    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return [
        one.case,
        number(one.p50, ",.1f"),
        number(one.p99, ",.1f"),
        number(one.rate, ",.0f"),
        number(one.share, ".1%"),
        number(one.memory, ",.0f"),
        number(one.count, ",.0f"),
        _ratio(one.floor),
        one.on,
        _ratio(one.peer),
        one.goal,
    ]


def table(figures: Sequence[Figure]) -> str:
    """Lines for a terminal."""
    rows = [list(_HEADS), *(_cells(one) for one in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if head in _WORDS else cell.rjust(width)
            for cell, width, head in zip(row, widths, _HEADS, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    judged = [one for one in figures if one.met is not None]
    lines.append("× is speed as a multiple of that of the floor or the peer in the same run: 1 is as fast, 0.5 half.")
    lines.append(f"{sum(bool(one.met) for one in judged)} of {len(judged)} goals met")
    return "\n".join(lines)


def markdown(figures: Sequence[Figure]) -> str:
    """The same for a page."""
    rows = [list(_HEADS), [":--" if head in _WORDS else "--:" for head in _HEADS], *(_cells(one) for one in figures)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


# --- As JSON ----------------------------------------------------------------------------------------------------------


def write(path: Path, figures: Sequence[Figure], **conditions: Any) -> None:
    """Keep a run for :func:`slower`, with the conditions that it was made under."""
    run = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[2], 2),
        "python": platform.python_version(),
        **conditions,
        "figures": [asdict(one) for one in figures],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run, indent=2) + "\n")


def read(path: Path) -> list[Figure]:
    """The figures of a run that was kept; what an older shape had besides is left out."""
    known = Figure.__dataclass_fields__
    return [
        Figure(**{name: value for name, value in one.items() if name in known})
        for one in json.loads(path.read_text())["figures"]
    ]


def slower(old: Sequence[Figure], new: Sequence[Figure]) -> list[str]:
    """What got slower, or larger, by more than 20 % since the older run: by its ratio to the same floor, in which
    machines are alike, else by its ratio to the peer, else by the figure itself."""
    before: Mapping[str, Figure] = {one.case: one for one in old}
    found = []
    for one in new:
        if (known := before.get(one.case)) is None:
            continue
        for was, now, unit in (
            (known.floor, one.floor if one.on == known.on else None, f"× {one.on}"),
            (known.peer, one.peer, "× the peer"),
            (_inverse(known.rate), _inverse(one.rate), "s for each"),
            (known.p50, one.p50, "ms"),
            (known.memory, one.memory, "MB"),
            (known.count, one.count, "in all"),
        ):
            if not was or not now:
                continue
            grown = was / now if unit.startswith("×") else now / was
            if grown > _TOLERANCE:
                found.append(f"{one.case}: {was:.3g} → {now:.3g} {unit} (+{grown - 1:.0%})")
            break
    return found


def _inverse(rate: float | None) -> float | None:
    return 1 / rate if rate else None
