"""What figures wear: shapes of ours at the neck, in a color of the prompt.

A drawing is named with its clothes, as in ``1F98A+body+scarf.5C9E31``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from workers.providers.clipart.figures import circle, drawn

#: The garments by the drawing that stands for their noun, with their usual colors.
GARMENTS: Final = {"1F9E3": ("scarf", "EA5A47"), "1F380": ("bow", "FFA7C0")}
_NOUNS: Final = {garment: drawing for drawing, (garment, _) in GARMENTS.items()}
#: Middle, height and half the width of the neck, by the part below a head or bust, or by the shape of ours.
_NECKS: Final = {
    "body": (36.0, 57.0, 16.0),
    "legs": (36.0, 43.0, 11.0),
    "dress": (36.0, 43.0, 11.0),
    "gown": (36.0, 43.0, 11.0),
    "own-dragon": (48.0, 54.0, 17.0),
}


def fits(drawing: str) -> bool:
    """Return whether the figure has a neck that clothes fit on."""
    return _neck(drawing) is not None


def put_on(drawing: str, clothes: Iterable[tuple[str, str]]) -> str:
    """Return the drawing's name with these clothes, each the drawing of its noun and a color or ``""``."""
    if not fits(drawing):
        return drawing
    worn = {GARMENTS[noun][0]: (color or GARMENTS[noun][1]).lstrip("#") for noun, color in clothes}
    return "+".join([drawing, *(f"{garment}.{color}" for garment, color in worn.items())])


def without(drawing: str) -> str:
    """Return the name of the drawing without clothes."""
    return "+".join(part for part in drawing.split("+") if "." not in part)


def nouns_of(drawing: str) -> frozenset[str]:
    """Return the drawings of the nouns that the figure wears."""
    return frozenset(_NOUNS[part.partition(".")[0]] for part in drawing.split("+") if "." in part)


def shapes_of(drawing: str) -> list[str]:
    """Return the SVG of each garment of the drawing."""
    neck = _neck(drawing)
    if neck is None:
        return []
    worn = (part.split(".") for part in drawing.split("+") if "." in part)
    return [{"scarf": _scarf, "bow": _bow}[garment](*neck, f"#{color}") for garment, color in worn]


def are_below_head(drawing: str) -> bool:
    """Return whether the head covers the upper edge of the clothes."""
    return "body" in drawing.split("+")


def _neck(drawing: str) -> tuple[float, float, float] | None:
    return next((_NECKS[part] for part in drawing.split("+") if part in _NECKS), None)


def _scarf(x: float, y: float, half: float, color: str) -> str:
    """A band with one end that hangs down, both striped."""
    left, right, end = x - half, x + half * 0.2, y + 25
    return drawn(
        (color, f"M{right},{y + 9}l1,{end - y - 9}h9l1,-{end - y - 9}z"),
        (color, f"M{left},{y}q{half},9 {2 * half},0q3.5,4 0,8.5q-{half},9 -{2 * half},0q-3.5,-4.5 0,-8.5z"),
        lines=(
            f"M{right + 1},{end - 5}h9",
            f"M{right + 4},{end}v3.5",
            f"M{right + 7},{end}v3.5",
            f"M{left + half * 0.45},{y + 3}l-1,8.500",
            f"M{left + half * 0.8},{y + 4}v9",
        ),
    )


def _bow(x: float, y: float, half: float, color: str) -> str:
    """A bow tie."""
    y, wing = y + 8, half * 0.8
    return drawn(
        (color, f"M{x},{y}l-{wing},-6q-3,6 0,12z"),
        (color, f"M{x},{y}l{wing},-6q3,6 0,12z"),
        (color, circle(x, y, 3)),
    )
