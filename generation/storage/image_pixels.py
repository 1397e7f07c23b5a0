"""Decode the pixels of an image, upright and in sRGB, as browsers show them. Knows no framework."""

from __future__ import annotations

import io
from contextlib import suppress
from functools import cache
from typing import Final

from PIL import Image, ImageChops, ImageCms

from generation.storage.image_headers import BrokenFileError, ImageFile

#: The operation that turns an image upright, by its EXIF orientation.
_TRANSPOSITIONS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: Orientations that swap width and height.
SIDEWAYS: Final = {5, 6, 7, 8}
#: Pillow's mode by the color space of a profile.
_PROFILED_MODES: Final = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK"}


def upright(image: Image.Image, file: ImageFile) -> Image.Image:
    """Turn the image by the EXIF orientation of its file."""
    transposition = _TRANSPOSITIONS.get(file.orientation)
    return image if transposition is None else image.transpose(transposition)  # one of the constants is 0


def decoded(file: ImageFile) -> Image.Image:
    """Decode all pixels. Raises :class:`BrokenFileError`, and the decoder's errors of many kinds."""
    image = Image.open(io.BytesIO(file.data), formats=(file.format,))
    if image.size != (file.width, file.height):
        raise BrokenFileError("its headers contradict each other")
    image.load()
    return image


def in_8_bits(image: Image.Image) -> Image.Image:
    """Return the image in a mode that can be scaled. It is not copied if it already is, since a copy is as slow."""
    if image.mode == "I;16":
        return _gray_in_8_bits(image)
    if image.mode not in {"RGBA", "LA"} and image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("RGB") if image.mode in {"1", "P"} else image


def _gray_in_8_bits(image: Image.Image) -> Image.Image:
    """Convert 16-bit gray to 8 bits. Pillow's own conversion clips at 255, which makes nearly all pixels white."""
    samples = image.tobytes()
    low, high = (Image.frombytes("L", image.size, samples[offset::2]) for offset in (0, 1))
    transparent = image.info.get("transparency")
    if transparent is None:
        return high
    # A pixel is transparent if both of its bytes equal those of the transparent value.
    masks = (
        half.point([0 if value == transparent_half else 255 for value in range(256)])
        for half, transparent_half in ((low, transparent & 0xFF), (high, transparent >> 8))
    )
    return Image.merge("LA", (high, ImageChops.lighter(*masks)))


def in_srgb(small: Image.Image, file: ImageFile) -> Image.Image:
    """Convert to sRGB by the profile or gamma. Like browsers, ignore a profile that is broken or for other colors."""
    mode = _PROFILED_MODES.get(file.profile[16:20], "")
    if mode == small.mode or (mode, small.mode) == ("RGB", "L"):
        with suppress(Exception):  # the library raises errors of many kinds on invalid profiles
            source = ImageCms.ImageCmsProfile(io.BytesIO(file.profile))
            transform = ImageCms.buildTransform(source, _srgb(), mode, "RGB")
            shown = ImageCms.applyTransform(small.convert(mode), transform)
            if shown is not None:
                return shown
    small = small.convert("RGB")
    return small if file.gamma is None else small.point(_curve_to_srgb(file.gamma) * 3)


def _curve_to_srgb(gamma: float) -> list[int]:
    light = [(value / 255) ** (1 / gamma) for value in range(256)]
    return [round(255 * (12.92 * x if x <= 0.0031308 else 1.055 * x ** (1 / 2.4) - 0.055)) for x in light]


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
