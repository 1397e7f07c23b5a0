"""Read the headers of PNG, JPEG and WebP files, and extract the part that a decoder needs. Decodes no pixels.

A decoder gets only the first image, without metadata and without the bytes after it. Decoders limit metadata too
strictly or not at all: a comment of 2 MB makes Pillow reject a valid image, and an EXIF block can fill the memory.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

#: Maximum number of chunks or segments of a file. A 40 MB PNG in the usual chunks of 8 kB has 5,000.
MAX_PARTS: Final = 200_000
#: Maximum number of scans of a JPEG. Encoders write about ten. Decoding a scan touches every pixel, so a small file
#: with many scans would take minutes.
MAX_SCANS: Final = 100
#: Maximum bytes of a color profile, also after inflating; a larger one is ignored. Printing profiles have up to 3 MB.
MAX_PROFILE: Final = 4 * 1024 * 1024
_MAX_EXIF_ENTRIES: Final = 1000
_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTHS: Final = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
#: Ancillary chunks that affect how the image is shown.
_ANCILLARY: Final = frozenset((b"tRNS", b"iCCP", b"sRGB", b"cICP", b"gAMA", b"eXIf", b"acTL"))
_GRAY, _RGB, _PALETTE = 0, 2, 3
#: A JPEG marker, except stuffed bytes and restart markers, which are part of the pixel data.
_MARKER: Final = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
#: Application segments that define the color model, the only ones that a decoder needs.
_COLOR_MODELS: Final = {0xE0: b"JFIF", 0xEE: b"Adobe"}
_WEBP_ANIMATION, _WEBP_ALPHA, _WEBP_PROFILE = 0x02, 0x10, 0x20
_ICC: Final = b"ICC_PROFILE\0"


class BrokenFileError(ValueError):
    """The bytes are not a complete image. The message is the reason, as the end of a sentence."""


class UnknownFormatError(BrokenFileError):
    """The bytes begin like no format that is known here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFile:
    """The first image of a file. ``width`` and ``height`` are as encoded, before the EXIF ``orientation``.

    Colors are defined by ``profile`` (ICC), else by ``gamma``, else they are sRGB.
    """

    format: str
    width: int
    height: int
    data: bytes = field(repr=False)
    orientation: int = 1
    profile: bytes = field(default=b"", repr=False)
    gamma: float | None = None
    animated: bool = False


