"""The body of a call for images, and the requests that it stands for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from rest_framework import serializers

from generation.api.fields import (
    BodySerializer,
    BooleanField,
    ChoiceField,
    IntegerField,
    NameField,
    StringField,
    TextField,
)
from generation.api.openai.errors import PARAMS, unsupported
from generation.api.serializers import (
    MAX_REFERENCES,
    MetadataSerializer,
    ReferencesField,
    ValidMetadata,
    images_of,
    inputs_of,
    new_request,
    validate,
)
from generation.models import model_rows
from generation.models.options import MAX_PREVIEWS, GenerationOptions, Inputs
from generation.providers import catalogue, sizes
from generation.requests.new_request import NewImage, NewRequest, variation
from generation.states import GenerationType, ImageFormat, ImageRole, Priority

MAX_PROMPT: Final = 32_000
MAX_IMAGES: Final = 8
_SIZE: Final = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", re.ASCII)
_AUTO: Final = "auto"
#: The quality of a request by the words of clients; none is the model's own.
_QUALITIES: Final = {
    _AUTO: "",
    "standard": "",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "hd": "high",
    "xhigh": "high",
    "max": "high",
}
QUALITIES: Final = list(_QUALITIES)
#: Fields whose option is dropped if the model lacks it.
_DROPPABLE: Final = ("quality", "outputFormat", "previews")
#: Options that a size in pixels stands for.
_SHAPE: Final = frozenset({"aspectRatio", "resolution"})
#: Names in a header: unknown ones are chosen by the client.
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}", re.ASCII)
_MAX_NAMES: Final = 20


class SizeField(StringField):
    """``auto``, or width and height in pixels such as ``1536x1024``."""

    def to_internal_value(self, data: Any) -> str:
        value = super().to_internal_value(data)
        if value != _AUTO and _SIZE.fullmatch(value) is None:
            raise serializers.ValidationError("Use auto, or pixels such as 1536x1024.", code="invalid_choice")
        return value


class VgaSerializer(BodySerializer):
    """Options of this service that OpenAI's API does not have."""

    type = ChoiceField(GenerationType.choices, required=False)
    priority = ChoiceField(Priority.choices, required=False)
    projectId = NameField(max_length=255, required=False, allow_blank=True, source="project_id")
    pageId = NameField(max_length=255, required=False, allow_blank=True, source="page_id")
    metadata = MetadataSerializer(required=False, choose_model=False)
    references = ReferencesField(required=False, help_text="Images that are sent with the prompt, after those given.")
    onReferenceFailure = ChoiceField(["wait", "cancel"], required=False, help_text="As in a submit.")


