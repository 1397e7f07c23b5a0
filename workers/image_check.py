"""Validate the image bytes of a provider, describe the image and make its thumbnail.

The vendor's bytes are stored unchanged, with all metadata, such as a signed statement of origin. The description and
the thumbnail match the image as browsers show it.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

import kornia_rs
from PIL import Image

from generation.models.model_rows import MAX_PIXELS
from generation.states import ErrorCode, ImageFormat
from generation.storage import digital_source, image_headers
from generation.storage.image_headers import BrokenFileError, ImageFile
from generation.storage.image_pixels import SIDEWAYS, decoded, in_8_bits, in_srgb, upright
from workers.providers.base import ProviderError

#: The longest side in pixels, which is the limit of JPEG.
MAX_SIDE: Final = 65_535
#: The largest image on offer, 4096 x 4096, is a file of 48 MB if its pixels cannot be compressed.
MAX_BYTES: Final = 56 * 1024 * 1024
THUMBNAIL_SIDE: Final = 320
#: The PNGs that are decoded fast, by the end of their header (depth, color, compression, filter, interlace) and the
#: chunk after it.
_FAST_KINDS: Final = {(b"\x08\x02\0\0\0", b"IDAT"): "RGB", (b"\x08\x06\0\0\0", b"IDAT"): "RGBA"}


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedImage:
    """An image that decodes completely. Its type is that of its content, its sides are as browsers show them.

    ``requested_type`` is the requested content type. ``notice`` describes how the image differs from the request.
    """

    data: bytes = field(repr=False)
    content_type: str
    requested_type: str
    width: int
    height: int
    sha256: str
    thumbnail: bytes = field(repr=False)
    thumbnail_sha256: str
    notice: str = ""
    #: What ``when_decoded`` returned.
    stored: Future[str] | None = field(default=None, repr=False, compare=False)


#: Begins to store a decoded image by its SHA-256, content type and bytes, and returns its key later.
WhenDecoded = Callable[[str, str, bytes], Future[str]]


class _Hashing(threading.Thread):
    """Hashes an image beside its decoder, on another processor."""

    def __init__(self, data: bytes) -> None:
        super().__init__(name="hashing", daemon=True)
        self._hash = hashlib.sha256()
        self._data = data

    def run(self) -> None:
        self._hash.update(self._data)

    def result(self) -> str:
        """Wait for the end and return the SHA-256 in hexadecimal."""
        self.join()
        return self._hash.hexdigest()


def check(
    data: bytes,
    *,
    requested: str = "",
    source: str = digital_source.BY_PROGRAM,
    when_decoded: WhenDecoded | None = None,
) -> CheckedImage:
    """Decode the first image within bounds and make its thumbnail. ``requested`` is the requested format, as in
    ``outputFormat``. ``source`` is the digital source type; the thumbnail of a model's image is marked with it.
    ``when_decoded`` is called when all of the image has decoded, before the thumbnail is made. Raises
    :class:`ProviderError` with ``invalid_image``, or ``empty_result`` for no bytes."""
    if not data:
        raise ProviderError("The provider sent an empty image", code=ErrorCode.EMPTY_RESULT)
    if len(data) > MAX_BYTES:
        raise _invalid(f"it has more than {MAX_BYTES // 1024 // 1024} MB")
    hashing = _Hashing(data)
    hashing.start()
    try:
        file = image_headers.read(data)
        content_type = f"image/{file.format.lower()}"
        image = _decode(file)
        stored = when_decoded(hashing.result(), content_type, data) if when_decoded else None
        thumbnail = _thumbnail(image, file, source)
    except BrokenFileError as reason:
        raise _invalid(str(reason)) from None
    except Exception as error:  # decoders raise errors of many kinds on invalid data
        raise _invalid("it does not decode") from error
    is_sideways = file.orientation in SIDEWAYS
    return CheckedImage(
        data=data,
        content_type=content_type,
        requested_type=f"image/{requested}" if requested else content_type,
        width=file.height if is_sideways else file.width,
        height=file.width if is_sideways else file.height,
        sha256=hashing.result(),
        thumbnail=thumbnail,
        thumbnail_sha256=hashlib.sha256(thumbnail).hexdigest(),
        notice=_notice(file, requested),
        stored=stored,
    )


def _notice(file: ImageFile, requested: str) -> str:
    sent = ImageFormat(file.format.lower()).label
    expected = ImageFormat(requested).label if requested else ""
    notices = []
    if expected not in {"", sent}:
        notices.append(f"The provider sent {sent} instead of {expected}; the image is stored as it was sent.")
    if file.animated:
        notices.append("The provider sent an animation; the thumbnail shows its first frame.")
    return " ".join(notices)


def _decode(file: ImageFile) -> Image.Image:
    """Decode the whole image."""
    if not file.width * file.height:
        raise BrokenFileError("it has no pixels")
    if file.width * file.height > MAX_PIXELS or max(file.width, file.height) > MAX_SIDE:
        raise BrokenFileError(f"{file.width} x {file.height} pixels are too many")
    return _decoded_fast(file) or decoded(file)


def _thumbnail(image: Image.Image, file: ImageFile, source: str) -> bytes:
    """Return a WebP thumbnail. Colors and orientation are corrected after scaling, on few pixels."""
    small = in_8_bits(image)
    # Averages whole blocks of pixels first, which takes half the time of the usual gap and shows no difference.
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), reducing_gap=1.0)
    shown = upright(_on_white(small, file), file)
    out = io.BytesIO()
    mark = b"" if source == digital_source.BY_PROGRAM else digital_source.xmp(source).encode()
    # Method 4 takes twice the time and saves a twentieth of the size. The mark has 300 bytes.
    shown.save(out, "WEBP", quality=82, method=2, xmp=mark)
    return out.getvalue()


def _decoded_fast(file: ImageFile) -> Image.Image | None:
    """Decode a PNG of the usual kind, in a quarter of Pillow's time. Return None for any other file and for a broken
    one, on which Pillow decides.

    This decoder does not compare the checksum of the compressed pixels. Those of the chunks around them are verified.
    """
    kind = (file.data[24:29], file.data[37:41]) if file.format == "PNG" else None
    mode = kind and _FAST_KINDS.get(kind)
    if mode is None:
        return None
    try:
        pixels = kornia_rs.io.decode_image_png_u8(file.data, (file.height, file.width), mode.lower())
    except Exception:
        return None
    return Image.frombuffer(mode, (file.width, file.height), pixels, "raw", mode, 0, 1)


def _on_white(small: Image.Image, file: ImageFile) -> Image.Image:
    """Return the image in sRGB, transparent pixels on white."""
    if small.mode not in {"RGBA", "LA"}:
        return in_srgb(small, file)
    background = Image.new("RGB", small.size, "white")
    background.paste(in_srgb(small.convert(small.mode.removesuffix("A")), file), mask=small.getchannel("A"))
    return background


def _invalid(reason: str) -> ProviderError:
    return ProviderError(f"The provider sent no valid image: {reason}", code=ErrorCode.INVALID_IMAGE)
