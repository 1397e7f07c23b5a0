"""The options of a request: the keys of ``metadata`` that the product knows, parsed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

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

    @classmethod
    def parse(cls, metadata: Mapping[str, Any], *, prompt_length: int = 0) -> GenerationOptions:
        """Read valid metadata."""
        return cls(
            title=metadata.get("title") or "",
            image_style=metadata.get("imageStyle") or "",
            aspect_ratio=metadata.get("aspectRatio") or "square",
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
    return given | ({"rawPrompt": True} if metadata.get("rawPrompt") else {})
