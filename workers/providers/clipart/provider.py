"""The provider: one request in, one image out, without a network."""

from __future__ import annotations

import asyncio
import io
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from workers.providers.base import ImageAnswer, ImageRequest, ProviderError

if TYPE_CHECKING:
    from PIL.Image import Image

ATTRIBUTION = (
    "Drawings by OpenMoji, the open-source emoji and icon project (openmoji.org), licensed CC BY-SA 4.0 "
    "(https://creativecommons.org/licenses/by-sa/4.0/); arranged, recolored and added to for this image"
)
_MODEL = "openmoji-17"
_FORMATS = frozenset({"png", "jpeg", "webp"})
_SOFTWARE = "clipart"
_SMALLEST_SIDE, _LARGEST_SIDE = 256, 4096
_LONGEST_CAPTION = 200
# The tags of EXIF that hold what PNG keeps as text.
_EXIF_DESCRIPTION, _EXIF_SOFTWARE, _EXIF_ARTIST, _EXIF_COPYRIGHT = 0x010E, 0x0131, 0x013B, 0x8298


class _CancelledError(Exception):
    """The call was cancelled."""


class ClipartProvider:
    """Composes images from OpenMoji's drawings and own shapes; a mandala if the prompt names no object."""

    name: ClassVar[str] = "clipart"
    billable: ClassVar[bool] = False

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        """Make the image in a thread. Raises :class:`ProviderError` for a size or format that is not offered."""
        stop = threading.Event()
        try:
            return await asyncio.to_thread(_generate, request, stop)
        except asyncio.CancelledError:
            stop.set()
            raise


def _generate(request: ImageRequest, stop: threading.Event) -> ImageAnswer:
    from workers.providers.clipart import draw, heroes, lettering, mandala, scene, words

    _check(request)
    heroes.check(request)
    subject = words.well_formed(request.subject) or words.well_formed(request.prompt)
    text_hash = heroes.subject_hash(subject, request.type)
    seed = request.seed if request.seed is not None else (text_hash + request.variation) % 2**31
    cast = heroes.of_request(request)
    names = frozenset(name for hero in cast for name in hero.names)
    wish = heroes.dressed(words.read(subject, words.well_formed(request.negative_prompt), names=names))
    wish = heroes.without_heroes(wish, cast)
    style = heroes.palette(request)
    drawn = bool(wish.nouns or wish.setting or cast)
    if drawn:
        brief = scene.Brief(wish, request.type, request.width, request.height, seed, request.image_style)
        figures = tuple(hero.entry for hero in cast)
        composed = scene.compose(replace(brief, cast=figures, palette=style))
    else:
        composed = mandala.compose(text_hash, request.type, request.width, request.height, seed)

    def checkpoint() -> None:
        if stop.is_set():
            raise _CancelledError

    image = draw.render(composed, request.width, request.height, checkpoint)
    if composed.panel:
        unit = request.width / composed.page.width
        x, y, width, height = composed.panel
        box = ((x + 44) * unit, (y + 34) * unit, (width - 88) * unit, (height - 68) * unit)
        lettering.write_title(image, words.well_formed(request.title), box)
    attribution = ATTRIBUTION if drawn else ""
    return ImageAnswer(
        data=_encode(image, request.output_format, subject, attribution),
        content_type=f"image/{request.output_format}",
        model=_MODEL,
        seed=seed,
        attribution=attribution,
    )


def _check(request: ImageRequest) -> None:
    if request.output_format not in _FORMATS:
        raise ProviderError("The output format must be png, jpeg or webp.", code="invalid_request")
    if not all(_SMALLEST_SIDE <= side <= _LARGEST_SIDE for side in (request.width, request.height)):
        raise ProviderError(
            f"Width and height must be from {_SMALLEST_SIDE} to {_LARGEST_SIDE} pixels.", code="invalid_request"
        )


def _encode(image: Image, output_format: str, subject: str, attribution: str) -> bytes:
    caption = subject if len(subject) <= _LONGEST_CAPTION else subject[: _LONGEST_CAPTION - 1] + "…"
    file = io.BytesIO()
    if output_format == "png":
        from PIL.PngImagePlugin import PngInfo

        notes = PngInfo()
        for key, value in (("Title", caption), ("Software", _SOFTWARE), ("Attribution", attribution)):
            if value:
                notes.add_text(key, value)
        image.save(file, "PNG", pnginfo=notes)
        return file.getvalue()
    exif = _exif(caption, attribution)
    if output_format == "jpeg":
        image.save(file, "JPEG", quality=90, exif=exif)
    else:
        image.convert("RGB").save(file, "WEBP", quality=90, method=2, exif=exif)
    return file.getvalue()


def _exif(caption: str, attribution: str) -> bytes:
    from PIL.Image import Exif

    exif = Exif()
    exif[_EXIF_DESCRIPTION] = caption.encode("ascii", "replace").decode("ascii")
    exif[_EXIF_SOFTWARE] = _SOFTWARE
    if attribution:
        exif[_EXIF_ARTIST] = "OpenMoji"
        exif[_EXIF_COPYRIGHT] = attribution
    return exif.tobytes()
