"""A mandala, for prompts that name nothing to draw: rings of petals, drops and dots about one center."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random

from workers.providers.clipart.geometry import SHORT_SIDE, Backdrop, Page, Scene, Shape, ellipse

_LINE_WIDTH = 5.2
_PALETTES = (
    ("#FDF3E7", "#E76F51", "#F4A261", "#E9C46A", "#8AB17D", "#2A9D8F", "#FBE3C8"),
    ("#F3F0FB", "#9B7EDE", "#C7A6F0", "#F2B5D4", "#7BDFF2", "#B2F7EF", "#EFD9FF"),
    ("#EEF7FB", "#277DA1", "#4D908E", "#90BE6D", "#F9C74F", "#9AD1D4", "#D6EDF5"),
    ("#FFF4F4", "#D1495B", "#EDAE49", "#66A182", "#F3C6BF", "#8CB6C8", "#FBE0D8"),
)
_TITLE_SHARE = 0.34


def compose(text_hash: int, type_: str, width: int, height: int, seed: int) -> Scene:
    """A mandala for a page of ``width`` by ``height`` pixels. ``text_hash`` and ``seed`` both vary its structure."""
    rng = Random(text_hash * 1_000_003 + seed)  # noqa: S311 - it shapes petals
    unit = SHORT_SIDE / min(width, height)
    page = Page(width * unit, height * unit, height * unit / 2, height * unit)
    palette = _PALETTES[int(rng.random() * len(_PALETTES))]
    top = page.height * _TITLE_SHARE if type_ == "cover" else 0.0
    middle = (page.width / 2, top + (page.height - top) / 2)
    radius = min(page.width / 2, (page.height - top) / 2) - 62
    framed = type_ == "coloring-page"
    shapes = [*_corners(page, top, radius, palette, rng), *_rings(*middle, radius, palette, rng)]
    return Scene(
        page=page,
        backdrop=Backdrop((palette[0], palette[0]), tuple(shapes)),
        placements=(),
        colored=not framed,
        line_width=_LINE_WIDTH,
        framed=framed,
        margin=24.0 if framed else 0.0,
        panel=(70.0, 60.0, page.width - 140.0, top - 90.0) if top else None,
    )


def _corners(page: Page, top: float, radius: float, palette: tuple[str, ...], rng: Random) -> Iterator[Shape]:
    """A quarter of a smaller flower in each corner, all four alike."""
    fold = 16
    reach = max(radius * 0.4, math.hypot(page.width, page.height - top) / 2 - radius * 1.05)
    reach = min(reach, min(page.width, page.height - top) * 0.34)
    for x, y in ((0.0, top), (page.width, top), (0.0, page.height), (page.width, page.height)):
        yield from _ring(_petal, x, y, reach * 0.55, reach, fold, palette[3], turn=math.pi / fold)
        yield from _ring(_petal, x, y, reach * 0.3, reach * 0.72, fold, palette[2], turn=0.0)
        yield Shape(ellipse(x, y, reach * 0.42, reach * 0.42), palette[6])
        yield from _ring(_bead, x, y, reach * 0.3, reach * 0.4, fold, palette[1], turn=0.0)
        yield Shape(ellipse(x, y, reach * 0.26, reach * 0.26), palette[4])


def _rings(x: float, y: float, radius: float, palette: tuple[str, ...], rng: Random) -> Iterator[Shape]:
    """The rings from the outermost inwards, so that each lies on the one before."""
    fold = (8, 10, 12, 16)[int(rng.random() * 4)]
    motifs = (_petal, _leaf, _drop, _scallop, _spike)
    outer, index = radius, 0
    previous = -1
    while outer > radius * 0.17:
        choice = int(rng.random() * len(motifs))
        choice = (choice + 1) % len(motifs) if choice == previous else choice
        previous = choice
        depth = radius * (0.16 + 0.12 * rng.random())
        inner = max(outer - depth, radius * 0.1)
        count = fold * 2 if outer > radius * 0.72 else fold
        turn = math.pi / count * (index % 2)
        color = palette[1 + index % 5]
        if index == 0:
            yield Shape(ellipse(x, y, radius, radius), palette[6])
        overlap = max(inner - depth * 0.5, radius * 0.06)
        yield from _ring(motifs[choice], x, y, overlap, outer * 0.985, count, color, turn)
        yield from _ring(motifs[choice], x, y, inner, outer * 0.985 - depth * 0.32, count, palette[6], turn, slim=0.55)
        yield Shape(ellipse(x, y, inner, inner), palette[1 + (index + 2) % 5])
        band = inner * 0.1 + 12
        if inner - band > radius * 0.16:
            yield from _ring(_bead, x, y, inner - band, inner - 3, count, palette[6], turn)
            yield Shape(ellipse(x, y, inner - band, inner - band), palette[0])
            inner -= band
        outer, index = inner, index + 1
    yield from _ring(_petal, x, y, radius * 0.02, outer * 0.95, fold, palette[1], 0.0)
    yield Shape(ellipse(x, y, outer * 0.34, outer * 0.34), palette[3])
    yield Shape(ellipse(x, y, outer * 0.16, outer * 0.16), palette[6])


_Motif = Callable[[float, float, float], list[tuple[str, list[tuple[float, float]]]]]


def _ring(
    motif: _Motif,
    x: float,
    y: float,
    inner: float,
    outer: float,
    count: int,
    color: str,
    turn: float,
    slim: float = 1.0,
) -> Iterator[Shape]:
    """``count`` copies of a motif between two radii, evenly round the center."""
    half = math.pi / count * slim
    outline = motif(inner, outer, half)
    for index in range(count):
        angle = 2 * math.pi * index / count + turn - math.pi / 2
        parts = []
        for command, points in outline:
            placed = " ".join(f"{x + r * math.cos(angle + a):.1f},{y + r * math.sin(angle + a):.1f}" for r, a in points)
            parts.append(command + placed)
        yield Shape("".join(parts) + "z", color)


# The motifs are written as (radius, angle) from the center of the mandala.


def _petal(inner: float, outer: float, half: float) -> list[tuple[str, list[tuple[float, float]]]]:
    wide = half * 1.02
    reach = inner + (outer - inner) * 0.62
    return [
        ("M", [(inner, 0)]),
        ("C", [(reach * 0.9, -wide * 1.3), (outer, -wide), (outer, 0)]),
        ("C", [(outer, wide), (reach * 0.9, wide * 1.3), (inner, 0)]),
    ]


def _leaf(inner: float, outer: float, half: float) -> list[tuple[str, list[tuple[float, float]]]]:
    middle = inner + (outer - inner) * 0.5
    return [
        ("M", [(inner, 0)]),
        ("Q", [(middle, -half * 1.7), (outer, 0)]),
        ("Q", [(middle, half * 1.7), (inner, 0)]),
    ]


def _drop(inner: float, outer: float, half: float) -> list[tuple[str, list[tuple[float, float]]]]:
    reach = inner + (outer - inner) * 0.55
    return [
        ("M", [(inner, -half * 0.9)]),
        ("C", [(reach, -half * 1.1), (reach, -half * 0.2), (outer, 0)]),
        ("C", [(reach, half * 0.2), (reach, half * 1.1), (inner, half * 0.9)]),
    ]


def _scallop(inner: float, outer: float, half: float) -> list[tuple[str, list[tuple[float, float]]]]:
    reach = inner + (outer - inner) * 1.25
    return [("M", [(inner, -half)]), ("C", [(reach, -half), (reach, half), (inner, half)])]


def _spike(inner: float, outer: float, half: float) -> list[tuple[str, list[tuple[float, float]]]]:
    return [("M", [(inner, -half)]), ("L", [(outer, 0)]), ("L", [(inner, half)])]


def _bead(inner: float, outer: float, half: float) -> list[tuple[str, list[tuple[float, float]]]]:
    middle = (inner + outer) / 2
    wide = min(half * 0.8, (outer - inner) / 2 / middle)
    return [
        ("M", [(inner, 0)]),
        ("C", [(inner, -wide * 1.33), (outer, -wide * 1.33), (outer, 0)]),
        ("C", [(outer, wide * 1.33), (inner, wide * 1.33), (inner, 0)]),
    ]
