"""Make a stored image ready to be sent to a vendor: small enough, and otherwise as it is."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from typing import Final

from generation.storage import image_headers
from generation.storage.image_pixels import decoded, in_8_bits, upright

#: The longest side that is sent in pixels. Vendors scale larger images down, and bill them all the same.
LONGEST_SIDE: Final = 2_048
#: A larger PNG without transparency is sent as JPEG. On Vertex an image may have 7 MB, and uploading takes time.
_LARGE: Final = 3_000_000
_QUALITY: Final = 92


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedImage:
    """An image as it is sent."""

    data: bytes = field(repr=False)
    content_type: str
    width: int
    height: int
    sha256: str


class OpaqueMaskError(Exception):
    """A mask without a transparent part."""


def prepare(data: bytes, content_type: str, *, is_mask: bool = False) -> PreparedImage:
    """Return the image with sides of at most :data:`LONGEST_SIDE`. A small one keeps its bytes; a mask stays a PNG.

    The image was checked when it was stored. Raises ``OSError`` if it is not readable any more, and
    :class:`OpaqueMaskError`.
    """
    try:
        file = image_headers.read(data)
        if is_mask and in_8_bits(decoded(file)).convert("RGBA").getchannel("A").getextrema()[0] == 255:
            raise OpaqueMaskError
        is_large = max(file.width, file.height) > LONGEST_SIDE or (len(data) > _LARGE and not is_mask)
        if not is_large:
            return _prepared(data, content_type, file.width, file.height)
        image = in_8_bits(decoded(file))
        profile = image.info.get("icc_profile")
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), reducing_gap=2.0)
        image = upright(image, file)
        kind = "PNG" if is_mask or image.mode in {"RGBA", "LA"} else "JPEG"
        out = io.BytesIO()
        if kind == "JPEG":
            image.convert("RGB").save(out, kind, quality=_QUALITY, icc_profile=profile)
        else:
            image.save(out, kind, compress_level=4, icc_profile=profile)
    except (OSError, OpaqueMaskError):
        raise
    except Exception as error:  # decoders raise errors of many kinds
        raise OSError("a stored image does not decode") from error
    return _prepared(out.getvalue(), f"image/{kind.lower()}", *image.size)


def _prepared(data: bytes, content_type: str, width: int, height: int) -> PreparedImage:
    return PreparedImage(
        data=data,
        content_type=content_type,
        width=width,
        height=height,
        sha256=hashlib.sha256(data).hexdigest(),
    )
