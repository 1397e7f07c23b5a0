"""Sound JPEG images of every color model, with segments and images beside the first one."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable

from PIL import Image

from tests.corpus import profiles
from tests.corpus.shapes import (
    COLORS,
    GRAYS,
    MEGABYTE,
    ORIENTATIONS,
    Makers,
    encoded,
    exif,
    gray,
    noise,
    plain,
    quadrants,
    showing,
)

_START = b"\xff\xd8"
CYAN, MAGENTA, INK_YELLOW, BLACK = (0, 255, 255), (255, 0, 255), (255, 255, 0), (0, 0, 0)


def jpeg(**options: object) -> bytes:
    """The plain one."""
    return encoded("JPEG", **options)  # type: ignore[arg-type]


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segments(*segments: bytes, image: bytes = b"") -> bytes:
    """The segments right behind the start."""
    return _START + b"".join(segments) + (image or jpeg())[2:]


def of_size(marker: int, size: int, start: bytes = b"") -> Iterable[bytes]:
    """As many segments as so many bytes take."""
    largest = 65533 - len(start)
    return (segment(marker, start + noise(largest)) for _ in range(-(-size // largest)))


def profile_segments(profile: bytes, *, piece: int = 65000) -> list[bytes]:
    """The profile in pieces."""
    pieces = [profile[at : at + piece] for at in range(0, len(profile), piece)]
    return [
        segment(0xE2, b"ICC_PROFILE\0" + bytes((number, len(pieces))) + part) for number, part in enumerate(pieces, 1)
    ]


def exif_segment(orientation: int, order: str = "<", extra: bytes = b"") -> bytes:
    return segment(0xE1, b"Exif\0\0" + exif(orientation, order, extra))


def _multi_picture() -> bytes:
    out = io.BytesIO()
    quadrants().save(out, "MPO", save_all=True, append_images=[Image.new("RGB", (40, 30))], quality=95, subsampling=0)
    return out.getvalue()


def _turned(orientation: int, order: str = "<") -> bytes:
    image = encoded("JPEG", quadrants(orientation=orientation))
    return with_segments(exif_segment(orientation, order), image=image)


#: Full inks of cyan, magenta and yellow, and the first two together.
_INKS = ((255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (255, 255, 0, 0))
_INKS_SHOWN = (CYAN, MAGENTA, INK_YELLOW, (0, 0, 255))


def _cmyk(**options: object) -> bytes:
    return encoded("JPEG", quadrants(_INKS, "CMYK"), **options)


def _ycck() -> bytes:
    """The same inks as luminance, two differences and black: what Photoshop writes. Pillow does not, but takes such
    channels for inks; what is left is to say so."""
    apart = quadrants([inks[:3] for inks in _INKS]).convert("YCbCr")
    # Pillow inverts what it takes for inks.
    inverted = [channel.point(lambda value: 255 - value) for channel in apart.split()]
    data = encoded("JPEG", Image.merge("CMYK", (*inverted, Image.new("L", apart.size, 0))))
    at = data.index(b"Adobe") + 11
    return data[:at] + b"\x02" + data[at + 1 :]


def _without(marker: int, data: bytes) -> bytes:
    at = data.index(bytes((0xFF, marker)))
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4]) :]


JPEG: Makers = {
    "rgb": plain(jpeg),
    "progressive": plain(jpeg, progressive=True),
    "subsampled": plain(jpeg, subsampling=2),
    "not transformed": plain(jpeg, keep_rgb=True),
    "with restarts": plain(jpeg, restart_marker_blocks=2),
    "with padded markers": plain(
        lambda: jpeg().replace(b"\xff\xdb", b"\xff\xff\xff\xdb").replace(b"\xff\xda", b"\xff\xff\xda")
    ),
    "gray": showing(GRAYS, lambda: encoded("JPEG", quadrants((0, 85, 170, 255), "L"))),
    "cmyk": showing(_INKS_SHOWN, _cmyk),
    "cmyk progressive": showing(_INKS_SHOWN, _cmyk, progressive=True),
    "cmyk without a word of Adobe": showing(_INKS_SHOWN, lambda: _without(0xEE, _cmyk())),
    "ycck": showing(_INKS_SHOWN, _ycck),
    # Bytes and images behind the end.
    "4 KiB behind": plain(lambda: jpeg() + noise(4096)),
    "zeros behind": plain(lambda: jpeg() + bytes(3000)),
    "a page behind": plain(lambda: jpeg() + b"<html><script>alert(1)</script></html>"),
    "another JPEG behind": plain(lambda: jpeg() + encoded("JPEG", Image.new("RGB", (300, 200)))),
    "half of another JPEG behind": plain(lambda: jpeg() + jpeg()[:300]),
    "multi-picture": plain(_multi_picture),
    "multi-picture whose second image is cut off": plain(lambda: _multi_picture()[:-200]),
    "multi-picture with a broken index": plain(lambda: with_segments(segment(0xE2, b"MPF\0" + noise(60)))),
    "a thumbnail inside": plain(
        lambda: with_segments(exif_segment(1, extra=encoded("JPEG", Image.new("RGB", (30, 20)))))
    ),
    # Segments, large, many or broken.
    "APP1 of 2 MB": plain(lambda: with_segments(*of_size(0xE1, 2 * MEGABYTE, b"http://ns.adobe.com/xap/1.0/\0"))),
    "APP11 of 2 MB": plain(lambda: with_segments(*of_size(0xEB, 2 * MEGABYTE, b"JP\0\1"))),
    "APP13 of 2 MB": plain(lambda: with_segments(*of_size(0xED, 2 * MEGABYTE, b"Photoshop 3.0\0008BIM"))),
    "EXIF of 2 MB": plain(lambda: with_segments(exif_segment(1), *of_size(0xE1, 2 * MEGABYTE, b"Exif\0\0"))),
    "comments of 2 MB": plain(lambda: with_segments(*of_size(0xFE, 2 * MEGABYTE))),
    "20,000 comments": plain(lambda: with_segments(segment(0xFE, b"") * 20_000)),
    "empty segments": plain(lambda: with_segments(*(segment(0xE0 + number, b"") for number in range(16)))),
    "EXIF that is none": plain(lambda: with_segments(segment(0xE1, b"Exif\0\0" + noise(300)))),
    "EXIF that is cut off": plain(lambda: with_segments(segment(0xE1, b"Exif\0\0" + exif(6)[:12]))),
    "EXIF with orientation 9": plain(lambda: with_segments(exif_segment(9))),
    "EXIF with orientation 0": plain(lambda: with_segments(exif_segment(0))),
    # Profiles and orientation.
    **{
        f"{name} profile": showing(colors, lambda profile=profile: with_segments(*profile_segments(profile)))
        for name, profile, colors in profiles.RGB
    },
    "profile in pieces": showing(
        profiles.SWAPPED, lambda: with_segments(*profile_segments(profiles.swapped(), piece=100))
    ),
    "profile in pieces, the last one first": showing(
        profiles.SWAPPED, lambda: with_segments(*profile_segments(profiles.swapped(), piece=100)[::-1])
    ),
    "profile of 2 MB": plain(lambda: with_segments(*profile_segments(profiles.rgb() + noise(2 * MEGABYTE)))),
    "profile without its first piece": plain(
        lambda: with_segments(*profile_segments(profiles.swapped(), piece=100)[1:])
    ),
    "profile that is none": plain(lambda: with_segments(*profile_segments(noise(400)))),
    "gray profile": showing(
        (gray(137), gray(188), gray(225), gray(255)),
        lambda: with_segments(
            *profile_segments(profiles.gray()), image=encoded("JPEG", quadrants((64, 128, 192, 255), "L"))
        ),
    ),
    "cmyk with a printer's profile": showing(
        COLORS, lambda: with_segments(*profile_segments(profiles.inks()), image=_cmyk())
    ),
    "cmyk with a screen's profile": showing(
        _INKS_SHOWN, lambda: with_segments(*profile_segments(profiles.swapped()), image=_cmyk())
    ),
    **{f"orientation {number}": plain(_turned, number) for number in ORIENTATIONS},
    "orientation 6 in the other byte order": plain(_turned, 6, ">"),
    "orientation 6 and a profile": showing(
        profiles.SWAPPED, lambda: with_segments(*profile_segments(profiles.swapped()), image=_turned(6))
    ),
}
