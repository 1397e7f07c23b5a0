"""Build a provider's image request from a stored request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from generation.caching import ttl_cache
from generation.models import GenerationRequest, PromptStyle
from generation.providers.catalogue import ModelChoice
from generation.states import GenerationType, ImageFormat, StyleScope
from workers.providers.base import ImageRequest

#: Seconds for which a process caches the phrases.
_LIFETIME: Final = 5


@ttl_cache(seconds=_LIFETIME)
def _phrases() -> dict[tuple[str, str], str]:
    return {(style.scope, style.name): style.phrase for style in PromptStyle.objects.all()}


def build(request: GenerationRequest, choice: ModelChoice) -> ImageRequest:
    """Return the request for the chosen model. Its prompt is the client's with the phrases of the type and the image
    style, unless the client wants it sent as it is."""
    options = request.options
    parts = [request.prompt] if options.raw_prompt else [request.prompt, *_additions(request, choice)]
    return ImageRequest(
        request_id=request.pk,
        type=request.type,
        subject=request.prompt,
        prompt=", ".join(parts),
        aspect_ratio=choice.aspect_ratio,
        width=choice.width,
        height=choice.height,
        seed=options.seed,
        negative_prompt=options.negative_prompt,
        # A model without the capability has a single quality.
        quality=options.quality if "quality" in choice.capabilities else "",
        output_format=options.output_format or ImageFormat.PNG.value,
        image_style=options.image_style,
        title=options.title,
        model=choice.model,
        previews=options.previews,
    )


def _additions(request: GenerationRequest, choice: ModelChoice) -> Iterator[str]:
    options, phrases = request.options, _phrases()
    if phrase := phrases.get((StyleScope.TYPE, request.type)):
        yield phrase
    if options.image_style:
        # A style without a phrase is passed on in the client's own word.
        yield phrases.get((StyleScope.IMAGE_STYLE, options.image_style), f"{options.image_style} style")
    if options.title and request.type == GenerationType.COVER and "title" not in choice.capabilities:
        # A model with the capability gets the title as a field of its own.
        yield f'with the title "{options.title}"'
