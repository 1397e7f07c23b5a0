"""What clients may send."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from django.conf import settings
from rest_framework import serializers

from generation.api.errors import InvalidValue
from generation.api.fields import BooleanField, ChoiceField, IntegerField, StringField
from generation.api.parsers import check_value
from generation.states import GenerationType, Priority

MAX_METADATA_BYTES: Final = 16 * 1024
MAX_METADATA_DEPTH: Final = 8
#: The largest seed that every provider with seeds takes.
MAX_SEED: Final = 4_294_967_294
_RATIO: Final = re.compile(r"([1-9][0-9]{0,2}):([1-9][0-9]{0,2})")
#: Longer or flatter than this is no page, and no provider makes it.
_MOST_EXTREME_RATIO: Final = 4


def check_aspect_ratio(value: str) -> None:
    """Accept the three names and ``W:H`` up to 1:4 and 4:1."""
    if value in {"square", "portrait", "landscape"}:
        return
    match = _RATIO.fullmatch(value)
    if match is None:
        raise serializers.ValidationError("Use square, portrait, landscape or W:H such as 3:4.", code="invalid_choice")
    width, height = int(match[1]), int(match[2])
    if max(width, height) > _MOST_EXTREME_RATIO * min(width, height):
        raise serializers.ValidationError("The ratio must lie between 1:4 and 4:1.", code="out_of_range")


class MetadataSerializer(serializers.Serializer[dict[str, Any]]):
    """The keys of ``metadata`` that mean something to us. All others are the client's: kept and echoed."""

    title = StringField(max_length=200, required=False, allow_blank=True)
    imageStyle = StringField(max_length=100, required=False)
    aspectRatio = StringField(max_length=9, required=False, validators=[check_aspect_ratio])
    maxAttempts = IntegerField(min_value=1, max_value=10, required=False)
    provider = StringField(max_length=32, required=False)
    model = StringField(max_length=255, required=False)
    quality = ChoiceField(["low", "medium", "high"], required=False)
    seed = IntegerField(min_value=0, max_value=MAX_SEED, required=False)
    negativePrompt = StringField(max_length=1000, required=False, allow_blank=True)
    outputFormat = ChoiceField(["png", "jpeg", "webp"], required=False)
    useCache = BooleanField(required=False)
    onRefusal = ChoiceField(["fail", "fallback"], required=False)

    def validate_provider(self, value: str) -> str:
        if value not in settings.PROVIDERS:
            raise serializers.ValidationError(
                f"Not configured here; there is {', '.join(settings.PROVIDERS)}.", code="invalid_choice"
            )
        return value

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise serializers.ValidationError("Expected an object.", code="invalid")
        try:
            check_value(data, max_depth=MAX_METADATA_DEPTH)
        except InvalidValue as error:
            fault = error.faults[0]
            raise serializers.ValidationError({fault["path"]: [fault["msg"]]}, code=fault["code"]) from None
        if len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_METADATA_BYTES:
            raise serializers.ValidationError("Larger than 16 KiB.", code="max_length")
        return {**data, **super().to_internal_value(data)}


class SubmitSerializer(serializers.Serializer[dict[str, Any]]):
    """The body of a submit."""

    type = ChoiceField(GenerationType.choices)
    prompt = StringField(min_length=10, max_length=1000)
    priority = ChoiceField(Priority.choices, default=Priority.NORMAL)
    projectId = StringField(max_length=255, required=False, allow_blank=True, allow_null=True, source="project_id")
    pageId = StringField(max_length=255, required=False, allow_blank=True, allow_null=True, source="page_id")
    metadata = MetadataSerializer(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return attrs | {name: attrs.get(name) or "" for name in ("project_id", "page_id")}
