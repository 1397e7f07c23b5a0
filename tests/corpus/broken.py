"""Files that are not whole images: every one is to be refused, at once and in little memory."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Final

from PIL import Image

from tests.corpus import jpeg, webp
from tests.corpus.png import four
from tests.corpus.png_writer import GRAY, PALETTE, RGB, SIGNATURE, chunk, chunks, header
from tests.corpus.shapes import MEGABYTE, SIZE, encoded, exif, noise, quadrants


def other(kind: str) -> bytes:
    """The same image in a format that we do not take."""
    out = io.BytesIO()
    quadrants().save(out, kind)
    return out.getvalue()


def _png(*parts: bytes) -> bytes:
    return SIGNATURE + b"".join(parts) + chunk(b"IEND", b"")


def _with_pixels(head: bytes, pixels: bytes = b"", *, before: bytes = b"") -> bytes:
    """A PNG with the usual pixels under another header, or with other pixels."""
    usual = b"".join(content for name, content in chunks(four()) if name == b"IDAT")
    return _png(head, before, chunk(b"IDAT", pixels or usual))


def bomb(width: int, height: int, *, depth: int = 1, color: int = GRAY, interlaced: int = 0) -> bytes:
    """A PNG of some kB that is huge when it is decoded, or at least says so: not all of its rows are there."""
    rows = min(height * (1 + -(-width * depth // 8)), 4 * MEGABYTE)
    return _with_pixels(header(width, height, depth, color, interlaced), zlib.compress(bytes(rows), 1))


def _jpeg_of_size(width: int, height: int) -> bytes:
    data = jpeg.jpeg()
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def _scan_bomb() -> bytes:
    """A small file that touches each of many pixels five thousand times."""
    data = encoded("JPEG", Image.new("L", (1000, 1000)), progressive=True)
    last = data[data.rindex(b"\xff\xc4") : -2]
    return data[:-2] + 5000 * last + b"\xff\xd9"


def _changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def _end_in_the_thumbnail_only() -> bytes:
    """Return a JPEG with a thumbnail inside that lost most of its pixels."""
    whole = jpeg.with_segments(jpeg.exif_segment(1, extra=encoded("JPEG", Image.new("RGB", (30, 20)))))
    assert b"\xff\xd9" in whole[:-600]
    return whole[:-500]


def _frame_header(data: bytes) -> bytes:
    at = data.index(b"\xff\xc0")
    return data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4])]


def _two_frames() -> bytes:
    data = jpeg.jpeg()
    return data.replace(_frame_header(data), 2 * _frame_header(data))


SCRIPT: Final = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'

BROKEN: Final[dict[str, Callable[[], bytes]]] = {
    "a page": lambda: b"<html><body>Service unavailable</body></html>",
    "a drawing with a script": lambda: SCRIPT,
    "a PDF": lambda: other("PDF"),
    "JSON": lambda: b'{"error": "no"}',
    "one byte": lambda: b"\x89",
    "noise": lambda: noise(3000),
    **{kind: lambda kind=kind: other(kind) for kind in ("GIF", "BMP", "TIFF", "AVIF", "ICO", "JPEG2000", "PPM")},  # type: ignore[misc]
    # PNG.
    "PNG: a head without a body": lambda: SIGNATURE + bytes(100),
    "PNG: noise behind the signature": lambda: SIGNATURE + noise(1000),
    "PNG: no header": lambda: _png(chunk(b"IDAT", zlib.compress(bytes(100)))),
    "PNG: a comment before the header": lambda: SIGNATURE + chunk(b"tRNS", b"") + four()[8:],
    "PNG: two headers": lambda: _with_pixels(header(*SIZE) * 2),
    "PNG: a short header": lambda: _with_pixels(chunk(b"IHDR", bytes(12))),
    "PNG: a long header": lambda: _with_pixels(chunk(b"IHDR", bytes(14))),
    "PNG: no width": lambda: _with_pixels(header(0, 64)),
    "PNG: no height": lambda: _with_pixels(header(96, 0)),
    "PNG: no such depth": lambda: _with_pixels(header(*SIZE, 3, GRAY)),
    "PNG: no such color type": lambda: _with_pixels(header(*SIZE, 8, 1)),
    "PNG: a depth of other colors": lambda: _with_pixels(header(*SIZE, 4, RGB)),
    "PNG: no palette": lambda: _with_pixels(header(*SIZE, 8, PALETTE)),
    "PNG: an empty palette": lambda: _with_pixels(header(*SIZE, 8, PALETTE), before=chunk(b"PLTE", b"")),
    "PNG: no pixels": lambda: _png(header(*SIZE)),
    "PNG: empty pixels": lambda: _png(header(*SIZE), chunk(b"IDAT", b"")),
    "PNG: pixels that do not inflate": lambda: _with_pixels(header(*SIZE), noise(500)),
    "PNG: too few pixels": lambda: _with_pixels(header(*SIZE), zlib.compress(bytes(500))),
    "PNG: an unknown filter": lambda: _with_pixels(header(*SIZE), zlib.compress(b"\x63" * 289 * 64)),
    "PNG: an unknown critical chunk": lambda: four(before=chunk(b"ABCD", b"x")),
    "PNG: a chunk longer than the file": lambda: SIGNATURE + header(*SIZE) + b"\x7f\xff\xff\xffIDAT" + bytes(99),
    "PNG: 144 million pixels": lambda: bomb(12_000, 12_000),
    "PNG: 144 million interlaced pixels": lambda: bomb(12_000, 12_000, interlaced=1),
    "PNG: sides without end": lambda: bomb(2**31 - 1, 2**31 - 1),
    "PNG: one row of 20 million": lambda: bomb(20_000_000, 1),
    "PNG: 300,000 comments": lambda: four(before=chunk(b"tEXt", b"") * 300_000),
    # JPEG.
    "JPEG: noise behind the start": lambda: b"\xff\xd8\xff" + noise(1000),
    "JPEG: nothing between start and end": lambda: b"\xff\xd8\xff\xd9",
    "JPEG: no pixels": lambda: jpeg.jpeg()[: jpeg.jpeg().index(b"\xff\xda")] + b"\xff\xd9",
    "JPEG: no header": lambda: jpeg.jpeg().replace(_frame_header(jpeg.jpeg()), b""),
    "JPEG: two headers": _two_frames,
    "JPEG: 12 bits": lambda: _changed(jpeg.jpeg(), jpeg.jpeg().index(b"\xff\xc0") + 4, b"\x0c"),
    "JPEG: two color channels": lambda: _changed(jpeg.jpeg(), jpeg.jpeg().index(b"\xff\xc0") + 9, b"\x02"),
    "JPEG: no height": lambda: _jpeg_of_size(96, 0),
    "JPEG: no width": lambda: _jpeg_of_size(0, 64),
    "JPEG: 4 billion pixels": lambda: _jpeg_of_size(65_500, 65_500),
    "JPEG: a segment longer than the file": lambda: b"\xff\xd8\xff\xe1\xff\xff" + jpeg.jpeg()[2:],
    "JPEG: a segment of no length": lambda: b"\xff\xd8\xff\xe1\0\0" + jpeg.jpeg()[2:],
    "JPEG: an end in the thumbnail only": _end_in_the_thumbnail_only,
    "JPEG: cut off, and another one behind": lambda: jpeg.jpeg()[:-300] + jpeg.jpeg(),
    "JPEG: five thousand scans": _scan_bomb,
    "JPEG: 300,000 comments": lambda: jpeg.with_segments(jpeg.segment(0xFE, b"") * 300_000),
    # WebP.
    "WebP: noise behind the start": lambda: b"RIFF" + struct.pack("<I", 1004) + b"WEBP" + noise(1000),
    "WebP: nothing but a start": lambda: b"RIFF\4\0\0\0WEBP",
    "WebP: a RIFF file of sound": lambda: b"RIFF" + struct.pack("<I", 104) + b"WAVE" + bytes(100),
    "WebP: no image in the container": lambda: b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x5f\0\0\x3f\0\0",
    "WebP: a canvas of 268 million pixels": lambda: _changed(webp.webp(xmp=b"x"), 24, b"\xfe\x3f\0\xfe\x3f\0"),
    "WebP: another canvas than the image": lambda: _changed(webp.webp(xmp=b"x"), 24, b"\x10\0\0\x10\0\0"),
    "WebP: longer than it is": lambda: _changed(webp.webp(), 4, b"\xff\xff\0\0"),
}

#: Images with nothing in them that could be missing: each cut of one is broken.
TO_CUT: Final[dict[str, Callable[[], bytes]]] = {
    "PNG": four,
    "PNG with 16 bits, interlaced": lambda: four(
        [[n * 20_000] for n in range(4)], depth=16, color=GRAY, interlaced=True
    ),
    "JPEG": lambda: jpeg.jpeg(quality=50),
    "JPEG in several scans": lambda: jpeg.jpeg(quality=50, progressive=True),
    "JPEG with a thumbnail": lambda: jpeg.with_segments(
        jpeg.exif_segment(1, extra=encoded("JPEG", Image.new("RGB", (30, 20)))), image=jpeg.jpeg(quality=50)
    ),
    "WebP": lambda: webp.webp(lossless=False, quality=50),
    "WebP without loss": webp.webp,
    "WebP with EXIF": lambda: webp.webp(exif=exif(1)),
}
