"""Serializers of request bodies and query strings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple

from django.conf import settings
from rest_framework import serializers
from rest_framework.request import Request

from generation.api.errors import InvalidValue, printable
from generation.api.fields import (
    BodySerializer,
    BooleanField,
    ChoiceField,
    IntegerField,
    LaterField,
    NameField,
    QueryDateTimeField,
    StringField,
    TextField,
)
from generation.api.parsers import MAX_METADATA_DEPTH, check_value
from generation.api.webhook_serializers import (
    WEBHOOK_EVENTS_HELP,
    WEBHOOK_URL_HELP,
    EventsField,
    WebhookURLField,
    webhook_of,
)
from generation.models import model_rows
from generation.models.options import MAX_PREVIEWS, MAX_SEED, GenerationOptions, InputImage, Inputs
from generation.providers import catalogue
from generation.requests.filters import UNDECIDED
from generation.requests.new_request import DEFAULT_MAX_ATTEMPTS, NewImage, NewRequest
from generation.requests.representations import RESERVED_METADATA
from generation.states import REFERENCE_ROLES, Approval, GenerationType, ImageFormat, ImageRole, Priority, Status

MAX_BATCH: Final = 100
MAX_REFERENCES: Final = 16
MAX_METADATA_BYTES: Final = 16 * 1024
MAX_VARIATIONS: Final = 8
#: How far ahead a request may be submitted.
MAX_DAYS_AHEAD: Final = 30


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
        if max(width, height) > catalogue.MAX_RATIO * min(width, height):
            raise serializers.ValidationError("The ratio must be between 1:4 and 4:1.", code="out_of_range")
        return value


class ProviderField(ChoiceField):
    """One of the configured providers."""

    def __init__(self, **more: Any) -> None:
        message = f"Not configured; use one of: {', '.join(settings.PROVIDERS)}."
        super().__init__(settings.PROVIDERS, error_messages={"invalid_choice": message}, **more)


class ModelField(StringField):
    """A model, by the vendor's name."""


class MetadataSerializer(BodySerializer):
    """Options of a request. All other keys belong to the client and are stored and returned unchanged. At most 16 KiB
    of JSON in total, at most 8 levels deep. `requestedAt`, `startedAt`, `completedAt`, `attempts` and `generationTime`
    are written by the server and rejected here."""

    title = StringField(max_length=200, required=False, allow_blank=True, help_text="The title on a cover.")
    imageStyle = TextField(max_length=100, required=False, help_text="For example `cartoon` or `watercolor`.")
    aspectRatio = AspectRatioField(
        required=False, help_text="`square`, `portrait`, `landscape`, or `W:H` up to 1:4 and 4:1."
    )
    resolution = ChoiceField(
        tuple(model_rows.RESOLUTIONS),
        required=False,
        help_text="The size of the image: about 1 megapixel, the default, 4 or 8. `width` and `height` of the result"
        " tell its pixels.",
    )
    maxAttempts = IntegerField(
        min_value=1,
        max_value=10,
        required=False,
        help_text="Maximum number of attempts if failures are temporary; 3 by default.",
    )
    provider = ProviderField(required=False, help_text="By default the first configured provider.")
    model = ModelField(max_length=255, required=False, help_text="A model, by the provider's name for it.")
    quality = ChoiceField(model_rows.QUALITIES, required=False)
    seed = IntegerField(
        min_value=0, max_value=MAX_SEED, required=False, help_text="The same seed and prompt give the same image."
    )
    negativePrompt = StringField(
        max_length=1000, required=False, allow_blank=True, help_text="Content that the image must not show."
    )
    outputFormat = ChoiceField(ImageFormat.values, required=False)
    useCache = BooleanField(
        required=False, help_text="Whether an earlier image of an equal request may be used instead of a new one."
    )
    onRefusal = ChoiceField(
        ["fail", "fallback"],
        required=False,
        help_text="Whether to try another provider if one refuses the prompt; `fail` by default.",
    )
    rawPrompt = BooleanField(
        required=False,
        help_text="Whether the prompt is sent as it is, without the phrases of the type and the image style.",
    )
    previews = IntegerField(
        min_value=0,
        max_value=MAX_PREVIEWS,
        required=False,
        help_text="Maximum number of previews while the image is generated, of models that send some; 0 by default."
        " Each may cost a little.",
    )

    def __init__(self, *arguments: Any, choose_model: bool = True, **more: Any) -> None:
        """``choose_model`` is False if the caller adds options, and calls :class:`ValidMetadata` after that."""
        super().__init__(*arguments, **more)
        self._choose_model = choose_model

    def to_internal_value(self, data: Any) -> Any:
        """Return the validated metadata as :class:`ValidMetadata`, or as it is without the choice of a model."""
        if not isinstance(data, dict):
            raise serializers.ValidationError("Expected an object.", code="invalid")
        try:
            check_value(data, max_depth=MAX_METADATA_DEPTH)
        except InvalidValue as error:
            first = error.field_errors[0]
            raise serializers.ValidationError({first["path"]: [first["msg"]]}, code=first["code"]) from None
        # Each character of repr() is at most four bytes of JSON, and repr() is much faster.
        if 4 * len(repr(data)) > MAX_METADATA_BYTES and _json_bytes(data) > MAX_METADATA_BYTES:
            raise serializers.ValidationError("Larger than 16 KiB.", code="max_length")
        if reserved := [name for name in RESERVED_METADATA if name in data]:
            message = "The server writes this key; use another name."
            errors = {name: [serializers.ErrorDetail(message, code="reserved")] for name in reserved}
            raise serializers.ValidationError(errors)
        known = super().to_internal_value(data)
        valid = {**self.without_nulls(data), **known}
        return ValidMetadata.of(valid) if self._choose_model else valid


