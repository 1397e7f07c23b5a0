"""Sound PNG images of every depth, with every kind of chunk beside the pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from tests.corpus import profiles
from tests.corpus.png_writer import GRAY, GRAY_ALPHA, PALETTE, RGB, RGBA, chunk, chunks, png
from tests.corpus.shapes import (
    BLUE,
    COLORS,
    GRAYS,
    GREEN,
    MEGABYTE,
    ORIENTATIONS,
    RED,
    SIZE,
    WHITE,
    YELLOW,
    Color,
    Makers,
    OddImage,
    exif,
    gray,
    noise,
    plain,
    quadrants,
    showing,
)


def four(samples: Sequence[Sequence[int]] = COLORS, **options: Any) -> bytes:
    """A PNG whose quadrants have these samples."""
    return png(*SIZE, lambda x, y: samples[(x >= SIZE[0] // 2) + 2 * (y >= SIZE[1] // 2)], **options)


def _scaled(depth: int) -> list[list[int]]:
    return [[value * (257 if depth == 16 else 1) for value in color] for color in COLORS]


def _gray(depth: int, transparent: int | None = None, *, interlaced: bool = False) -> OddImage:
    """Four shades from black to white; that of one quadrant may be transparent wherever it appears."""
    levels = [round(((1 << depth) - 1) * part / 3) for part in range(4)]
    shown = [gray(round(255 * level / ((1 << depth) - 1))) for level in levels]
    key = b""
    if transparent is not None:
        key = chunk(b"tRNS", struct.pack(">H", levels[transparent]))
        shown = [WHITE if level == levels[transparent] else shade for level, shade in zip(levels, shown, strict=True)]
    data = four([[level] for level in levels], depth=depth, color=GRAY, before=key, interlaced=interlaced)
    return OddImage(data=data, colors=(shown[0], shown[1], shown[2], shown[3]))


def _palette(depth: int, transparency: bytes = b"", *, interlaced: bool = False) -> bytes:
    size = 1 << depth
    before = chunk(b"PLTE", bytes(value for color in COLORS[:size] for value in color))
    before += chunk(b"tRNS", transparency) if transparency else b""
    return four([[n % size] for n in range(4)], depth=depth, color=PALETTE, before=before, interlaced=interlaced)


def _with_alpha(depth: int, color: int, *, interlaced: bool = False) -> OddImage:
    """The second quadrant is transparent, the third half so."""
    alphas = (255, 0, 128, 255)
    shades = GRAYS if color == GRAY_ALPHA else COLORS
    scale = 257 if depth == 16 else 1
    stored = [shade[:1] if color == GRAY_ALPHA else shade for shade in shades]
    samples = [[value * scale for value in (*shade, alpha)] for shade, alpha in zip(stored, alphas, strict=True)]
    shown: list[Color] = []
    for shade, alpha in zip(shades, alphas, strict=True):
        red, green, blue = (round(255 + (value - 255) * alpha / 255) for value in shade)
        shown.append((red, green, blue))
    data = four(samples, depth=depth, color=color, interlaced=interlaced)
    return OddImage(data=data, colors=(shown[0], shown[1], shown[2], shown[3]))


def profile_chunk(profile: bytes) -> bytes:
    """The iCCP chunk."""
    return chunk(b"iCCP", b"profile\0\0" + zlib.compress(profile))


def _animated(*, separate: bool) -> OddImage:
    """Four colors and then black. With ``separate``, what viewers without animation show is not one of the frames."""

    def control(number: int) -> bytes:
        return chunk(b"fcTL", struct.pack(">5I2H2B", number, *SIZE, 0, 0, 1, 2, 0, 0))

    def frame(number: int, pixels: bytes) -> bytes:
        return chunk(b"fdAT", number.to_bytes(4) + pixels)

    colorful = b"".join(content for name, content in chunks(four()) if name == b"IDAT")
    black = zlib.compress(bytes((1 + 3 * SIZE[0]) * SIZE[1]))
    start = chunk(b"acTL", struct.pack(">II", 2, 0))
    if separate:
        after = control(0) + frame(1, colorful) + control(2) + frame(3, black)
        return OddImage(data=four(before=start, after=after), animated=True)
    return OddImage(data=four(before=start + control(0), after=control(1) + frame(2, black)), animated=True)


def _turned(orientation: int, order: str = ">") -> bytes:
    image = quadrants(orientation=orientation)
    block = chunk(b"eXIf", exif(orientation, order))
    rows = image.tobytes()
    return png(*image.size, lambda x, y: rows[(at := 3 * (y * image.width + x)) : at + 3], before=block)


def _text(name: bytes, size: int) -> bytes:
    """A compressed text that inflates to so many bytes."""
    head = {b"zTXt": b"Comment\0\0", b"iTXt": b"Comment\0\1\0\0\0"}[name]
    return chunk(name, head + zlib.compress(b"x" * size))


def _gamma(value: float) -> bytes:
    return chunk(b"gAMA", round(100_000 * value).to_bytes(4))


#: The usual colors, taken for linear light.
BRIGHTER = ((239, 110, 110), (110, 208, 133), (110, 133, 229), (248, 234, 133))

PNG: Makers = {
    "rgb 8": plain(four),
    "rgb 16": plain(four, _scaled(16), depth=16),
    "rgb 8 interlaced": plain(four, interlaced=True),
    "rgb 16 interlaced": plain(four, _scaled(16), depth=16, interlaced=True),
    # Bytes behind the end.
    "bytes behind": plain(lambda: four() + noise(4096)),
    "zeros behind": plain(lambda: four() + bytes(3000)),
    "a page behind": plain(lambda: four() + b"<html><script>alert(1)</script></html>"),
    "another PNG behind": plain(lambda: four() + four([WHITE] * 4)),
    "half of another PNG behind": plain(lambda: four() + four([WHITE] * 4)[:60]),
    # Ancillary chunks, large, many or broken.
    "zTXt that inflates to 2 MB": plain(lambda: four(before=_text(b"zTXt", 2 * MEGABYTE))),
    "zTXt of 2 MB": plain(lambda: four(before=chunk(b"zTXt", b"x\0\0" + zlib.compress(noise(2 * MEGABYTE), 1)))),
    "zTXt of 2 MB behind the pixels": plain(lambda: four(after=_text(b"zTXt", 2 * MEGABYTE))),
    "zTXt that is a bomb": plain(lambda: four(before=_text(b"zTXt", 10 * MEGABYTE))),
    "zTXt that does not inflate": plain(lambda: four(before=chunk(b"zTXt", b"x\0\0" + noise(99)))),
    "iTXt that inflates to 2 MB": plain(lambda: four(before=_text(b"iTXt", 2 * MEGABYTE))),
    "iTXt of 2 MB": plain(lambda: four(before=chunk(b"iTXt", b"x\0\0\0\0\0" + bytes(2 * MEGABYTE)))),
    "iTXt that is not text": plain(lambda: four(after=chunk(b"iTXt", b"\xff\xfe"))),
    "tEXt of 2 MB": plain(lambda: four(before=chunk(b"tEXt", b"x\0" + b"y" * 2 * MEGABYTE))),
    "70 texts of 1 MB": plain(lambda: four(before=_text(b"zTXt", MEGABYTE) * 70)),
    "20,000 texts": plain(
        lambda: four(before=chunk(b"tEXt", b"a\0b") * 10_000, after=chunk(b"tEXt", b"a\0b") * 10_000)
    ),
    "eXIf of 2 MB": plain(lambda: four(before=chunk(b"eXIf", exif(1, extra=noise(2 * MEGABYTE))))),
    "eXIf that is none": plain(lambda: four(before=chunk(b"eXIf", noise(200)))),
    "a signed statement of origin": plain(lambda: four(before=chunk(b"caBX", noise(MEGABYTE)))),
    "a comment with a wrong checksum": plain(lambda: four(before=chunk(b"tEXt", b"a\0b", crc=1))),
    "chunks that are too short": plain(
        lambda: four(before=b"".join(chunk(name, b"\0") for name in (b"gAMA", b"cHRM", b"pHYs", b"tRNS", b"acTL")))
    ),
    "chunks that are empty": plain(
        lambda: four(before=b"".join(chunk(name, b"") for name in (b"iCCP", b"eXIf", b"zTXt", b"tIME", b"IDAT")))
    ),
    # Colors.
    "gray 1": showing((gray(0), gray(255)) * 2, four, [[0], [1]] * 2, depth=1, color=GRAY),
    "gray 1, black transparent": showing(
        (WHITE,) * 4, four, [[0], [1]] * 2, depth=1, color=GRAY, before=chunk(b"tRNS", b"\0\0")
    ),
    **{f"gray {depth}": partial(_gray, depth) for depth in (2, 4, 8, 16)},
    **{f"gray {depth} interlaced": partial(_gray, depth, interlaced=True) for depth in (2, 4, 8, 16)},
    **{f"gray {depth}, black transparent": partial(_gray, depth, 0) for depth in (2, 4, 8, 16)},
    **{f"gray {depth}, a shade transparent": partial(_gray, depth, 1) for depth in (2, 4, 8, 16)},
    "gray and alpha 8": lambda: _with_alpha(8, GRAY_ALPHA),
    "gray and alpha 16": lambda: _with_alpha(16, GRAY_ALPHA),
    "rgba 8": lambda: _with_alpha(8, RGBA),
    "rgba 8 interlaced": lambda: _with_alpha(8, RGBA, interlaced=True),
    "rgba 16": lambda: _with_alpha(16, RGBA),
    "palette 1": showing((RED, GREEN) * 2, _palette, 1),
    **{f"palette {depth}": plain(_palette, depth) for depth in (2, 4, 8)},
    "palette 4 interlaced": plain(_palette, 4, interlaced=True),
    "palette 8, a color transparent": showing((RED, WHITE, BLUE, YELLOW), _palette, 8, b"\xff\0"),
    "palette 2, a color half transparent": showing(((238, 148, 148), GREEN, BLUE, YELLOW), _palette, 2, b"\x80"),
    **{
        f"rgb {depth}, a color transparent": showing(
            (WHITE, GREEN, BLUE, YELLOW),
            four,
            _scaled(depth),
            depth=depth,
            color=RGB,
            before=chunk(b"tRNS", struct.pack(">3H", *_scaled(depth)[0])),
        )
        for depth in (8, 16)
    },
    # Profiles and orientation.
    "gray profile": showing(
        (gray(137), gray(188), gray(225), gray(255)),
        lambda: four([[64], [128], [192], [255]], color=GRAY, before=profile_chunk(profiles.gray())),
    ),
    **{
        f"{name} profile": showing(colors, lambda profile=profile: four(before=profile_chunk(profile)))
        for name, profile, colors in profiles.RGB
    },
    "profile and alpha": lambda: _profile_and_alpha(),
    "profile of 2 MB": plain(lambda: four(before=profile_chunk(profiles.rgb() + noise(2 * MEGABYTE)))),
    "profile that is a bomb": plain(lambda: four(before=profile_chunk(bytes(10 * MEGABYTE)))),
    "profile that does not inflate": plain(lambda: four(before=chunk(b"iCCP", b"p\0\0" + noise(300)))),
    "profile that is none": plain(lambda: four(before=profile_chunk(noise(400)))),
    "profile that is cut off": plain(lambda: four(before=profile_chunk(profiles.swapped()[:250]))),
    "profile for inks": plain(lambda: four(before=profile_chunk(profiles.inks()))),
    **{f"orientation {number}": plain(_turned, number) for number in ORIENTATIONS},
    "orientation 6 in the other byte order": plain(_turned, 6, "<"),
    "orientation behind the pixels": plain(lambda: four(after=chunk(b"eXIf", exif(6)))),
    "orientation with a prefix": plain(lambda: four(before=chunk(b"eXIf", b"Exif\0\0" + exif(6)))),
    "linear light": showing(BRIGHTER, lambda: four(before=_gamma(1.0))),
    "linear light that is said to be sRGB": plain(lambda: four(before=_gamma(1.0) + chunk(b"sRGB", b"\0"))),
    "linear light and a broken profile": showing(
        BRIGHTER, lambda: four(before=_gamma(1.0) + chunk(b"iCCP", b"p\0\0" + noise(50)))
    ),
    "usual gamma": plain(lambda: four(before=_gamma(0.45455))),
    "gamma of zero": plain(lambda: four(before=_gamma(0))),
    "animated": lambda: _animated(separate=False),
    "animated beside an image": lambda: _animated(separate=True),
}


def _profile_and_alpha() -> OddImage:
    samples = [(*color, alpha) for color, alpha in zip(COLORS, (255, 0, 255, 255), strict=True)]
    red, _, blue, yellow = profiles.SWAPPED
    data = four(samples, color=RGBA, before=profile_chunk(profiles.swapped()))
    return OddImage(data=data, colors=(red, WHITE, blue, yellow))
