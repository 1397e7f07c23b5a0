"""The body of a call for images, and the requests that it stands for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
from generation.api.serializers import MetadataSerializer, ValidMetadata, new_request, validate
from generation.models.options import GenerationOptions
from generation.providers import catalogue
from generation.requests.new_request import NewRequest, variation
from generation.states import GenerationType, ImageFormat, Priority

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
_DROPPABLE: Final = ("quality", "outputFormat")
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


class NotYetField(serializers.Field[Any, Any, Any, Any]):
    """A field that has no effect yet, and whose absence would change the image."""

    def to_internal_value(self, data: Any) -> Any:
        raise serializers.ValidationError("Reference images are not supported yet.", code="unsupported")


class VgaSerializer(BodySerializer):
    """Options of this service that OpenAI's API does not have."""

    type = ChoiceField(GenerationType.choices, required=False)
    priority = ChoiceField(Priority.choices, required=False)
    projectId = NameField(max_length=255, required=False, allow_blank=True, source="project_id")
    pageId = NameField(max_length=255, required=False, allow_blank=True, source="page_id")
    metadata = MetadataSerializer(required=False, choose_model=False)
    references = NotYetField(required=False)
    onReferenceFailure = NotYetField(required=False)


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
        help_text="`auto`, or pixels such as `1536x1024`. The image has the nearest aspect ratio that can be made.",
    )
    quality = ChoiceField(QUALITIES, required=False)
    output_format = ChoiceField(ImageFormat.values, required=False)
    response_format = ChoiceField(["b64_json", "url"], default="b64_json", help_text="`url` is a signed address.")
    stream = BooleanField(default=False, help_text="Answer with events; only for one image.")
    partial_images = IntegerField(
        min_value=0, max_value=3, required=False, help_text="Accepted; no partial images are sent."
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


def read_call(body: Any, *, cancel_after: timedelta | None) -> ImagesCall:
    """Return the call in a body; ``cancel_after`` is the deadline of its requests. Raises ``ValidationError`` and
    :class:`generation.api.openai.errors.Refused`."""
    valid = validate(ImagesSerializer, body)
    vga = valid.get("vga", {})
    given, droppable = _options(valid)
    metadata, dropped = _fitting({**_given_metadata(vga), **given}, droppable, valid)
    data = {"type": GenerationType.ILLUSTRATION, **vga, "prompt": valid["prompt"], "metadata": metadata}
    draft = new_request(data, cancel_after=cancel_after)
    return ImagesCall(
        drafts=[variation(draft, index) for index in range(valid["n"])],
        quality=_AUTO if "quality" in dropped else valid.get("quality", _AUTO),
        response_format=valid["response_format"],
        stream=valid["stream"],
        ignored=_names([*_without_effect(body), *dropped]),
    )


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
        "endUser": valid.get("safety_identifier") or valid.get("user") or "",
    }
    given = {key: value for key, value in options.items() if value}
    return given, [key for key in _DROPPABLE if key in given]


def _fitting(
    metadata: dict[str, Any], droppable: list[str], valid: Mapping[str, Any]
) -> tuple[ValidMetadata, list[str]]:
    """Return the metadata that a configured model supports, and the fields of the body that were dropped for that.

    The aspect ratio becomes the nearest that can be made. Raises :class:`generation.api.openai.errors.Refused`.
    """
    ratios = _ratios(valid.get("size", _AUTO))
    if first := next(ratios, ""):
        metadata = metadata | {"aspectRatio": first}
    dropped: list[str] = []
    while True:
        options = GenerationOptions.parse(metadata, prompt_length=len(valid["prompt"]))
        try:
            return ValidMetadata(metadata, options, catalogue.estimate(options)), dropped
        except catalogue.UnsupportedRequest as reason:
            if reason.option == "aspectRatio" and (ratio := next(ratios, "")):
                metadata = metadata | {"aspectRatio": ratio}
                continue
            # Without one of these another provider may be able to do what the first one cannot.
            lacking = [key for key in droppable if key == reason.option] or droppable
            if not lacking or reason.option == "model":
                raise unsupported(reason, valid.get("vga", {}).get("metadata", {})) from None
            droppable = [key for key in droppable if key not in lacking]
            metadata = {key: value for key, value in metadata.items() if key not in lacking}
            dropped += [PARAMS[key] for key in lacking]


def _ratios(size: str) -> Iterator[str]:
    match = _SIZE.fullmatch(size)
    return iter(catalogue.nearest_ratios(int(match[1]), int(match[2])) if match else ())


def _without_effect(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields that are given and have no effect."""
    known = ImagesSerializer._declared_fields
    yield from (name for name in body if name not in known and body[name] is not None)
    vga = body.get("vga") or {}
    yield from (f"vga.{name}" for name in vga if name not in VgaSerializer._declared_fields)


def _names(names: list[str]) -> list[str]:
    return [name for name in names if _PLAIN_NAME.fullmatch(name)][:_MAX_NAMES]
