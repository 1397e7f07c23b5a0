"""ICC profiles of a few hundred bytes, so that tests need none of the system's."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tests.corpus.shapes import COLORS, Colors

_WHITE: Final = (0.9642, 1.0, 0.8249)
_SRGB: Final = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
_DISPLAY_P3: Final = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def _text(name: str) -> bytes:
    text = name.encode() + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)


def _profile(space: bytes, connection: bytes, tags: Mapping[bytes, bytes], *, kind: bytes = b"mntr") -> bytes:
    every = {
        b"desc": _text("made for tests"),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": _xyz((0.9642, 1.0, 0.8249)),
        **tags,
    }
    table, body = b"", b""
    start = 128 + 4 + 12 * len(every)
    for name, content in every.items():
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s", 0, b"\0\0\0\0", 0x02400000, kind, space, connection)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(*_WHITE)
    content = head.ljust(128, b"\0") + struct.pack(">I", len(every)) + table + body
    return struct.pack(">I", len(content)) + content[4:]


def rgb(primaries: Sequence[Sequence[float]] = _SRGB, gamma: float = 2.2) -> bytes:
    """A profile of three primaries."""
    tags = {name: _xyz(values) for name, values in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    return _profile(b"RGB ", b"XYZ ", tags | {name: _gamma(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")})


def display_p3() -> bytes:
    """That of wide-gamut displays; its pure red lies outside sRGB."""
    return rgb(_DISPLAY_P3)


def swapped() -> bytes:
    """Red is stored for green, and green for blue, so it is plain to see whether the profile is applied."""
    return rgb((_SRGB[1], _SRGB[2], _SRGB[0]))


#: The colors of the corpus as they look with :func:`swapped`.
SWAPPED: Final[Colors] = ((40, 220, 40), (60, 40, 160), (200, 40, 60), (60, 240, 210))
#: Profiles with what the colors of the corpus look like.
RGB: Final[tuple[tuple[str, bytes, Colors], ...]] = (
    ("sRGB", rgb(), COLORS),
    ("swapped", swapped(), SWAPPED),
    ("wide-gamut", display_p3(), ((241, 0, 10), (0, 164, 35), (28, 58, 209), (246, 210, 0))),
)


def gray(gamma: float = 1.0) -> bytes:
    """One channel; a gamma of 1 makes it much brighter than it is as sRGB."""
    return _profile(b"GRAY", b"XYZ ", {b"kTRC": _gamma(gamma)})


def cmyk(lab: Callable[[int, int, int, int], tuple[int, int, int]]) -> bytes:
    """A printer's profile: ``lab`` gives L, a and b (each 0 to 255) for each mix of full and no ink."""
    corners = [lab(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += bytes(range(256)) * 4 + bytes(value for corner in corners for value in corner) + bytes(range(256)) * 3
    return _profile(b"CMYK", b"Lab ", {b"A2B0": table}, kind=b"prtr")


def inks() -> bytes:
    """A printer whose inks are red, green and blue where they should be cyan, magenta and yellow; the first two of them
    together are yellow, and all else is paper."""
    shown = {
        (1, 0, 0): (125, 195, 176),
        (0, 1, 0): (148, 79, 169),
        (0, 0, 1): (82, 162, 52),
        (1, 1, 0): (217, 128, 201),
    }
    return cmyk(lambda c, m, y, k: shown.get((c, m, y), (255, 128, 128)))
