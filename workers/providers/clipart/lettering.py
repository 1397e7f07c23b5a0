"""Writing a cover's title, with the font that Pillow carries inside itself, so that every machine writes it alike."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

_INK = "#2F4858"
_LINE_SPACING = 1.16
_BIGGEST, _SMALLEST = 0.5, 0.05
# The strokes of the font are thin; an outline of its own color makes it bold.
_BOLDNESS = 1 / 26
_PUNCTUATION = str.maketrans({"–": "-", "—": "-", "‘": "'", "„": '"', "«": '"', "»": '"', "…": "..."})
_MOST_CHARACTERS = 200


def write_title(image: Image, title: str, box: tuple[float, float, float, float]) -> None:
    """Write ``title`` into ``box`` (left, top, width, height, in pixels), as large as it fits, wrapped and centerd."""
    from PIL import ImageDraw

    text = printable(title)
    if not text:
        return
    left, top, width, height = box
    size, lines = _fit(text, width, height)
    font = _font(size)
    pen = ImageDraw.Draw(image)
    stroke = max(1, round(size * _BOLDNESS))
    step = size * _LINE_SPACING
    y = top + height / 2 - step * (len(lines) - 1) / 2
    for line in lines:
        pen.text((left + width / 2, y), line, fill=_INK, font=font, anchor="mm", stroke_width=stroke, stroke_fill=_INK)
        y += step


def printable(title: str) -> str:
    """The title in letters that the font has: accents it lacks are dropped, then characters it lacks."""
    kept = []
    for char in " ".join(title[:_MOST_CHARACTERS].split()).translate(_PUNCTUATION):
        if char == " " or _has_glyph(char):
            kept.append(char)
        else:
            kept += [part for part in unicodedata.normalize("NFKD", char) if _has_glyph(part)]
    return " ".join("".join(kept).split())


def _fit(text: str, width: float, height: float) -> tuple[int, list[str]]:
    """The largest size of type, in pixels, at which the text fits, and its lines."""
    smallest, biggest = max(8, round(height * _SMALLEST)), max(9, round(height * _BIGGEST))
    best = (smallest, _wrap(text, _font(smallest), width))
    while smallest <= biggest:
        size = (smallest + biggest) // 2
        lines = _wrap(text, _font(size), width * (1 - _BOLDNESS))
        whole = " ".join(lines) == text
        if whole and size * _LINE_SPACING * len(lines) <= height:
            best, smallest = (size, lines), size + 1
        else:
            biggest = size - 1
    size, lines = best
    return size, lines[: max(1, int(height / (size * _LINE_SPACING)))]


def _wrap(text: str, font: FreeTypeFont, width: float) -> list[str]:
    """The text in lines no wider than ``width``; a word that is wider by itself is cut."""
    lines = [""]
    for word in text.split(" "):
        while font.getlength(word) > width and len(word) > 1:
            cut = next((n for n in range(len(word) - 1, 1, -1) if font.getlength(word[:n]) <= width), 1)
            lines.append(word[:cut])
            word = word[cut:]
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return [line for line in lines if line]


@lru_cache(maxsize=64)
def _font(size: int) -> FreeTypeFont:
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow is built without FreeType, so it cannot write a title")
    # The basic layout gives the same advance widths on machines with and without Raqm.
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=512)
def _has_glyph(char: str) -> bool:
    if not char.isprintable():
        return False
    font = _font(24)
    return bytes(font.getmask(char)) != bytes(font.getmask("\uffff"))
