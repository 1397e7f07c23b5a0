"""Images of the sizes and kinds that vendors send, each with a place for a number that makes its bytes unique."""

from __future__ import annotations

import functools
import io
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from PIL import Image, ImageChops, ImageDraw

_DIGITS: Final = 12
#: The length of a PNG's signature with its header chunk, and that of a JPEG's start with its JFIF segment.
_PNG_HEADER: Final = 33
_JFIF_HEADER: Final = 20


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image without its number, which goes between ``head`` and ``tail``. Both ``head`` and the number's bytes have
    a length that is a multiple of three, so that their base64 can be joined."""

    title: str
    size: tuple[int, int]
    format: str
    head: bytes = field(repr=False)
    tail: bytes = field(repr=False)
    note: Callable[[int], bytes] = field(repr=False)

    def numbered(self, number: int) -> bytes:
        """Return the file with this number in it."""
        return self.head + self.note(number) + self.tail

    @property
    def megabytes(self) -> float:
        """The size of the file."""
        return len(self.numbered(0)) / 1e6


@functools.cache
def samples() -> dict[str, Sample]:
    """Return the kinds by their names. Making them takes a second."""
    photo, lines = _photo(), _line_art()
    return {
        "photo": _png("PNG 1024 × 1536", photo),
        "line art": _png("line art, PNG 1024 × 1024", lines),
        "jpeg": _jpeg("JPEG 1024 × 1536", photo),
        "webp": _webp("WebP 1024 × 1536", photo),
    }


def _photo() -> Image.Image:
    """Return smooth colors with a little grain, which compress as badly as a photo does: 2 MB as PNG."""
    width, height, grain = 1024, 1536, 6
    chance = random.Random(7)
    across, down = width // 64, height // 64
    colors = Image.frombytes("RGB", (across, down), chance.randbytes(across * down * 3))
    noise = Image.frombytes("L", (width, height), chance.randbytes(width * height))
    noise = noise.point([round(value * grain / 255) for value in range(256)])
    smooth = colors.resize((width, height), Image.Resampling.BICUBIC)
    return ImageChops.add(smooth, Image.merge("RGB", [noise] * 3), offset=-grain // 2)


def _line_art() -> Image.Image:
    """Return a coloring page: black lines with soft edges on white."""
    side, scale = 1024, 2
    chance = random.Random(7)
    page = Image.new("RGB", (side * scale, side * scale), "white")
    draw = ImageDraw.Draw(page)
    for _ in range(120):
        x, y = (chance.randrange(side * scale) for _ in range(2))
        across, down = (chance.randrange(40, 600) for _ in range(2))
        draw.arc((x - across, y - down, x + across, y + down), 0, chance.randrange(90, 360), "black", width=8)
    return page.resize((side, side), Image.Resampling.LANCZOS)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _digits(number: int) -> bytes:
    return b"%0*d" % (_DIGITS, number)


def _png(title: str, image: Image.Image) -> Sample:
    def note(number: int) -> bytes:
        content = b"id\0" + _digits(number)
        return struct.pack(">I4s", len(content), b"tEXt") + content + struct.pack(">I", zlib.crc32(b"tEXt" + content))

    data = _saved(image, "PNG")
    return Sample(
        title=title, size=image.size, format="png", head=data[:_PNG_HEADER], tail=data[_PNG_HEADER:], note=note
    )


def _jpeg(title: str, image: Image.Image) -> Sample:
    data = _saved(image, "JPEG", quality=90)
    comment = b"\xff\xfe" + struct.pack(">H", 2 + _DIGITS)
    head, tail = data[:_JFIF_HEADER] + comment, data[_JFIF_HEADER:]
    return Sample(title=title, size=image.size, format="jpeg", head=head, tail=tail, note=_digits)


def _webp(title: str, image: Image.Image) -> Sample:
    for padding in range(3):
        data = _saved(image, "WEBP", quality=90, xmp=b" " * padding + _digits(0))
        at = data.rindex(_digits(0))
        if at % 3 == 0:
            break
    return Sample(title=title, size=image.size, format="webp", head=data[:at], tail=data[at + _DIGITS :], note=_digits)