class ImagesSerializer(BodySerializer):
    """The body of a call for images."""

    prompt = TextField(
        min_length=1,
        max_length=MAX_PROMPT,
        trim_whitespace=False,
        help_text="Content of the image. It is sent as it is, unless `vga.type` is given. Many models take less.",
    )
    model = StringField(
        max_length=255,
        required=False,
        allow_blank=True,
        help_text="A model of `/v1/models`, or `auto`, the default: the first that can fulfill the call.",
    )
    n = IntegerField(min_value=1, max_value=MAX_IMAGES, default=1, help_text="The number of images.")
    size = SizeField(
        max_length=11,
        required=False,
        help_text="`auto`, or pixels such as `1536x1024`. The image has the nearest aspect ratio and resolution"
        " that can be made.",
    )
    quality = ChoiceField(QUALITIES, required=False)
    output_format = ChoiceField(ImageFormat.values, required=False)
    response_format = ChoiceField(["b64_json", "url"], default="b64_json", help_text="`url` is a signed address.")
    stream = BooleanField(default=False, help_text="Answer with events; only for one image.")
    partial_images = IntegerField(
        min_value=0,
        max_value=MAX_PREVIEWS,
        required=False,
        help_text="Maximum number of partial images in a stream, of models that send some.",
    )
    background = ChoiceField(["auto", "opaque"], required=False)
    user = StringField(max_length=255, required=False, allow_blank=True, help_text="An id of the end user.")
    safety_identifier = StringField(
        max_length=255, required=False, allow_blank=True, help_text="The same; takes precedence over `user`."
    )
    vga = VgaSerializer(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["stream"] and attrs["n"] > 1:
            raise serializers.ValidationError({"n": ["A stream has one image."]}, code="unsupported")
        return attrs


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagesCall:
    """A valid call: its requests, how it is answered, and the fields that have no effect."""

    drafts: list[NewRequest]
    quality: str
    response_format: str
    stream: bool
    ignored: list[str]


def read_call(body: Any, *, cancel_after: timedelta | None, given_images: Sequence[NewImage] = ()) -> ImagesCall:
    """Return the call in a body; ``cancel_after`` is the deadline of its requests, and ``given_images`` are those of an
    edit. Raises ``ValidationError`` and :class:`generation.api.openai.errors.Refused`."""
    valid = validate(ImagesSerializer, body)
    vga = valid.get("vga", {})
    images = _all_images(given_images, vga)
    inputs = inputs_of(images, mask_mode="hint", cancel_on_failure=vga.get("onReferenceFailure") == "cancel")
    given, droppable = _options(valid)
    metadata, dropped = _fitting({**_given_metadata(vga), **given}, droppable, valid, inputs)
    data = {"type": GenerationType.ILLUSTRATION, **vga, "prompt": valid["prompt"], "metadata": metadata}
    draft = new_request(data | {"images": images, "inputs": inputs}, cancel_after=cancel_after)
    return ImagesCall(
        drafts=[variation(draft, index) for index in range(valid["n"])],
        quality=_AUTO if "quality" in dropped else valid.get("quality", _AUTO),
        response_format=valid["response_format"],
        stream=valid["stream"],
        ignored=_names([*_without_effect(body), *dropped]),
    )


def _all_images(given: Sequence[NewImage], vga: Mapping[str, Any]) -> tuple[NewImage, ...]:
    """Return the images of the call: those given with it, the references below ``vga``, and a mask at the end."""
    masks = [image for image in given if image.role == ImageRole.MASK]
    references = (replace(image, path=f"vga.{image.path}") for image in images_of(vga))
    images = (*(image for image in given if image not in masks), *references, *masks)
    if len(images) - len(masks) > MAX_REFERENCES:
        error = serializers.ErrorDetail(f"At most {MAX_REFERENCES} images.", code="too_many_references")
        raise serializers.ValidationError({"vga": {"references": [error]}})
    return images


def _given_metadata(vga: Mapping[str, Any]) -> dict[str, Any]:
    given = vga.get("metadata", {})
    return given if "type" in vga else {"rawPrompt": True, **given}


def _options(valid: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the metadata from the fields of the body, and the keys that may be dropped from it."""
    model = valid.get("model", "")
    options = {
        "model": "" if model == _AUTO else model,
        "quality": _QUALITIES[valid.get("quality", _AUTO)],
        "outputFormat": valid.get("output_format", ""),
        "previews": valid.get("partial_images", 0) if valid["stream"] else 0,
        "endUser": valid.get("safety_identifier") or valid.get("user") or "",
    }
    given = {key: value for key, value in options.items() if value}
    return given, [key for key in _DROPPABLE if key in given]


def _fitting(
    metadata: dict[str, Any], droppable: list[str], valid: Mapping[str, Any], inputs: Inputs | None
) -> tuple[ValidMetadata, list[str]]:
    """Return the metadata that a configured model supports, and the fields of the body that were dropped for that.

    Aspect ratio and resolution become the nearest that can be made; a resolution in ``vga.metadata`` stays. Raises
    :class:`generation.api.openai.errors.Refused`.
    """
    shapes = _shapes(valid.get("size", _AUTO), metadata.get("resolution"))
    shape = next(shapes, {})
    dropped: list[str] = []
    while True:
        shaped = metadata | shape
        options = GenerationOptions.parse(shaped, prompt_length=len(valid["prompt"]))
        options = inputs.applied_to(options) if inputs else options
        try:
            return ValidMetadata(shaped, options, catalogue.estimate(options)), dropped
        except catalogue.UnsupportedRequest as reason:
            if reason.option in _SHAPE and (other := next(shapes, None)):
                shape = other
                continue
            # Without one of these another provider may be able to do what the first one cannot.
            lacking = [key for key in droppable if key == reason.option] or droppable
            if not lacking or reason.option == "model":
                raise unsupported(reason, valid.get("vga", {}).get("metadata", {})) from None
            droppable = [key for key in droppable if key not in lacking]
            metadata = {key: value for key, value in metadata.items() if key not in lacking}
            dropped += [PARAMS[key] for key in lacking]


def _shapes(size: str, resolution: str | None) -> Iterator[dict[str, Any]]:
    """Yield the options for a size, the nearest aspect ratio first, each in the nearest resolution and in smaller ones,
    unless a resolution is given."""
    if (match := _SIZE.fullmatch(size)) is None:
        return
    pixels = int(match[1]), int(match[2])
    usual = {"resolution": model_rows.USUAL_RESOLUTION}
    # The usual resolution is not named, so that the cache key of a call does not change.
    resolutions = [{}] if resolution else [{"resolution": name} for name in sizes.nearest_resolutions(*pixels)]
    for ratio in catalogue.nearest_ratios(*pixels):
        yield from ({"aspectRatio": ratio} | ({} if one == usual else one) for one in resolutions)


def _without_effect(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields that are given and have no effect."""
    known = ImagesSerializer._declared_fields
    yield from (name for name in body if name not in known and body[name] is not None)
    vga = body.get("vga") or {}
    yield from (f"vga.{name}" for name in vga if name not in VgaSerializer._declared_fields)


def _names(names: list[str]) -> list[str]:
    return [name for name in names if _PLAIN_NAME.fullmatch(name)][:_MAX_NAMES]
