"""Sound WebP images, still and animated, with chunks beside the pixels."""

from __future__ import annotations

import struct

from PIL import Image

from tests.corpus import profiles
from tests.corpus.shapes import (
    BLUE,
    GREEN,
    MEGABYTE,
    ORIENTATIONS,
    RED,
    WHITE,
    YELLOW,
    Makers,
    OddImage,
    encoded,
    exif,
    noise,
    plain,
    quadrants,
    showing,
)


def webp(image: Image.Image | None = None, **options: object) -> bytes:
    """The plain one; without loss unless asked otherwise, since edges would not stay sharp."""
    return encoded("WEBP", image, **{"lossless": True} | options)


def with_chunk(data: bytes, name: bytes, content: bytes) -> bytes:
    """The chunk at the end of the file's container."""
    body = data[8:] + struct.pack("<4sI", name, len(content)) + content + bytes(len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _animated() -> OddImage:
    black = Image.new("RGB", quadrants().size)
    return OddImage(data=webp(save_all=True, append_images=[black, black], duration=500), animated=True)


def _small_frames() -> OddImage:
    """The second frame covers less than the canvas."""
    second = quadrants()
    second.paste("black", (10, 10, 20, 20))
    data = webp(save_all=True, append_images=[second], duration=500, minimize_size=True)
    return OddImage(data=data, animated=True)


def _partly_covered() -> OddImage:
    """The first frame covers one quadrant, and no frame has an alpha channel."""
    first = quadrants([(*RED, 255), *[(0, 0, 0, 0)] * 3], "RGBA")
    data = webp(first, save_all=True, append_images=[Image.new("RGBA", first.size, "blue")], duration=500)
    return OddImage(data=data, colors=(RED, WHITE, WHITE, WHITE), animated=True)


def _see_through(*, lossless: bool) -> bytes:
    image = quadrants([(*RED, 255), (*GREEN, 0), (*BLUE, 255), (*YELLOW, 255)], "RGBA")
    return webp(image, lossless=lossless)


WEBP: Makers = {
    "with loss": plain(webp, lossless=False),
    "without loss": plain(webp),
    "with alpha": showing((RED, WHITE, BLUE, YELLOW), _see_through, lossless=True),
    "with alpha and loss": showing((RED, WHITE, BLUE, YELLOW), _see_through, lossless=False),
    "4 KiB behind": plain(lambda: webp() + noise(4096)),
    "zeros behind": plain(lambda: webp() + bytes(3000)),
    "another WebP behind": plain(lambda: webp() + webp(Image.new("RGB", (300, 200)))),
    "half of another WebP behind": plain(lambda: webp() + webp()[:60]),
    "EXIF of 2 MB": plain(webp, exif=exif(1, extra=noise(2 * MEGABYTE))),
    "EXIF that is none": plain(webp, exif=noise(300)),
    "XMP of 2 MB": plain(webp, xmp=b"x" * 2 * MEGABYTE),
    "an unknown chunk of 2 MB": plain(lambda: with_chunk(webp(xmp=b"x"), b"abcd", noise(2 * MEGABYTE))),
    **{f"{name} profile": showing(colors, webp, icc_profile=profile) for name, profile, colors in profiles.RGB},
    "profile and loss": showing(profiles.SWAPPED, webp, icc_profile=profiles.swapped(), lossless=False),
    "profile of 2 MB": plain(webp, icc_profile=profiles.rgb() + noise(2 * MEGABYTE)),
    "profile that is none": plain(webp, icc_profile=noise(400)),
    "profile for inks": plain(webp, icc_profile=profiles.inks()),
    # Browsers turn JPEG and PNG by their EXIF, and leave WebP as it is.
    **{f"orientation {number}": plain(webp, exif=exif(number)) for number in ORIENTATIONS},
    "animated": _animated,
    "animated with small frames": _small_frames,
    "animated and partly covered": _partly_covered,
}
