"""The parts of a scene as plain data, and the few curves that backdrops are built of.

Everything is measured in page units: the short side of the page is 1000, y grows downwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

SHORT_SIDE = 1000.0


@dataclass(frozen=True, slots=True)
class Page:
    """The page, with the height of its horizon and of the line on which the main subject stands."""

    width: float
    height: float
    horizon: float
    ground: float

    def x(self, fraction: float) -> float:
        return self.width * fraction

    def y(self, fraction: float) -> float:
        return self.height * fraction

    def depth(self, fraction: float) -> float:
        """A height on the ground: 0 at the horizon, 1 at the lower edge."""
        return self.horizon + (self.height - self.horizon) * fraction


@dataclass(frozen=True, slots=True)
class Shape:
    """A path of the backdrop. ``fill`` is its color (none: a line only); on coloring pages it is filled white.

    ``weight`` scales the width of the line, 0 draws none. ``color_only`` leaves it out of coloring pages.
    """

    d: str
    fill: str = ""
    weight: float = 1.0
    color_only: bool = False
    line: str = ""


@dataclass(frozen=True, slots=True)
class Placement:
    """A drawing on the page: the middle of its foot, its size, and whether it faces the other way."""

    drawing: str
    role: str
    place: str
    x: float
    base: float
    width: float
    height: float
    mirrored: bool = False
    shadow: bool = False

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        return self.base - self.height


@dataclass(frozen=True, slots=True)
class Backdrop:
    """What a setting draws behind its objects and in front of them; ``sky`` is the gradient, top and bottom.

    ``clear`` is a box (left, top, right, bottom) that nothing is hung over, such as a window.
    """

    sky: tuple[str, str]
    back: tuple[Shape, ...]
    front: tuple[Shape, ...] = ()
    clear: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole image, in the order in which it is painted."""

    page: Page
    backdrop: Backdrop
    placements: tuple[Placement, ...]
    colored: bool
    line_width: float
    framed: bool = False
    margin: float = 0.0
    panel: tuple[float, float, float, float] | None = field(default=None)


def path(points: Iterable[tuple[float, float]], *, closed: bool = True) -> str:
    """Straight lines from point to point."""
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points) + ("z" if closed else "")


def smooth(points: Sequence[tuple[float, float]]) -> str:
    """An open curve through the points (Catmull-Rom, as cubic Béziers)."""
    padded = [points[0], *points, points[-1]]
    parts = [f"M{points[0][0]:.1f},{points[0][1]:.1f}"]
    for before, start, end, after in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        first = (start[0] + (end[0] - before[0]) / 6, start[1] + (end[1] - before[1]) / 6)
        second = (end[0] - (after[0] - start[0]) / 6, end[1] - (after[1] - start[1]) / 6)
        parts.append("C" + " ".join(f"{x:.1f},{y:.1f}" for x, y in (first, second, end)))
    return "".join(parts)


def hills(page: Page, base: float, rise: float, count: int, rng: Random) -> str:
    """A rolling line across the page with everything below it; ``count`` tops, each up to ``rise`` high."""
    step = page.width / count
    points = [(-step, base)]
    for index in range(count + 1):
        x = step * index + (rng.random() - 0.5) * step * 0.3
        points.append((x, base - rise * (0.35 + 0.65 * rng.random())))
        points.append((x + step / 2, base - rise * 0.25 * rng.random()))
    points.append((page.width + step, base))
    return smooth(points) + _below(page)


def waves(page: Page, y: float, length: float, height: float, *, phase: float = 0.0, filled: bool = True) -> str:
    """A row of pointed waves across the page, with everything below it if ``filled``."""
    start = -length * (1 + phase % 1)
    count = math.ceil((page.width - start) / length) + 1
    crest = f"q{length / 2:.1f},{height:.1f} {length:.1f},0"
    return f"M{start:.1f},{y:.1f}" + crest * count + (_below(page) if filled else "")


def band(page: Page, top: float) -> str:
    """Everything below a level line."""
    return f"M-60,{top:.1f}H{page.width + 60:.1f}V{page.height + 60:.1f}H-60z"


def _below(page: Page) -> str:
    return f"V{page.height + 60:.1f}H-{page.width:.1f}z"


def rectangle(x: float, y: float, width: float, height: float) -> str:
    return f"M{x:.1f},{y:.1f}h{width:.1f}v{height:.1f}h{-width:.1f}z"


def ellipse(x: float, y: float, rx: float, ry: float) -> str:
    return f"M{x - rx:.1f},{y:.1f}a{rx:.1f},{ry:.1f} 0 1 0 {2 * rx:.1f},0a{rx:.1f},{ry:.1f} 0 1 0 {-2 * rx:.1f},0z"


def cloud(x: float, y: float, width: float) -> str:
    """A flat-footed cloud whose lower left corner is at x, y."""
    u = width / 10
    return (
        f"M{x:.1f},{y:.1f}c{-1.6 * u:.1f},0 {-1.6 * u:.1f},{-2.4 * u:.1f} {0.4 * u:.1f},{-2.5 * u:.1f}"
        f"c0,{-2.2 * u:.1f} {2.8 * u:.1f},{-2.6 * u:.1f} {3.5 * u:.1f},{-1.1 * u:.1f}"
        f"c{1.1 * u:.1f},{-1.5 * u:.1f} {3.8 * u:.1f},{-0.6 * u:.1f} {3.6 * u:.1f},{1.4 * u:.1f}"
        f"c{2.2 * u:.1f},{-0.2 * u:.1f} {2.2 * u:.1f},{2.2 * u:.1f} {0.5 * u:.1f},{2.2 * u:.1f}z"
    )


def treetops(page: Page, y: float, size: float, rng: Random) -> str:
    """A far wood: scalloped tops across the page with everything below."""
    parts = [f"M{-size:.1f},{y:.1f}"]
    x = -size
    while x < page.width + size:
        width = size * (0.7 + 0.6 * rng.random())
        parts.append(f"c{width * 0.05:.1f},{-width * 0.75:.1f} {width * 0.95:.1f},{-width * 0.75:.1f} {width:.1f},0")
        x += width
    return "".join(parts) + _below(page)


def grass(x: float, y: float, size: float) -> str:
    """A tuft of three blades."""
    side, tip, bend = size * 0.5, size * 0.7, size * 0.4
    return (
        f"M{x - side:.1f},{y - tip:.1f}q{bend:.1f},{bend / 2:.1f} {bend:.1f},{tip:.1f}"
        f"M{x:.1f},{y - size:.1f}V{y:.1f}"
        f"M{x + side:.1f},{y - tip:.1f}q{-bend:.1f},{bend / 2:.1f} {-bend:.1f},{tip:.1f}"
    )


def sparkle(x: float, y: float, size: float) -> str:
    """A star of four points."""
    s, w = size, size * 0.22
    return path(
        [(x, y - s), (x + w, y - w), (x + s, y), (x + w, y + w), (x, y + s), (x - w, y + w), (x - s, y), (x - w, y - w)]
    )
