"""Build a provider's image request from a stored request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from generation.caching import ttl_cache
from generation.models import GenerationRequest, PromptStyle
from generation.providers.catalogue import ModelChoice
from generation.requests.input_images import StoredImage
from generation.states import GenerationType, ImageFormat, ImageRole, StyleScope
from workers.providers.base import ImageRequest

#: Seconds for which a process caches the phrases.
_LIFETIME: Final = 5


@ttl_cache(seconds=_LIFETIME)
def _phrases() -> dict[tuple[str, str], str]:
    return {(style.scope, style.name): style.phrase for style in PromptStyle.objects.all()}


def sent_images(request: GenerationRequest, images: Sequence[StoredImage], choice: ModelChoice) -> list[StoredImage]:
    """Return those of the request's images that are sent to the model, in their order: all but a mask that the model
    does not take, unless it was asked for as a hint, which is then sent as the last image."""
    takes_mask = choice.reference_limits.get("mask") or request.options.mask_mode == "hint"
    return [image for image in images if image.role != ImageRole.MASK or takes_mask]


def build(request: GenerationRequest, choice: ModelChoice, images: Sequence[StoredImage] = ()) -> ImageRequest:
    """Return the request for the chosen model, without the ``images`` themselves. Its prompt is the client's with the
    sentences of the images and the phrases of the type and the image style, unless the client wants it sent as it
    is."""
    options = request.options
    parts = [request.prompt] if options.raw_prompt else [request.prompt, *_additions(request, choice)]
    sentences = [] if options.raw_prompt else _sentences(images, choice)
    return ImageRequest(
        request_id=request.pk,
        type=request.type,
        subject=request.prompt,
        prompt=" ".join([*sentences, ", ".join(parts)]),
        aspect_ratio=choice.aspect_ratio,
        width=choice.width,
        height=choice.height,
        resolution=choice.resolution,
        seed=options.seed,
        variation=request.variation,
        negative_prompt=options.negative_prompt,
        # A model without the capability has a single quality.
        quality=options.quality if "quality" in choice.capabilities else "",
        output_format=options.output_format or ImageFormat.PNG.value,
        image_style=options.image_style,
        title=options.title,
        model=choice.model,
        previews=options.previews,
    )


def _sentences(images: Sequence[StoredImage], choice: ModelChoice) -> list[str]:
    """Return the sentences that say what each image is for, by its number, and a last word before the prompt."""
    limits, phrases = choice.reference_limits, _phrases()
    if limits.get("required"):  # such a model has a field for each role, and its prompt knows no images
        return []
    named = [image for image in images if image.role != ImageRole.MASK or not limits.get("mask")]
    sentences = []
    for number, image in enumerate(named, start=1):
        phrase = phrases.get((StyleScope.REFERENCE, image.role), "")
        # Replaced one by one, since a phrase may contain other braces.
        sentences.append(phrase.replace("{n}", str(number)).replace("{name}", image.name or f"the {image.role}"))
    if not sentences:
        return []
    return [*filter(None, sentences), "Change:" if named[0].role == ImageRole.SOURCE else "Draw:"]


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
