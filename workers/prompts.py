"""Build a provider's image request from a stored request."""

from __future__ import annotations

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
    """Add the phrases of the type and the image style to the client's prompt, for the chosen model."""
    options = request.options
    image_style = options.image_style
    phrases = _phrases()
    parts = [request.prompt]
    if phrase := phrases.get((StyleScope.TYPE, request.type)):
        parts.append(phrase)
    if image_style:
        # A style without a phrase is passed on in the client's own word.
        parts.append(phrases.get((StyleScope.IMAGE_STYLE, image_style), f"{image_style} style"))
    if options.title and request.type == GenerationType.COVER and "title" not in choice.capabilities:
        # A model with the capability gets the title as a field of its own.
        parts.append(f'with the title "{options.title}"')
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
        image_style=image_style,
        title=options.title,
        model=choice.model,
    )