class ValidMetadata(NamedTuple):
    """Metadata that at least one configured model supports, with the parsed options and the estimated cost."""

    metadata: dict[str, Any]
    options: GenerationOptions
    #: In US dollars, None if no price is known.
    estimated_cost: Decimal | None

    @classmethod
    def of(cls, metadata: dict[str, Any], inputs: Inputs | None = None) -> ValidMetadata:
        """Parse the metadata and choose a model that takes the images as well. Raises ``ValidationError`` if no
        configured model supports it."""
        options = GenerationOptions.parse(metadata)  # every model takes the longest prompt of a submit
        if inputs:
            options = inputs.applied_to(options)
        try:
            return cls(metadata, options, catalogue.estimate(options))
        except catalogue.UnsupportedRequest as reason:
            raise serializers.ValidationError({reason.option: [reason.message]}, code="unsupported") from None


class ReferenceSerializer(BodySerializer):
    """An image that is sent with the prompt: the result of one of your requests, an upload, or the result of an earlier
    item of the same batch."""

    requestId = NameField(
        max_length=64, required=False, help_text="A request of your own that is or will be completed."
    )
    uploadId = NameField(max_length=64, required=False)
    item = IntegerField(
        min_value=0, max_value=MAX_BATCH - 1, required=False, help_text="Index of an earlier item of the same batch."
    )
    role = ChoiceField([role.value for role in REFERENCE_ROLES], required=False, help_text="`character` by default.")
    name = StringField(max_length=40, required=False, allow_blank=True, help_text="How the prompt calls it.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        given = [name for name in ("requestId", "uploadId", "item") if attrs.get(name) not in (None, "")]
        if len(given) != 1:
            raise serializers.ValidationError("Name one of requestId, uploadId and item.", code="exactly_one")
        return attrs


class ReferencesField(serializers.ListField):
    """A list of references."""

    child = ReferenceSerializer()

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, list) and len(data) > MAX_REFERENCES:
            raise serializers.ValidationError(f"At most {MAX_REFERENCES} references.", code="too_many_references")
        return super().to_internal_value(data)


