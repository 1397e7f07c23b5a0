"""What a provider sent → a picture that can be trusted, or an error. Nothing a provider says of it is believed."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass, field
from typing import Final

from PIL import Image

from generation.states import ErrorCode
from workers.providers.base import ProviderError

#: The most pixels that are decoded; the largest picture on offer, 4096 x 4096, and half as much again.
MAX_PIXELS: Final = 25_000_000
MAX_BYTES: Final = 40 * 1024 * 1024
THUMBNAIL_SIDE: Final = 320
_CONTENT_TYPES: Final = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
#: How a whole file of each format ends. Decoders forgive a missing end, but a picture without one was cut off.
_PNG_END: Final = b"\0\0\0\0IEND\xaeB`\x82"
_JPEG_END: Final = b"\xff\xd9"


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedImage:
    """A picture that decodes wholly, with what its content says: type by content, size in pixels."""

    data: bytes = field(repr=False)
    content_type: str
    width: int
    height: int
    sha256: str
    thumbnail: bytes = field(repr=False)
    thumbnail_sha256: str


def check(data: bytes) -> CheckedImage:
    """Decode the whole picture within bounds and make its thumbnail. Raises :class:`ProviderError` with
    ``invalid_image`` (``empty_result`` for no bytes at all)."""
    if not data:
        raise ProviderError("The provider sent an empty picture", code=ErrorCode.EMPTY_RESULT)
    if len(data) > MAX_BYTES:
        raise _invalid(f"it has more than {MAX_BYTES // 1024 // 1024} MB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit below is stricter
            with Image.open(io.BytesIO(data), formats=tuple(_CONTENT_TYPES)) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise _invalid(f"{image.width} x {image.height} pixels are too many")
                if getattr(image, "n_frames", 1) != 1:
                    raise _invalid("it is animated")
                _check_end(data, image.format or "")
                image.load()
                content_type, size = _CONTENT_TYPES[image.format or ""], image.size
                thumbnail = _thumbnail(image)
    except ProviderError:
        raise
    except Exception as error:  # a decoder fed with garbage raises whatever it happens to run into
        raise _invalid("it does not decode") from error
    return CheckedImage(
        data=data,
        content_type=content_type,
        width=size[0],
        height=size[1],
        sha256=hashlib.sha256(data).hexdigest(),
        thumbnail=thumbnail,
        thumbnail_sha256=hashlib.sha256(thumbnail).hexdigest(),
    )


def _check_end(data: bytes, image_format: str) -> None:
    if image_format == "WEBP":
        whole = int.from_bytes(data[4:8], "little") + 8 <= len(data)
    else:
        end = _PNG_END if image_format == "PNG" else _JPEG_END
        whole = end in data[-1024:]  # some encoders pad
    if not whole:
        raise _invalid("it is cut off")


def _thumbnail(image: Image.Image) -> bytes:
    # An alpha channel triples what this takes, and few pictures have one.
    small = image.convert("RGBA" if image.has_transparency_data else "RGB")
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    if small.mode == "RGBA":
        paper = Image.new("RGB", small.size, "white")
        paper.paste(small, mask=small.getchannel("A"))
        small = paper
    out = io.BytesIO()
    small.save(out, "WEBP", quality=82, method=2)  # method 4 takes twice the time for a twentieth of the size
    return out.getvalue()


def _invalid(why: str) -> ProviderError:
    return ProviderError(f"The provider sent no sound picture: {why}", code=ErrorCode.INVALID_IMAGE)
