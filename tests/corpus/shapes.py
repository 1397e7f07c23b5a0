"""Shared by the images of the corpus: four quadrants, 96 pixels wide and 64 high."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from PIL import Image

SIZE: Final = (96, 64)
MEGABYTE: Final = 1024 * 1024
Color = tuple[int, int, int]
#: Top left, top right, bottom left, bottom right.
Colors = tuple[Color, Color, Color, Color]
RED, GREEN, BLUE, YELLOW = (220, 40, 40), (40, 160, 60), (40, 60, 200), (240, 210, 60)
WHITE: Final = (255, 255, 255)
COLORS: Final[Colors] = (RED, GREEN, BLUE, YELLOW)
#: How a camera on its side stores the image that is shown upright.
_TURNED: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
ORIENTATIONS: Final = range(1, 9)


@dataclass(frozen=True, kw_only=True, slots=True)
class OddImage:
    """A file, and the colors that a browser shows, on white where it is transparent."""

    data: bytes
    colors: Colors = COLORS
    animated: bool = False


#: Images by their names; each is made when a test asks for it.
Makers = dict[str, Callable[[], OddImage]]


def showing(colors: Colors, make: Callable[..., bytes], *arguments: Any, **options: Any) -> Callable[[], OddImage]:
    """One entry of a table of images."""
    return lambda: OddImage(data=make(*arguments, **options), colors=colors)


def plain(make: Callable[..., bytes], *arguments: Any, **options: Any) -> Callable[[], OddImage]:
    """One entry of a table of images that shows the usual colors."""
    return showing(COLORS, make, *arguments, **options)


def gray(level: int) -> Color:
    return (level, level, level)


GRAYS: Final[Colors] = (gray(0), gray(85), gray(170), gray(255))


def quadrants(colors: Sequence[Any] = COLORS, mode: str = "RGB", orientation: int = 1) -> Image.Image:
    """The test image, as it is stored with this orientation."""
    image = Image.new(mode, SIZE)
    across, down = SIZE[0] // 2, SIZE[1] // 2
    for index, color in enumerate(colors):
        left, top = index % 2 * across, index // 2 * down
        image.paste(color, (left, top, left + across, top + down))
    return image.transpose(_TURNED[orientation]) if orientation in _TURNED else image


def encoded(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    """The bytes of a JPEG or WebP, with so little loss that a wrong color is a decoder's fault."""
    out = io.BytesIO()
    usual: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {"quality": 95}
    (image or quadrants()).save(out, kind, **usual | options)
    return out.getvalue()


def exif(orientation: int, order: str = "<", extra: bytes = b"") -> bytes:
    """A TIFF block with the orientation, and ``extra`` bytes behind it."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0) + extra


@cache
def noise(size: int) -> bytes:
    """Bytes that do not compress, the same each time."""
    state, parts = 1, []
    for _ in range(size // 4 + 1):
        state = zlib.crc32(state.to_bytes(4))
        parts.append(state.to_bytes(4))
    return b"".join(parts)[:size]