#: What a request of a batch has not, and what to do instead.
_NOT_IN_A_BATCH: Final = {
    "variations": "Only a submit has variations; in a batch, repeat the request.",
    "webhookUrl": "A batch has one webhookUrl, beside its requests.",
}


class BatchItemSerializer(BodySerializer):
    """A request in a batch."""

    type = ChoiceField(GenerationType.choices)
    prompt = TextField(
        min_length=10,
        max_length=1000,
        help_text="Content of the image. Surrounding white space is removed. Neither it nor invisible characters count"
        " toward the minimum length.",
    )
    priority = ChoiceField(
        Priority.choices, required=False, help_text="By default `normal`, or the priority of the batch."
    )
    projectId = NameField(
        max_length=255,
        required=False,
        allow_blank=True,
        source="project_id",
        help_text="The client's name or id of the book.",
    )
    pageId = NameField(
        max_length=255,
        required=False,
        allow_blank=True,
        source="page_id",
        help_text="The client's name or id of the page.",
    )
    metadata = MetadataSerializer(required=False)
    references = ReferencesField(required=False, help_text="Images that are sent with the prompt, in this order.")
    onReferenceFailure = ChoiceField(
        ["wait", "cancel"],
        required=False,
        help_text="What happens if a reference fails or is cancelled: `wait`, the default, until it is retried, for"
        " some days; or `cancel`.",
    )
    notBefore = LaterField(
        days=MAX_DAYS_AHEAD,
        required=False,
        source="not_before",
        help_text="The request is queued and does not start before this time, at most 30 days ahead.",
    )
    editOf = NameField(max_length=64, required=False, help_text="The request or upload whose image is to be changed.")
    mask = NameField(
        max_length=64,
        required=False,
        help_text="An uploaded PNG of the size of the image, transparent where the image is to change.",
    )
    maskMode = ChoiceField(
        ["hint", "strict"],
        required=False,
        help_text="`hint`, the default: the model sees the mask. `strict`: what is outside the mask is restored.",
    )

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if isinstance(data, dict):
            for name, message in _NOT_IN_A_BATCH.items():
                if name not in self.fields and data.get(name) is not None:
                    raise serializers.ValidationError({name: [message]}, code="unsupported")
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        images = tuple(images_of(attrs))
        if not images and "metadata" in attrs:
            return attrs
        metadata = attrs["metadata"].metadata if "metadata" in attrs else {}
        inputs = inputs_of(
            images,
            mask_mode=attrs.get("maskMode", "hint"),
            cancel_on_failure=attrs.get("onReferenceFailure") == "cancel",
        )
        try:
            return attrs | {"metadata": ValidMetadata.of(metadata, inputs), "images": images, "inputs": inputs}
        except serializers.ValidationError as error:
            is_of_images = isinstance(error.detail, dict) and "references" in error.detail
            raise (error if is_of_images else serializers.ValidationError({"metadata": error.detail})) from None


class SubmitSerializer(BatchItemSerializer):
    """The body of a submit."""

    variations = IntegerField(
        min_value=1,
        max_value=MAX_VARIATIONS,
        required=False,
        help_text="How many images are made of it, 1 by default. More than one are a batch; each is a request with its"
        " own cost, and a given `seed` counts up from one to the next.",
    )
    webhookUrl = WebhookURLField(required=False, help_text=WEBHOOK_URL_HELP)
    webhookEvents = EventsField(required=False, help_text=WEBHOOK_EVENTS_HELP)


class ApprovalSerializer(BodySerializer):
    """The decision about the image of a completed request."""

    approval = ChoiceField(Approval.values, allow_null=True, help_text="`null` takes an earlier decision back.")
    note = StringField(
        max_length=500,
        required=False,
        allow_blank=True,
        help_text="Replaces an earlier note; without it, there is none.",
    )


