"""The options of a request: the keys of ``metadata`` that the product knows, parsed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from generation.models import model_rows
from generation.states import ImageRole

#: The largest seed that all providers with seeds accept.
MAX_SEED: Final = 4_294_967_294
#: Options that not every model honors, by their keys in ``metadata`` and in a model's capabilities. The aspect ratio
#: is matched with a model's sizes, and an image style is a phrase of the prompt.
RESTRICTING: Final = {
    "seed": "seed",
    "negativePrompt": "negative_prompt",
    "quality": "quality",
    "outputFormat": "output_format",
}
#: The most previews of an image.
MAX_PREVIEWS: Final = 3
#: Further options that change the image.
_CHANGING: Final = ("title", "imageStyle")


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationOptions:
    """The options of one request. An empty string or ``None`` is an option that the client did not give."""

    title: str = ""
    image_style: str = ""
    #: ``square``, ``portrait``, ``landscape`` or ``W:H``.
    aspect_ratio: str = "square"
    resolution: str = model_rows.USUAL_RESOLUTION
    provider: str = ""
    model: str = ""
    quality: str = ""
    seed: int | None = None
    negative_prompt: str = ""
    output_format: str = ""
    use_cache: bool = False
    #: Whether another provider may be asked after one has refused the prompt.
    refusal_may_fall_back: bool = False
    #: Whether the prompt is sent without the phrases of the type and the image style.
    raw_prompt: bool = False
    #: How many previews the client wants while the image is generated.
    previews: int = 0
    #: Characters of the client's prompt. It is no option, but not every model takes a long one.
    prompt_length: int = 0
    #: The roles of the images that are sent with the prompt, in their order, without the mask.
    references: tuple[str, ...] = ()
    #: How many of these images are uploads.
    uploads: int = 0
    #: ``hint`` or ``strict`` if there is a mask.
    mask_mode: str = ""

    @classmethod
    def parse(cls, metadata: Mapping[str, Any], *, prompt_length: int = 0) -> GenerationOptions:
        """Read valid metadata."""
        return cls(
            title=metadata.get("title") or "",
            image_style=metadata.get("imageStyle") or "",
            aspect_ratio=metadata.get("aspectRatio") or "square",
            resolution=_resolution(metadata),
            provider=metadata.get("provider") or "",
            model=metadata.get("model") or "",
            quality=metadata.get("quality") or "",
            seed=metadata.get("seed"),
            negative_prompt=metadata.get("negativePrompt") or "",
            output_format=metadata.get("outputFormat") or "",
            use_cache=bool(metadata.get("useCache")),
            refusal_may_fall_back=metadata.get("onRefusal") == "fallback",
            raw_prompt=bool(metadata.get("rawPrompt")),
            previews=previews_of(metadata),
            prompt_length=prompt_length,
        )

    def restricting(self) -> dict[str, Any]:
        """Return the given options that a model must honor, by their keys in ``metadata``."""
        given = {key: getattr(self, name) for key, name in RESTRICTING.items()}
        restricting = {key: value for key, value in given.items() if value not in (None, "")}
        return restricting | ({"previews": self.previews} if self.previews else {})


def previews_of(metadata: Mapping[str, Any]) -> int:
    """Return the number of previews. In requests from before this option the key belongs to the client, and another
    value than such a number means none."""
    value = metadata.get("previews")
    return value if type(value) is int and 0 <= value <= MAX_PREVIEWS else 0


def changing(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that change the image beside prompt, model and shape, as the client gave them.

    The keys of the result cache are made of this, so a blank option and a missing one stay different.
    """
    given = {key: metadata.get(key) for key in (*_CHANGING, *RESTRICTING)}
    if metadata.get("rawPrompt"):
        given["rawPrompt"] = True
    if (resolution := _resolution(metadata)) != model_rows.USUAL_RESOLUTION:
        given["resolution"] = resolution
    return given


def _resolution(metadata: Mapping[str, Any]) -> str:
    """Return the resolution. In old requests the key may have any value, since it was the client's own."""
    value = metadata.get("resolution")
    return value if isinstance(value, str) and value in model_rows.RESOLUTIONS else model_rows.USUAL_RESOLUTION


@dataclass(frozen=True, kw_only=True, slots=True)
class InputImage:
    """One image that is sent with the prompt. ``name`` is how the prompt calls it."""

    role: str
    name: str = ""
    is_upload: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """The images of a request in the order in which they are sent, and how to treat them; its column ``inputs``."""

    images: tuple[InputImage, ...]
    #: ``hint`` or ``strict`` if one of the images is a mask.
    mask_mode: str = ""
    #: Whether the request is cancelled if one of its sources fails or is cancelled. Else it goes on waiting.
    cancel_on_failure: bool = False

    @classmethod
    def parse(cls, column: Mapping[str, Any]) -> Inputs:
        """Read the column."""
        images = (InputImage(role=one["role"], name=one["name"], is_upload=one["upload"]) for one in column["images"])
        return cls(
            images=tuple(images), mask_mode=column["maskMode"], cancel_on_failure=column["onFailure"] == "cancel"
        )

    def as_column(self) -> dict[str, Any]:
        """Return the value of the column."""
        images = [{"role": image.role, "name": image.name, "upload": image.is_upload} for image in self.images]
        on_failure = "cancel" if self.cancel_on_failure else "wait"
        return {"images": images, "maskMode": self.mask_mode, "onFailure": on_failure}

    def applied_to(self, options: GenerationOptions) -> GenerationOptions:
        """Return the options with what the model must be able to do with these images."""
        sent = [image for image in self.images if image.role != ImageRole.MASK]
        return replace(
            options,
            references=tuple(image.role for image in sent),
            uploads=sum(image.is_upload for image in sent),
            mask_mode=self.mask_mode,
        )
