"""Place objects on a page: each tries many positions and takes the best for an even image."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random

from workers.providers.clipart.geometry import Placement

_TRIES = 60
# How many sizes are tried, each smaller than the one before.
_WANTED_SIZES, _OTHER_SIZES = 5, 2
# How much of an object may lie over or under another before the spot is refused.
_OVERLAP_LIMIT = 0.06


@dataclass(frozen=True, slots=True)
class Zone:
    """Where the foot of an object may stand, in page units."""

    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A box to keep clear of; ``weight`` tells how much of the overlap counts."""

    left: float
    top: float
    right: float
    bottom: float
    weight: float = 1.0


def boxes(placements: Iterable[Placement], *, behind: bool = False) -> list[Obstacle]:
    """The placements as obstacles, for something ``behind`` them, of which they may hide a part, or beside them."""

    def weight(item: Placement) -> float:
        if behind and item.role in ("main", "group"):
            return 0.12
        return 0.75 if item.role == "back" else 1.0

    return [Obstacle(item.left, item.top, item.right, item.base, weight(item)) for item in placements]


def overlap(item: Placement, other: Obstacle) -> float:
    """The part of the item's box, 0 to 1, that lies within the other."""
    width = min(item.right, other.right) - max(item.left, other.left)
    height = min(item.base, other.bottom) - max(item.top, other.top)
    return max(0.0, width) * max(0.0, height) / (item.width * item.height)


def place(item: Placement, zone: Zone, obstacles: list[Obstacle], rng: Random, *, wanted: bool) -> Placement | None:
    """The item in the best spot of its zone, made smaller where that helps.

    A wanted item takes the least bad spot rather than none; for another one without room the answer is ``None``.
    """
    best: tuple[float, Placement] | None = None
    for attempt in range(_WANTED_SIZES if wanted else _OTHER_SIZES):
        factor = 0.86**attempt
        sized = replace(item, width=item.width * factor, height=item.height * factor)
        for _ in range(_TRIES):
            candidate = _candidate(sized, zone, rng)
            covered = _covered(candidate, obstacles)
            score = covered * 8 - _clearance(candidate, obstacles) + 0.12 * rng.random()
            if (best is None or score < best[0]) and (covered <= _OVERLAP_LIMIT or wanted):
                best = (score, candidate)
        if best is not None and _covered(best[1], obstacles) <= _OVERLAP_LIMIT:
            break
    return best[1] if best else None


def _candidate(item: Placement, zone: Zone, rng: Random) -> Placement:
    half = item.width / 2
    left, right = zone.left + half, zone.right - half
    x = left + (right - left) * rng.random() if right > left else (zone.left + zone.right) / 2
    return replace(item, x=x, base=zone.top + max(0.0, zone.bottom - zone.top) * rng.random())


def _covered(item: Placement, obstacles: list[Obstacle]) -> float:
    return sum(overlap(item, other) * other.weight for other in obstacles)


def _clearance(item: Placement, obstacles: list[Obstacle]) -> float:
    """How far the nearest obstacle is, in the item's own sizes, up to 1: the farther, the evener the page."""
    size = math.hypot(item.width, item.height)
    nearest = size
    for other in obstacles:
        dx = max(other.left - item.right, item.left - other.right, 0.0)
        dy = max(other.top - item.base, item.top - other.bottom, 0.0)
        nearest = min(nearest, math.hypot(dx, dy))
    return nearest / size