class PrioritySerializer(BodySerializer):
    """Another priority of a queued request."""

    priority = ChoiceField(Priority.choices)

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if isinstance(data, dict) and (others := sorted({"approval", "note"} & data.keys())):
            message = "Change either the priority or the decision about the image."
            raise serializers.ValidationError({others[0]: [message]}, code="exactly_one")
        return super().to_internal_value(data)


def _json_bytes(data: dict[str, Any]) -> int:
    return len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())


def new_request(
    data: dict[str, Any],
    *,
    priority: str = Priority.NORMAL,
    cancel_after: timedelta | None = None,
    index: int | None = None,
) -> NewRequest:
    """Return the valid data of a :class:`BatchItemSerializer` as a NewRequest. ``priority`` is the default, ``index``
    that of an item of a batch. Raises :class:`InvalidValue`."""
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
        not_before=data.get("not_before"),
        cancel_after=cancel_after,
        images=tuple(_with_paths(data.get("images", ()), index)),
        inputs=data.get("inputs"),
        webhook=webhook_of(data),
    )


def inputs_of(images: Sequence[NewImage], *, mask_mode: str, cancel_on_failure: bool) -> Inputs | None:
    """Return what a request stores of its images, None for none. ``mask_mode`` counts only if one of them is a mask."""
    if not images:
        return None
    return Inputs(
        images=tuple(InputImage(role=one.role, name=one.name, is_upload=bool(one.upload_id)) for one in images),
        mask_mode=mask_mode if any(one.role == ImageRole.MASK for one in images) else "",
        cancel_on_failure=cancel_on_failure,
    )


def images_of(data: Mapping[str, Any]) -> Iterator[NewImage]:
    """Yield the images of a submit in the order in which they are sent: the one to edit, the references, the mask.
    Raises ``ValidationError``."""
    if edited := data.get("editOf"):
        kind = "upload_id" if edited.startswith("vgu_") else "request_id"
        yield NewImage(role=ImageRole.SOURCE, path="editOf", **{kind: edited})
    for index, one in enumerate(data.get("references") or ()):
        ids = {
            "request_id": one.get("requestId") or "",
            "upload_id": one.get("uploadId") or "",
            "item": one.get("item"),
        }
        name = next(name for name in ("requestId", "uploadId", "item") if one.get(name) not in (None, ""))
        path = f"references[{index}].{name}"
        yield NewImage(role=one.get("role", ImageRole.CHARACTER), name=one.get("name") or "", path=path, **ids)
    if mask := data.get("mask"):
        if not edited:
            message = "A mask needs the image that is to be changed, in editOf."
            raise serializers.ValidationError({"mask": [serializers.ErrorDetail(message, code="required")]})
        yield NewImage(role=ImageRole.MASK, path="mask", upload_id=mask)


class BatchOptionsSerializer(BodySerializer):
    """Options of all requests of a batch."""

    priority = ChoiceField(Priority.choices, default=Priority.NORMAL)
    maxConcurrent = IntegerField(
        min_value=1,
        max_value=50,
        default=None,
        help_text="Maximum number of the batch's requests in progress at the same time; no limit by default.",
    )


class BatchSerializer(BodySerializer):
    """The body of a batch."""

    requests = BatchItemSerializer(many=True, allow_empty=False, max_length=MAX_BATCH)  # type: ignore[call-arg]
    batchOptions = BatchOptionsSerializer(required=False)
    webhookUrl = WebhookURLField(required=False, help_text=WEBHOOK_URL_HELP)
    webhookEvents = EventsField(required=False, help_text=WEBHOOK_EVENTS_HELP)


def _with_paths(images: Iterable[NewImage], index: int | None) -> Iterator[NewImage]:
    """Yield the images of a submit, or of the batch's item of this index, with their paths in the body. Raises
    :class:`InvalidValue` unless they refer to earlier items."""
    for image in images:
        path = image.path if index is None else f"requests[{index}].{image.path}"
        if image.item is not None and image.item >= (index or 0):
            raise InvalidValue(path, "There is no such earlier item.", "not_found")
        yield replace(image, path=path)


