"""PNG files of every depth and color type, written by hand: Pillow writes few of them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6
#: x, y, step in x, step in y of each pass of Adam7.
_PASSES: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

#: The samples of the pixel at x and y.
Pixel = Callable[[int, int], Sequence[int]]


def chunk(name: bytes, content: bytes, *, crc: int | None = None) -> bytes:
    """One chunk, with its own checksum or a wrong one."""
    if crc is None:
        crc = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)


def header(width: int, height: int, depth: int = 8, color: int = RGB, interlaced: int = 0) -> bytes:
    """The IHDR chunk."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced))


def _row(samples: Iterable[int], depth: int) -> bytes:
    if depth == 16:
        return b"\0" + b"".join(struct.pack(">H", sample) for sample in samples)
    if depth == 8:
        return b"\0" + bytes(samples)
    bits = "".join(f"{sample:0{depth}b}" for sample in samples)
    return b"\0" + int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))


def png(
    width: int,
    height: int,
    pixel: Pixel,
    *,
    depth: int = 8,
    color: int = RGB,
    interlaced: bool = False,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A whole file. ``before`` and ``after`` are chunks around the pixels."""
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    rows = b"".join(
        _row((sample for x in range(left, width, across) for sample in pixel(x, y)), depth)
        for left, top, across, down in passes
        for y in range(top, height, down)
        if left < width
    )
    pixels = zlib.compress(rows)
    # In two chunks, as encoders do with what is larger.
    parts = (header(width, height, depth, color, int(interlaced)), before, chunk(b"IDAT", pixels[:50]))
    return SIGNATURE + b"".join(parts) + chunk(b"IDAT", pixels[50:]) + after + chunk(b"IEND", b"")


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield names and contents of a whole file's chunks."""
    position = len(SIGNATURE)
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        yield data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        position += 12 + length
