"""Small images that can be told apart; PNGs are made without a drawing library."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from base64 import b64encode, urlsafe_b64encode
from hashlib import sha256
from random import Random
from typing import Final
from urllib.parse import quote

from PIL import Image

SIDE: Final = 64


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _start(side: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 3, 0, 0, 0))


# One bit for each pixel, and a palette of one color: only the palette differs, so an image costs next to nothing.
_START: Final = _start(SIDE)
_END: Final = _chunk(b"IDAT", zlib.compress(bytes(SIDE * (1 + SIDE // 8)), 9)) + _chunk(b"IEND", b"")


def png(identity: str) -> bytes:
    """A plain image in a color of the identity's own, with the identity as its comment."""
    text = b"Comment\0" + identity.encode("latin-1", "replace")
    return _START + _chunk(b"PLTE", sha256(identity.encode()).digest()[:3]) + _chunk(b"tEXt", text) + _END


@functools.cache
def bomb(side: int = 12_000) -> bytes:
    """A sound image in a small file that takes half a gigabyte to draw on, and no more than Pillow lets pass."""
    packer = zlib.compressobj(1)
    row = bytes(1 + side // 8)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return _start(side) + _chunk(b"PLTE", b"\0\0\0") + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


@functools.cache
def noise(width: int, height: int) -> bytes:
    """A PNG of random pixels, the largest file that an image of this size can be."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = Random(1).randbytes((1 + 3 * width) * height)  # noqa: S311
    rows = bytearray(pixels)
    rows[:: 1 + 3 * width] = bytes(height)  # no filter
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(rows, 0)) + _chunk(b"IEND", b"")


def encoded(data: bytes, spelling: str) -> str:
    """Base64 as servers write it: plain, or as ``data-url``, ``lines``, ``urlsafe``, ``unpadded``, ``escaped`` or
    ``quoted``."""
    plain = b64encode(data).decode()
    spellings = {
        "data-url": f"data:image/png;base64,{plain}",
        "lines": "\r\n".join(plain[start : start + 76] for start in range(0, len(plain), 76)) + "\n",
        "urlsafe": urlsafe_b64encode(data).decode().rstrip("="),
        "unpadded": plain.rstrip("="),
        "escaped": plain.replace("/", "\\/"),
        "quoted": quote(plain, safe=""),
    }
    return spellings[spelling] if spelling else plain


def image(identity: str, output_format: str) -> bytes:
    """The same as ``png``, ``jpeg`` or ``webp``."""
    plain = png(identity)
    if output_format == "png":
        return plain
    out = io.BytesIO()
    with Image.open(io.BytesIO(plain)) as image:
        image.convert("RGB").save(out, output_format)
    return out.getvalue()


def spoilt(identity: str, output_format: str, kind: str) -> bytes:
    """What a vendor should not send: ``truncated``, a ``bomb`` of pixels, an ``svg`` with a script, or a sound
    image that is ``jpeg`` or ``webp`` whatever was asked for, or ``noise3840x2160``. ``""`` is a proper one."""
    if kind == "bomb":
        return bomb()
    if kind == "svg":
        return b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    if kind.startswith("noise"):
        width, height = map(int, kind.removeprefix("noise").split("x"))
        return noise(width, height)
    if kind == "truncated":
        return image(identity, output_format)[:-24]
    return image(identity, kind or output_format)