def batch_arguments(data: dict[str, Any], *, cancel_after: timedelta | None = None) -> dict[str, Any]:
    """Return the arguments of :func:`generation.requests.services.submit_batch` from a BatchSerializer's valid data."""
    options = data.get("batchOptions", {})
    priority = options.get("priority", Priority.NORMAL)
    return {
        "drafts": [
            new_request(item, priority=priority, cancel_after=cancel_after, index=index)
            for index, item in enumerate(data["requests"])
        ],
        "priority": priority,
        "max_concurrent": options.get("maxConcurrent"),
        "webhook": webhook_of(data),
    }


class CursorField(StringField):
    """The start of a page, as in the links ``next`` and ``previous``. ``format`` names whose it is in the schema."""

    def __init__(self, *, format: str = "cursor", **more: Any) -> None:
        super().__init__(**more)
        self.format = format


class PageSerializer(serializers.Serializer[dict[str, Any]]):
    """The parameters of a list. Unknown names are rejected, since a misspelled filter would return everything."""

    limit = serializers.IntegerField(min_value=1, max_value=100, default=20, help_text="Entries per page.")
    cursor = CursorField(
        format="upload-cursor",
        max_length=500,
        required=False,
        help_text="The start of the page; take it from `next` or `previous`.",
    )

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if unknown := sorted(set(data) - set(self.fields)):
            raise serializers.ValidationError({printable(unknown[0]): ["There is no such filter."]}, code="unknown")
        return dict(super().to_internal_value(data))


class ListSerializer(PageSerializer):
    """The filters of the list of requests."""

    status = ChoiceField(Status.choices, required=False)
    type = ChoiceField(GenerationType.choices, required=False)
    priority = ChoiceField(Priority.choices, required=False)
    projectId = NameField(max_length=255, required=False, source="project_id")
    pageId = NameField(max_length=255, required=False, source="page_id")
    batchId = NameField(max_length=64, required=False, source="batch_id")
    approval = ChoiceField(
        [*Approval.values, UNDECIDED], required=False, help_text="`none`: neither approved nor rejected."
    )
    createdAfter = QueryDateTimeField(required=False, source="created_at__gt", help_text="Exclusive.")
    createdBefore = QueryDateTimeField(required=False, source="created_at__lt", help_text="Exclusive.")
    limit = serializers.IntegerField(min_value=1, max_value=100, default=20, help_text="Requests per page.")
    cursor = CursorField(
        max_length=500, required=False, help_text="The start of the page; take it from `next` or `previous`."
    )


def query_parameters(request: Request) -> dict[str, Any]:
    """Return the parameters of the query. A repeated one becomes a list, which every filter rejects."""
    return {name: values[0] if len(values) == 1 else values for name, values in request.query_params.lists()}


def filters(data: dict[str, Any]) -> dict[str, Any]:
    """Return the query conditions from a ListSerializer's valid data, without ``limit`` and ``cursor``."""
    conditions = {name: value for name, value in data.items() if name not in {"limit", "cursor"}}
    if conditions.get("approval") == UNDECIDED:
        conditions["approval"] = ""
    return conditions


def validate(kind: type[serializers.Serializer[Any]], data: Any) -> dict[str, Any]:
    """Return the data validated by a serializer of this class. Raises ``ValidationError``."""
    valid: dict[str, Any] = _serializer(kind, tuple(settings.PROVIDERS)).run_validation(data)
    return valid


@lru_cache(16)
def _serializer(kind: type[serializers.Serializer[Any]], providers: tuple[str, ...]) -> serializers.Serializer[Any]:
    # Share one instance: DRF copies the fields for each, which takes as long as a validation. run_validation() keeps no
    # state in the instance or its fields. ``providers`` is only part of the cache key, since ProviderField reads it.
    return kind()
