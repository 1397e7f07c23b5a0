"""Coordinates of the queue page's charts, which the template writes as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from generation.reports.trends import Hour

WIDTH: Final = 720
HEIGHT: Final = 200
_LEFT: Final = 44
_RIGHT: Final = 8
_TOP: Final = 12
_BOTTOM: Final = 26
_PLOT: Final = HEIGHT - _TOP - _BOTTOM
#: Every fourth hour has a label.
_LABEL_EVERY: Final = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """The requests that finished in one hour: failed ones stacked on completed ones."""

    start: datetime
    x: float
    width: float
    completed: int
    failed: int
    completed_y: float
    completed_height: float
    failed_y: float
    failed_height: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """The average wait of one hour, in seconds."""

    start: datetime
    x: float
    y: float
    wait: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A grid line and its value."""

    y: float
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Name:
    """The label of an hour below the chart."""

    x: float
    start: datetime


def bars(hours: Sequence[Hour]) -> tuple[list[Bar], list[Line]]:
    """Return the bars of finished requests per hour, and the grid."""
    top = _round_up(max((hour.completed + hour.failed for hour in hours), default=0), whole=True)
    step = _step(hours)
    result = []
    for index, hour in enumerate(hours):
        completed, failed = (_PLOT * count / top for count in (hour.completed, hour.failed))
        result.append(
            Bar(
                start=hour.start,
                x=round(_LEFT + index * step + step * 0.15, 1),
                width=round(step * 0.7, 1),
                completed=hour.completed,
                failed=hour.failed,
                completed_y=round(_TOP + _PLOT - completed, 1),
                completed_height=round(completed, 1),
                failed_y=round(_TOP + _PLOT - completed - failed, 1),
                failed_height=round(failed, 1),
            )
        )
    return result, _grid(top)


def line(hours: Sequence[Hour]) -> tuple[list[Point], list[Line]]:
    """Return the average wait by hour of start, and the grid. Hours without a start are left out."""
    top = _round_up(max((hour.wait for hour in hours if hour.wait is not None), default=0.0))
    step = _step(hours)
    points = [
        Point(
            start=hour.start,
            x=round(_LEFT + (index + 0.5) * step, 1),
            y=round(_TOP + _PLOT * (1 - hour.wait / top), 1),
            wait=hour.wait,
        )
        for index, hour in enumerate(hours)
        if hour.wait is not None
    ]
    return points, _grid(top)


def names(hours: Sequence[Hour]) -> list[Name]:
    """Return the labels of the hours."""
    step = _step(hours)
    return [
        Name(x=round(_LEFT + (index + 0.5) * step, 1), start=hour.start)
        for index, hour in enumerate(hours)
        if index % _LABEL_EVERY == 1
    ]


def _step(hours: Sequence[Hour]) -> float:
    return (WIDTH - _LEFT - _RIGHT) / max(1, len(hours))


def _grid(top: float) -> list[Line]:
    return [Line(y=round(_TOP + _PLOT * (1 - part), 1), value=top * part) for part in (0, 0.5, 1)]


def _round_up(value: float, *, whole: bool = False) -> float:
    """Round up to 1, 2, 5, 10, 20, …; with ``whole`` to 2, 4, 6, 8, 10, 20, …, whose halves are whole numbers."""
    if value <= (2 if whole else 1):
        return 2 if whole else 1
    power = 10 ** math.floor(math.log10(value))
    steps = (1, 2, 4, 6, 8, 10) if whole else (1, 2, 5, 10)
    return float(next(step * power for step in steps if step * power >= value))