def read(data: bytes) -> ImageFile:
    """Find the first image in the bytes. Raises :class:`BrokenFileError`."""
    try:
        if data.startswith(_PNG_SIGNATURE):
            return _read_png(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _read_jpeg(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _read_webp(data)
    except struct.error:
        raise _cut_off() from None
    raise UnknownFormatError("it is neither PNG, JPEG nor WebP")


def _cut_off() -> BrokenFileError:
    return BrokenFileError("it is cut off")


# --- PNG --------------------------------------------------------------------------------------------------------------


def _read_png(data: bytes) -> ImageFile:
    chunks: dict[bytes, bytes] = {}
    pixels: list[memoryview] = []
    for name, content in _png_chunks(data):
        if (name == b"IHDR") != (not chunks):
            raise BrokenFileError("its header is not where it belongs")
        if name == b"IDAT":
            pixels.append(content)
        elif _is_critical(name) and name not in {b"IHDR", b"PLTE", b"IEND"}:
            raise BrokenFileError("it has a part that no browser knows")
        elif not pixels:  # browsers ignore chunks after the pixels
            chunks.setdefault(name, bytes(content))
    width, height, depth, color, _, _, _ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    if depth not in _PNG_DEPTHS.get(color, ()) or not pixels or (color == _PALETTE and not chunks.get(b"PLTE")):
        raise BrokenFileError("its header contradicts it")
    parts = [_PNG_SIGNATURE, _png_chunk(b"IHDR", chunks[b"IHDR"])]
    if color == _PALETTE:
        parts.append(_png_chunk(b"PLTE", chunks[b"PLTE"]))
    if transparency := _png_transparency(chunks.get(b"tRNS", b""), depth, color):
        parts.append(_png_chunk(b"tRNS", transparency))
    parts += (_png_chunk(b"IDAT", b"".join(pixels)), _png_chunk(b"IEND", b""))
    profile = _inflated_profile(chunks.get(b"iCCP", b""))
    return ImageFile(
        format="PNG",
        width=width,
        height=height,
        data=b"".join(parts),
        orientation=_orientation(chunks.get(b"eXIf", b"")),
        profile=profile,
        gamma=None if profile or chunks.keys() & {b"sRGB", b"cICP"} else _gamma(chunks.get(b"gAMA", b"")),
        animated=int.from_bytes(chunks.get(b"acTL", b"")[:4]) > 1,
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield name and content of the relevant chunks up to the end of the image. Like browsers, skip damaged ancillary
    chunks. Raises :class:`BrokenFileError`."""
    view, position = memoryview(data), len(_PNG_SIGNATURE)
    for _ in range(MAX_PARTS):
        length, name = struct.unpack_from(">I4s", data, position)
        start, end = position + 8, position + 8 + length
        if end + 4 > len(data):
            raise _cut_off()
        if _is_critical(name) or name in _ANCILLARY:
            is_intact = zlib.crc32(view[position + 4 : end]) == int.from_bytes(view[end : end + 4])
            if is_intact:
                yield name, view[start:end]
            elif _is_critical(name):
                raise BrokenFileError("it was damaged on the way")
        if name == b"IEND":
            return
        position = end + 4
    raise BrokenFileError("it has too many parts")


def _is_critical(name: bytes) -> bool:
    return not name[0] & 0x20


def _png_chunk(name: bytes, content: bytes) -> bytes:
    return b"".join((len(content).to_bytes(4), name, content, zlib.crc32(content, zlib.crc32(name)).to_bytes(4)))


def _png_transparency(content: bytes, depth: int, color: int) -> bytes:
    """Return the tRNS chunk for Pillow, which compares its color with pixels that are already converted to 8 bits."""
    if color == _PALETTE:
        return content
    channels = {_GRAY: 1, _RGB: 3}.get(color, 0)
    if not channels or len(content) < 2 * channels:
        return b""
    samples = [value & ((1 << depth) - 1) for value in struct.unpack_from(f">{channels}H", content)]
    if color == _GRAY and depth in {2, 4}:
        samples = [value * 255 // ((1 << depth) - 1) for value in samples]
    elif color == _RGB and depth == 16:
        samples = [value >> 8 for value in samples]
    return struct.pack(f">{channels}H", *samples)


def _gamma(content: bytes) -> float | None:
    """Return the exponent by which linear light was encoded, or None if it is invalid or close to that of sRGB."""
    gamma = int.from_bytes(content) / 100_000 if len(content) == 4 else 0.0
    return gamma if 0.01 < gamma < 100 and not 0.44 < gamma < 0.47 else None


def _inflated_profile(chunk: bytes) -> bytes:
    name, _, rest = chunk.partition(b"\0")
    if not (name and rest.startswith(b"\0")):
        return b""
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(rest[1:], MAX_PROFILE)
    except zlib.error:
        return b""
    return profile if inflater.eof else b""


# --- JPEG -------------------------------------------------------------------------------------------------------------


def _read_jpeg(data: bytes) -> ImageFile:
    view = memoryview(data)
    parts: list[bytes | memoryview] = [b"\xff\xd8"]
    size, scans = (0, 0), 0
    exif, profile = b"", []
    for marker, start, end in _jpeg_segments(data):
        content = view[start + 4 : end]
        if marker == 0xE1 and not exif and data.startswith(b"Exif\0", start + 4):
            exif = bytes(content)
        elif marker == 0xE2 and data.startswith(_ICC, start + 4):
            profile.append(bytes(content[12:]))
        if 0xE0 <= marker <= 0xEF or marker == 0xFE:
            if not data.startswith(_COLOR_MODELS.get(marker, ()), start + 4):
                continue
        elif 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            if size != (0, 0):
                raise BrokenFileError("it has two headers")
            height, width = struct.unpack_from(">HH", content, 1)
            size = width, height
        scans += marker == 0xDA
        parts.append(view[start:end])
    if scans > MAX_SCANS:
        raise BrokenFileError("it has too many scans")
    return ImageFile(
        format="JPEG",
        width=size[0],
        height=size[1],
        data=b"".join(parts),
        orientation=_orientation(exif[6:]),
        profile=_joined_profile(profile),
    )


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment of the first image; a scan's segment includes its pixels. Raises
    :class:`BrokenFileError`."""
    position = 2
    for _ in range(MAX_PARTS):
        match = _MARKER.search(data, position)
        if match is None:
            raise _cut_off()
        start, marker = match.start(), data[match.start() + 1]
        if marker == 0xD9:
            yield marker, start, start + 2
            return
        if marker == 0xD8:  # the next image begins before the end of this one
            raise _cut_off()
        if marker == 0x01:
            position = start + 2
            continue
        (length,) = struct.unpack_from(">H", data, start + 2)
        position = start + 2 + length
        if length < 2 or position > len(data):
            raise _cut_off()
        if marker == 0xDA:
            next_marker = _MARKER.search(data, position)
            if next_marker is None:
                raise _cut_off()
            position = next_marker.start()
        yield marker, start, position
    raise BrokenFileError("it has too many parts")


def _joined_profile(pieces: list[bytes]) -> bytes:
    """Join the pieces, each of which begins with its number and their count; return nothing if one is missing."""
    by_number: dict[int, bytes] = {}
    for piece in pieces:
        by_number.setdefault(int.from_bytes(piece[:1]), piece)
    count = int.from_bytes(pieces[0][1:2]) if pieces else 0
    if sorted(by_number) != list(range(1, count + 1)):
        return b""
    profile = b"".join(by_number[number][2:] for number in range(1, count + 1))
    return profile if len(profile) <= MAX_PROFILE else b""


# --- WebP -------------------------------------------------------------------------------------------------------------


def _read_webp(data: bytes) -> ImageFile:
    end = int.from_bytes(data[4:8], "little") + 8
    if end > len(data):
        raise _cut_off()
    kind, flags = data[12:16], 0
    if kind == b"VP8X":
        flags = data[20]
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    animated = bool(flags & _WEBP_ANIMATION)
    # The area outside the first frame is transparent, even if no frame has an alpha channel.
    first = b"".join((data[:20], bytes((flags | _WEBP_ALPHA,)), data[21:end])) if animated else data[:end]
    # No orientation: browsers apply the EXIF orientation of JPEG and PNG, but not of WebP.
    return ImageFile(
        format="WEBP",
        width=width,
        height=height,
        data=first,
        profile=_webp_profile(data[:end]) if flags & _WEBP_PROFILE else b"",
        animated=animated,
    )


def _webp_profile(data: bytes) -> bytes:
    """Return the profile from the chunk after the header."""
    name, length = struct.unpack_from("<4sI", data, 30)
    return data[38 : 38 + length] if name == b"ICCP" and length <= MAX_PROFILE else b""


# --- EXIF -------------------------------------------------------------------------------------------------------------


def _orientation(exif: bytes) -> int:
    """Return the orientation from 1 to 8; 1 is upright, also for an unreadable block."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, offset)
        for number in range(min(count, _MAX_EXIF_ENTRIES)):
            tag, kind, values, value = struct.unpack_from(f"{order}HHIH", exif, offset + 2 + 12 * number)
            if tag == 0x0112:
                return value if (kind, values) == (3, 1) and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
