"""A stored request → what a provider is asked for."""

from __future__ import annotations

from typing import Final

from generation.models import GenerationRequest, PromptStyle
from generation.states import StyleScope
from workers.providers.base import ImageRequest

#: The short side of a picture in pixels.
SHORT_SIDE: Final = 1024
_NAMED_RATIOS: Final = {"square": (1, 1), "portrait": (2, 3), "landscape": (3, 2)}
#: Vendors want sides that divide by this.
_STEP: Final = 16


def size_for(aspect_ratio: str) -> tuple[int, int]:
    """Width and height in pixels for ``square``, ``portrait``, ``landscape`` or ``W:H``."""
    named = _NAMED_RATIOS.get(aspect_ratio)
    across, down = named or tuple(int(part) for part in aspect_ratio.split(":"))
    long_side = round(SHORT_SIDE * max(across, down) / min(across, down) / _STEP) * _STEP
    return (long_side, SHORT_SIDE) if across >= down else (SHORT_SIDE, long_side)


def build(request: GenerationRequest) -> ImageRequest:
    """Add the phrases of the type and of the image style to the client's prompt, and work out the size."""
    wanted = request.metadata
    image_style = wanted.get("imageStyle", "")
    phrases = {
        (style.scope, style.name): style.phrase
        for style in PromptStyle.objects.filter(name__in=[request.type, image_style])
    }
    parts = [request.prompt]
    if phrase := phrases.get((StyleScope.TYPE, request.type)):
        parts.append(phrase)
    if image_style:
        # A style that nobody wrote a phrase for is passed on in the client's own word.
        parts.append(phrases.get((StyleScope.IMAGE_STYLE, image_style), f"{image_style} style"))
    width, height = size_for(wanted.get("aspectRatio", "square"))
    return ImageRequest(
        request_id=request.pk,
        type=request.type,
        subject=request.prompt,
        prompt=", ".join(parts),
        width=width,
        height=height,
        seed=wanted.get("seed"),
        negative_prompt=wanted.get("negativePrompt", ""),
        quality=wanted.get("quality", ""),
        output_format=wanted.get("outputFormat", "png"),
        image_style=image_style,
        title=wanted.get("title", ""),
        model=wanted.get("model", ""),
    )
