"""Restore what is outside of the mask of an edited image. To vendors a mask is a hint; they change the rest, too."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from generation.models.model_rows import MAX_PIXELS
from generation.requests.input_images import StoredImage
from generation.states import ErrorCode, ImageRole
from generation.storage import image_headers, images
from generation.storage.digital_source import PARTLY_BY_MODEL, xmp
from generation.storage.image_headers import BrokenFileError
from generation.storage.image_pixels import decoded, in_8_bits, in_srgb, upright
from workers.call_images import opaque_mask
from workers.providers.base import ImageAnswer, ProviderError

_MARK: Final = xmp(PARTLY_BY_MODEL)
_QUALITY: Final = 95


def check(stored: Sequence[StoredImage]) -> None:
    """Decode the source and the mask before a call is paid for. Raises ``OSError`` if they cannot be read at the
    moment, and :class:`ProviderError` if they cannot be used."""
    try:
        for image in _source_and_mask(stored):
            pixels = _stored_pixels(image)
            if image.role == ImageRole.MASK and pixels.convert("RGBA").getchannel("A").getextrema()[0] == 255:
                raise opaque_mask()
    except (FileNotFoundError, BrokenFileError):
        message = "The image or its mask cannot be read any more"
        raise ProviderError(message, code=ErrorCode.INVALID_REQUEST, sent=False) from None


def restored(answer: ImageAnswer, stored: Sequence[StoredImage], output_format: str) -> ImageAnswer:
    """Return the answer with an image of the source's size that differs from the source only where the mask is
    transparent, in the requested format. Raises ``OSError`` if a stored image cannot be read at the moment, and
    :class:`ProviderError` if it is gone, and for an answer that does not decode."""
    try:
        source, mask = map(_stored_pixels, _source_and_mask(stored))
    except (FileNotFoundError, BrokenFileError):
        message = "The image or its mask was deleted during the call"
        raise ProviderError(message, code=ErrorCode.INVALID_IMAGE) from None
    try:
        changed = _pixels(answer.data).resize(source.size, Image.Resampling.LANCZOS)
    except Exception as error:  # decoders raise errors of many kinds
        message = "The provider sent a broken image"
        raise ProviderError(message, code=ErrorCode.INVALID_IMAGE) from error
    keep = mask.convert("RGBA").getchannel("A").resize(source.size)
    image = Image.composite(source.convert("RGBA"), changed.convert("RGBA"), keep)
    return replace(answer, data=_encoded(image, output_format), content_type=f"image/{output_format}")


def _source_and_mask(stored: Sequence[StoredImage]) -> list[StoredImage]:
    roles = (ImageRole.SOURCE, ImageRole.MASK)
    return [next(image for image in stored if image.role == role) for role in roles]


def _stored_pixels(image: StoredImage) -> Image.Image:
    """Raises ``OSError`` of the storage, and :class:`BrokenFileError`."""
    data = images.read(image.key)
    try:
        return _pixels(data)
    except Exception as error:  # decoders raise errors of many kinds, among them OSError
        raise BrokenFileError("it does not decode") from error


def _pixels(data: bytes) -> Image.Image:
    file = image_headers.read(data)
    if file.width * file.height > MAX_PIXELS:
        raise ValueError("too many pixels")
    image = in_8_bits(decoded(file))
    if image.mode not in {"RGBA", "LA"}:
        image = in_srgb(image, file)
    return upright(image, file)


def _encoded(image: Image.Image, output_format: str) -> bytes:
    is_opaque = image.getchannel("A").getextrema() == (255, 255)
    out = io.BytesIO()
    options: dict[str, Any] = {"quality": _QUALITY, "xmp": _MARK.encode()}
    if output_format == "png":
        information = PngInfo()
        information.add_itxt("XML:com.adobe.xmp", _MARK)
        options = {"pnginfo": information, "compress_level": 4}
    image = image.convert("RGB") if is_opaque or output_format == "jpeg" else image
    image.save(out, output_format.upper(), **options)
    return out.getvalue()
