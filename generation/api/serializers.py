"""What clients may send."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple

from django.conf import settings
from rest_framework import serializers

from generation.api.errors import InvalidValue, printable
from generation.api.fields import (
    BodySerializer,
    BooleanField,
    ChoiceField,
    IntegerField,
    MomentField,
    NameField,
    StringField,
    TextField,
)
from generation.api.parsers import MAX_METADATA_DEPTH, check_value
from generation.models import model_rows
from generation.models.options import GenerationOptions
from generation.providers import catalogue
from generation.requests.lifecycle import DEFAULT_MAX_ATTEMPTS, NewRequest
from generation.requests.representations import RESERVED_METADATA
from generation.states import GenerationType, ImageFormat, Priority, Status

MAX_BATCH: Final = 100
MAX_METADATA_BYTES: Final = 16 * 1024
#: The largest seed that every provider with seeds takes.
MAX_SEED: Final = 4_294_967_294
#: Longer or flatter than this is no page, and no provider makes it.
_MOST_EXTREME_RATIO: Final = 4


class AspectRatioField(StringField):
    """``square``, ``portrait``, ``landscape``, or ``W:H`` up to 1:4 and 4:1."""

    def to_internal_value(self, data: Any) -> str:
        value = super().to_internal_value(data)
        if value in model_rows.NAMED_RATIOS:
            return value
        match = model_rows.RATIO.fullmatch(value)
        if match is None:
            message = "Use square, portrait, landscape or W:H such as 3:4."
            raise serializers.ValidationError(message, code="invalid_choice")
        width, height = int(match[1]), int(match[2])
        if max(width, height) > _MOST_EXTREME_RATIO * min(width, height):
            raise serializers.ValidationError("The ratio must lie between 1:4 and 4:1.", code="out_of_range")
        return value


class ProviderField(ChoiceField):
    """One of the configured providers."""

    def __init__(self, **more: Any) -> None:
        message = f"Not configured here; there is {', '.join(settings.PROVIDERS)}."
        super().__init__(settings.PROVIDERS, error_messages={"invalid_choice": message}, **more)


class ModelField(StringField):
    """A vendor's name of a model."""


class MetadataSerializer(BodySerializer):
    """The keys that mean something to us. All others are the client's, kept and echoed: at most 16 KiB of JSON in all,
    and 8 levels deep. `requestedAt`, `startedAt`, `completedAt`, `attempts` and `generationTime` are the server's, and
    are refused."""

    title = StringField(max_length=200, required=False, allow_blank=True, help_text="Stands on a cover.")
    imageStyle = TextField(max_length=100, required=False, help_text="Such as `cartoon` or `watercolor`.")
    aspectRatio = AspectRatioField(
        required=False, help_text="`square`, `portrait`, `landscape`, or `W:H` up to 1:4 and 4:1."
    )
    maxAttempts = IntegerField(
        min_value=1, max_value=10, required=False, help_text="How often a failure that may pass is tried; 3 by default."
    )
    provider = ProviderField(required=False, help_text="The first one that is configured by default.")
    model = ModelField(max_length=255, required=False, help_text="The provider's own name of a model.")
    quality = ChoiceField(model_rows.QUALITIES, required=False)
    seed = IntegerField(
        min_value=0, max_value=MAX_SEED, required=False, help_text="The same seed and prompt give the same picture."
    )
    negativePrompt = StringField(max_length=1000, required=False, allow_blank=True, help_text="What is not to be seen.")
    outputFormat = ChoiceField(ImageFormat.values, required=False)
    useCache = BooleanField(required=False, help_text="Whether an earlier picture for the same wish will do.")
    onRefusal = ChoiceField(
        ["fail", "fallback"],
        required=False,
        help_text="Whether another provider is asked when one refuses the prompt; `fail` by default.",
    )

    def to_internal_value(self, data: Any) -> Any:
        """Return :class:`ValidMetadata`."""
        if not isinstance(data, dict):
            raise serializers.ValidationError("Expected an object.", code="invalid")
        try:
            check_value(data, max_depth=MAX_METADATA_DEPTH)
        except InvalidValue as error:
            fault = error.faults[0]
            raise serializers.ValidationError({fault["path"]: [fault["msg"]]}, code=fault["code"]) from None
        if len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_METADATA_BYTES:
            raise serializers.ValidationError("Larger than 16 KiB.", code="max_length")
        if reserved := [name for name in RESERVED_METADATA if name in data]:
            message = "The server writes this key; use another name."
            faults = {name: [serializers.ErrorDetail(message, code="reserved")] for name in reserved}
            raise serializers.ValidationError(faults)
        known = super().to_internal_value(data)
        return ValidMetadata.of({**self.given(data), **known})


class ValidMetadata(NamedTuple):
    """Metadata that at least one configured model can honour, with what was parsed and looked up on the way."""

    metadata: dict[str, Any]
    options: GenerationOptions
    #: In US dollars, None if no price is known.
    estimated_cost: Decimal | None

    @classmethod
    def of(cls, metadata: dict[str, Any]) -> ValidMetadata:
        """Parse the metadata and choose a model. Raises ``ValidationError`` if no configured model can do it."""
        options = GenerationOptions.parse(metadata)
        try:
            return cls(metadata, options, catalogue.estimate(options))
        except catalogue.UnsupportedRequest as reason:
            raise serializers.ValidationError({reason.option: [reason.message]}, code="unsupported") from None


