"""What clients may send."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from django.conf import settings
from rest_framework import serializers

from generation.api.errors import InvalidValue, printable
from generation.api.fields import BooleanField, ChoiceField, IntegerField, StringField
from generation.api.parsers import check_value
from generation.lifecycle import DEFAULT_MAX_ATTEMPTS, Draft
from generation.states import GenerationType, Priority, Status

MAX_BATCH: Final = 100
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
    """The body of a submit, and one of the requests of a batch."""

    type = ChoiceField(GenerationType.choices)
    prompt = StringField(min_length=10, max_length=1000)
    priority = ChoiceField(Priority.choices, required=False)
    projectId = StringField(max_length=255, required=False, allow_blank=True, allow_null=True, source="project_id")
    pageId = StringField(max_length=255, required=False, allow_blank=True, allow_null=True, source="page_id")
    metadata = MetadataSerializer(required=False)


def draft(data: dict[str, Any], *, priority: str = Priority.NORMAL) -> Draft:
    """What a :class:`SubmitSerializer` found valid. ``priority`` is for what names none of its own."""
    metadata = data.get("metadata", {})
    return Draft(
        type=data["type"],
        prompt=data["prompt"],
        priority=data.get("priority", priority),
        project_id=data.get("project_id") or "",
        page_id=data.get("page_id") or "",
        metadata=metadata,
        max_attempts=metadata.get("maxAttempts", DEFAULT_MAX_ATTEMPTS),
    )


class BatchOptionsSerializer(serializers.Serializer[dict[str, Any]]):
    """What holds for all requests of a batch."""

    priority = ChoiceField(Priority.choices, default=Priority.NORMAL)
    maxConcurrent = IntegerField(min_value=1, max_value=50, default=None, allow_null=True)


class BatchSerializer(serializers.Serializer[dict[str, Any]]):
    """The body of a batch."""

    requests = SubmitSerializer(many=True, allow_empty=False, max_length=MAX_BATCH)  # type: ignore[call-arg]
    batchOptions = BatchOptionsSerializer(required=False)

    def to_arguments(self) -> dict[str, Any]:
        """What :func:`generation.services.submit_batch` takes."""
        options = self.validated_data.get("batchOptions", {})
        priority = options.get("priority", Priority.NORMAL)
        return {
            "drafts": [draft(item, priority=priority) for item in self.validated_data["requests"]],
            "priority": priority,
            "max_concurrent": options.get("maxConcurrent"),
        }


class ListSerializer(serializers.Serializer[dict[str, Any]]):
    """The filters of the list. What is not known here is refused: a filter with a typo would show everything."""

    status = ChoiceField(Status.choices, required=False)
    type = ChoiceField(GenerationType.choices, required=False)
    priority = ChoiceField(Priority.choices, required=False)
    projectId = StringField(max_length=255, required=False, source="project_id")
    pageId = StringField(max_length=255, required=False, source="page_id")
    batchId = StringField(max_length=64, required=False, source="batch_id")
    createdAfter = serializers.DateTimeField(required=False, source="created_at__gt")
    createdBefore = serializers.DateTimeField(required=False, source="created_at__lt")
    limit = serializers.IntegerField(min_value=1, max_value=100, required=False)
    cursor = StringField(max_length=500, required=False)

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if unknown := sorted(set(data) - set(self.fields)):
            raise serializers.ValidationError({printable(unknown[0]): ["There is no such filter."]}, code="unknown")
        return dict(super().to_internal_value(data))

    def to_filters(self) -> dict[str, Any]:
        """The conditions on requests."""
        return {name: value for name, value in self.validated_data.items() if name not in {"limit", "cursor"}}
