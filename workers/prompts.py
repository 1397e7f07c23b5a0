"""A stored request → what a provider is asked for."""

from __future__ import annotations

from typing import Final

from generation.caching import ttl_cache
from generation.models import GenerationRequest, PromptStyle
from generation.providers.catalogue import ModelChoice
from generation.states import GenerationType, StyleScope
from workers.providers.base import ImageRequest

#: For how many seconds a process goes by the phrases that it has read.
_LIFETIME: Final = 5


@ttl_cache(seconds=_LIFETIME)
def _phrases() -> dict[tuple[str, str], str]:
    return {(style.scope, style.name): style.phrase for style in PromptStyle.objects.all()}


def build(request: GenerationRequest, choice: ModelChoice) -> ImageRequest:
    """Add the phrases of the type and of the image style to the client's prompt, for the model that was chosen."""
    wanted = request.metadata
    image_style = wanted.get("imageStyle", "")
    phrases = _phrases()
    parts = [request.prompt]
    if phrase := phrases.get((StyleScope.TYPE, request.type)):
        parts.append(phrase)
    if image_style:
        # A style that nobody wrote a phrase for is passed on in the client's own word.
        parts.append(phrases.get((StyleScope.IMAGE_STYLE, image_style), f"{image_style} style"))
    title = wanted.get("title", "")
    if title and request.type == GenerationType.COVER and "title" not in choice.capabilities:
        parts.append(f'with the title "{title}"')  # a model that letters by itself is told apart from the prompt
    return ImageRequest(
        request_id=request.pk,
        type=request.type,
        subject=request.prompt,
        prompt=", ".join(parts),
        aspect_ratio=choice.aspect_ratio,
        width=choice.width,
        height=choice.height,
        seed=wanted.get("seed"),
        negative_prompt=wanted.get("negativePrompt", ""),
        # Where a model stands for one quality, there is nothing to be told.
        quality=wanted.get("quality", "") if "quality" in choice.capabilities else "",
        output_format=wanted.get("outputFormat", "png"),
        image_style=image_style,
        title=title,
        model=choice.model,
    )