class SubmitSerializer(BodySerializer):
    """The body of a submit, and one of the requests of a batch."""

    type = ChoiceField(GenerationType.choices)
    prompt = TextField(
        min_length=10,
        max_length=1000,
        help_text="What to show. White space around it is cut off; neither that nor invisible characters count.",
    )
    priority = ChoiceField(Priority.choices, required=False, help_text="`normal`, or that of the batch, by default.")
    projectId = NameField(
        max_length=255,
        required=False,
        allow_blank=True,
        source="project_id",
        help_text="The client's own name of the book.",
    )
    pageId = NameField(
        max_length=255,
        required=False,
        allow_blank=True,
        source="page_id",
        help_text="The client's own name of the page.",
    )
    metadata = MetadataSerializer(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "metadata" in attrs:
            return attrs
        try:
            return attrs | {"metadata": ValidMetadata.of({})}
        except serializers.ValidationError as error:
            raise serializers.ValidationError({"metadata": error.detail}) from None


def new_request(data: dict[str, Any], *, priority: str = Priority.NORMAL) -> NewRequest:
    """What a :class:`SubmitSerializer` found valid. ``priority`` is for what names none of its own."""
    valid: ValidMetadata = data["metadata"]
    return NewRequest(
        type=data["type"],
        prompt=data["prompt"],
        priority=data.get("priority", priority),
        project_id=data.get("project_id") or "",
        page_id=data.get("page_id") or "",
        metadata=valid.metadata,
        options=valid.options,
        max_attempts=valid.metadata.get("maxAttempts", DEFAULT_MAX_ATTEMPTS),
        estimated_cost=valid.estimated_cost,
    )


class BatchOptionsSerializer(BodySerializer):
    """What holds for all requests of a batch."""

    priority = ChoiceField(Priority.choices, default=Priority.NORMAL)
    maxConcurrent = IntegerField(
        min_value=1,
        max_value=50,
        default=None,
        help_text="How many of the batch are in progress at once, at the most; no limit by default.",
    )


class BatchSerializer(BodySerializer):
    """The body of a batch."""

    requests = SubmitSerializer(many=True, allow_empty=False, max_length=MAX_BATCH)  # type: ignore[call-arg]
    batchOptions = BatchOptionsSerializer(required=False)


def batch_arguments(data: dict[str, Any]) -> dict[str, Any]:
    """Of what a :class:`BatchSerializer` found valid, what :func:`generation.requests.services.submit_batch` takes."""
    options = data.get("batchOptions", {})
    priority = options.get("priority", Priority.NORMAL)
    return {
        "drafts": [new_request(item, priority=priority) for item in data["requests"]],
        "priority": priority,
        "max_concurrent": options.get("maxConcurrent"),
    }


class CursorField(StringField):
    """Where a page begins, as the addresses of pages have it."""


class ListSerializer(serializers.Serializer[dict[str, Any]]):
    """The filters of the list. What is not known here is refused: a filter with a typo would show everything."""

    status = ChoiceField(Status.choices, required=False)
    type = ChoiceField(GenerationType.choices, required=False)
    priority = ChoiceField(Priority.choices, required=False)
    projectId = NameField(max_length=255, required=False, source="project_id")
    pageId = NameField(max_length=255, required=False, source="page_id")
    batchId = NameField(max_length=64, required=False, source="batch_id")
    createdAfter = MomentField(required=False, source="created_at__gt", help_text="This moment itself is left out.")
    createdBefore = MomentField(required=False, source="created_at__lt", help_text="This moment itself is left out.")
    limit = serializers.IntegerField(min_value=1, max_value=100, default=20, help_text="How many on a page.")
    cursor = CursorField(
        max_length=500, required=False, help_text="Where the page begins: take it from `next` or `previous`."
    )

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if unknown := sorted(set(data) - set(self.fields)):
            raise serializers.ValidationError({printable(unknown[0]): ["There is no such filter."]}, code="unknown")
        return dict(super().to_internal_value(data))


def filters(data: dict[str, Any]) -> dict[str, Any]:
    """Of what a :class:`ListSerializer` found valid, the conditions on requests."""
    return {name: value for name, value in data.items() if name not in {"limit", "cursor"}}


def validate(kind: type[serializers.Serializer[Any]], data: Any) -> dict[str, Any]:
    """What the serializer of this kind makes of the data. Raises ``ValidationError``."""
    found: dict[str, Any] = _made(kind, tuple(settings.PROVIDERS)).run_validation(data)
    return found


@lru_cache(16)
def _made(kind: type[serializers.Serializer[Any]], providers: tuple[str, ...]) -> serializers.Serializer[Any]:
    # DRF copies the fields for each instance, which takes as long as a check. Nothing of a check stays in them.
    return kind()
