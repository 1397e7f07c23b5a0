"""A contact sheet: images side by side, each with a caption."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw, ImageFont, ImageOps

_CELL: Final = 480
_GAP: Final = 24
_CAPTION: Final = 34
_INK, _PAPER, _EDGE = "#333333", "#ffffff", "#cccccc"


def contact_sheet(images: Sequence[tuple[str, bytes]], *, columns: int = 5) -> bytes:
    """Return a PNG with the images, each given as its caption and its file, in rows of so many columns."""
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns)
    step, height = _CELL + _GAP, _CELL + _CAPTION + _GAP
    sheet = Image.new("RGB", (_GAP + columns * step, _GAP + rows * height), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(20)
    for number, (caption, data) in enumerate(images):
        left, top = _GAP + number % columns * step, _GAP + number // columns * height
        with Image.open(io.BytesIO(data)) as image:
            shown = ImageOps.contain(image.convert("RGB"), (_CELL, _CELL))
        corner = left + (_CELL - shown.width) // 2, top + (_CELL - shown.height) // 2
        sheet.paste(shown, corner)
        pen.rectangle((*corner, corner[0] + shown.width - 1, corner[1] + shown.height - 1), outline=_EDGE)
        while caption and font.getlength(caption) > _CELL:
            caption = caption[:-2].rstrip() + "…"
        pen.text((left + _CELL / 2, top + _CELL + 8), caption, fill=_INK, font=font, anchor="ma")
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()
