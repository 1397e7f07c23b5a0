"""What clients get, as components of the API's description. Nothing is serialized with these: the answers themselves
are made in ``representations`` and ``statistics``, and a contract test compares the two."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from generation.api.serializers import MetadataSerializer
from generation.identifiers import BATCH_ID, REQUEST_ID
from generation.states import ErrorCode, GenerationType, PauseScope, Priority, Status
from generation.storage.images import EXTENSIONS

ResponseSerializer = serializers.Serializer[dict[str, Any]]

HEALTH = ["healthy", "warning", "critical"]
CHECK = ["ok", "missing", "unreachable"]


class Text(serializers.CharField):
    """Any string, the empty one too."""

    def __init__(self, **more: Any) -> None:
        super().__init__(allow_blank=True, **more)


class Count(serializers.IntegerField):
    """How many; never negative."""

    def __init__(self, *, min_value: int = 0, **more: Any) -> None:
        super().__init__(min_value=min_value, **more)


class Seconds(serializers.FloatField):
    """A duration."""

    def __init__(self, **more: Any) -> None:
        super().__init__(min_value=0, **more)


class Pattern(serializers.RegexField):
    """A string of this form."""

    def __init__(self, regex: str, **more: Any) -> None:
        super().__init__(rf"^{regex}$", **more)


class Timestamp(serializers.DateTimeField):
    """RFC 3339 in UTC with milliseconds and ``Z``."""


# --- Errors -----------------------------------------------------------------------------------------------------------


class Error(ResponseSerializer):
    """Every error has this shape: `error` is for people and may change, `code` is for programs and will not."""

    error = serializers.CharField()
    # That of a validation error is told apart, so that an answer is one of the two and never both.
    code = Pattern("(?!validation_error$)[a-z][a-z_]*")


@extend_schema_serializer(component_name="Fault")
class FieldError(ResponseSerializer):
    """One value that cannot be accepted."""

    path = Text(help_text="Where it stands, such as `requests[3].prompt`; empty for the body as a whole.")
    msg = serializers.CharField()
    code = Pattern("[a-z][a-z_]*")


class ValidationError(ResponseSerializer):
    """What was sent cannot be accepted: every faulty value, with its path."""

    error = serializers.CharField(help_text="The first of the faults, as a sentence.")
    code = Pattern("validation_error")
    errors = FieldError(many=True)  # type: ignore[assignment]  # a field, and no result of a validation


# --- Tokens -----------------------------------------------------------------------------------------------------------


class Token(ResponseSerializer):
    """A pair of tokens."""

    access = serializers.CharField(help_text="Goes into `Authorization: Bearer …`; holds for 15 minutes.")
    refresh = serializers.CharField(help_text="Gets the next pair, once; holds for 7 days.")


# --- Requests ---------------------------------------------------------------------------------------------------------


class Accepted(ResponseSerializer):
    """The request is stored and will be worked on."""

    success = serializers.BooleanField()
    requestId = Pattern(REQUEST_ID.pattern)
    status = serializers.ChoiceField(Status.choices)
    estimatedWaitTime = Count(
        allow_null=True,
        help_text="Seconds until the picture is there, by what was measured lately; `null` while it is paused.",
    )


class RequestMetadata(MetadataSerializer):
    """The client's own metadata, and what happened to the request."""

    # The request may be older than what is configured now.
    provider = serializers.CharField(required=False)  # type: ignore[assignment]
    requestedAt = Timestamp()
    startedAt = Timestamp(allow_null=True, help_text="When the latest attempt began.")
    completedAt = Timestamp(allow_null=True, help_text="When the request completed, failed or was cancelled.")
    attempts = Count()
    maxAttempts = Count(min_value=1)  # type: ignore[assignment]  # this one is always there
    generationTime = Count(allow_null=True, help_text="The latest attempt, in ms.")


class Result(ResponseSerializer):
    """The picture of a completed request."""

    imageData = Pattern(
        r"data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/]+={0,2}",
        required=False,
        help_text="The picture itself. Only the status of one request has it, unless `imageData=false`.",
    )
    imageUrl = serializers.URLField(
        help_text="Works without a token for at least 24 hours, for whoever holds it. Into a bucket that is reached"
        " with a role's credentials, it works until these end: `X-Amz-Date` and `X-Amz-Expires` say when."
    )
    thumbnailUrl = serializers.URLField(help_text="The same for a WebP of at most 320 pixels a side.")
    contentType = serializers.ChoiceField(list(EXTENSIONS))
    width = Count(min_value=1, help_text="In pixels, as a browser shows the image: by its EXIF orientation.")
    height = Count(min_value=1)
    bytes = Count(min_value=1)
    sha256 = Pattern("[0-9a-f]{64}", help_text="Of the picture's bytes.")
    provider = serializers.CharField()
    model = Text()
    seed = Count(allow_null=True, help_text="Gives the same picture again, where the provider has seeds.")
    revisedPrompt = Text(help_text="The prompt as the provider rewrote it, if it did.")
    generationTime = Count(allow_null=True, help_text="In ms.")
    cost = serializers.FloatField(
        min_value=0, allow_null=True, help_text="In US dollars, as the provider charges; null where that is not known."
    )
    cached = serializers.BooleanField(help_text="Whether an earlier picture for the same wish was used.")
    notice = serializers.CharField(
        allow_null=True,
        help_text="What differs from the request: a model stood in for a retired one, or another format came.",
    )
    attribution = Text(help_text="Keep this with the picture where you publish it.")


class GenerationError(ResponseSerializer):
    """Why a request failed."""

    message = serializers.CharField()
    code = serializers.ChoiceField(
        ErrorCode.choices, help_text="\n".join(f"- `{code.value}`: {code.label}" for code in ErrorCode)
    )
    retryable = serializers.BooleanField(help_text="Whether another attempt might have given a picture.")
    provider = serializers.CharField(allow_null=True)
    stage = Pattern(
        "(input|output)", allow_null=True, help_text="Of a refusal: whether the prompt or the picture was refused."
    )
    category = serializers.CharField(
        allow_null=True, help_text="Of a refusal: what the safety system holds it to show, separated by commas."
    )


@extend_schema_serializer(component_name="Request")
class RequestSerializer(ResponseSerializer):
    """A request and how it stands."""

    requestId = Pattern(REQUEST_ID.pattern)
    type = serializers.ChoiceField(GenerationType.choices)
    prompt = serializers.CharField()
    status = serializers.ChoiceField(Status.choices)
    priority = serializers.ChoiceField(Priority.choices)
    progress = Count(max_value=100, help_text="Percent.")
    sequence = Count(min_value=1, help_text="Rises by one with every change.")
    projectId = serializers.CharField(allow_null=True)
    pageId = serializers.CharField(allow_null=True)
    batchId = Pattern(BATCH_ID.pattern, allow_null=True)
    metadata = RequestMetadata()
    result = Result(allow_null=True, help_text="Once it is completed.")
    error = GenerationError(allow_null=True, help_text="Once it failed.")
    queuePosition = Count(min_value=1, required=False, help_text="From 1; only in the status of a queued request.")
    estimatedWaitTime = Count(
        required=False, allow_null=True, help_text="In seconds; beside `queuePosition`. `null` while it is paused."
    )


@extend_schema_serializer(many=False)
class RequestPage(ResponseSerializer):
    """One page of the list, the newest request first."""

    results = RequestSerializer(many=True)
    next = serializers.URLField(allow_null=True, help_text="The page of older ones.")
    previous = serializers.URLField(allow_null=True, help_text="The page of newer ones.")


class Cancelled(ResponseSerializer):
    """It is over, at once and for good."""

    success = serializers.BooleanField()
    message = serializers.CharField()


# --- Batches ----------------------------------------------------------------------------------------------------------


class BatchAcceptedItem(ResponseSerializer):
    """One request of a new batch, by its place in what was submitted."""

    index = Count()
    requestId = Pattern(REQUEST_ID.pattern)
    status = serializers.ChoiceField(Status.choices)


class BatchAccepted(ResponseSerializer):
    """All requests of the batch are stored."""

    success = serializers.BooleanField()
    batchId = Pattern(BATCH_ID.pattern)
    requests = BatchAcceptedItem(many=True)
    count = Count(min_value=1)
    estimatedWaitTime = Count(
        allow_null=True, help_text="Seconds until the last of the pictures is there; `null` while it is paused."
    )


class StatusCounts(ResponseSerializer):
    """How many of the requests stand where."""

    queued = Count()
    completed = Count()
    failed = Count()
    cancelled = Count()

    def get_fields(self) -> dict[str, Any]:
        return super().get_fields() | {"in-progress": Count()}


@extend_schema_serializer(component_name="BatchRequest")
class BatchRequest(RequestSerializer):
    """A request of a batch, with its place in what was submitted."""

    index = Count()


class Batch(ResponseSerializer):
    """A batch and how its requests stand."""

    batchId = Pattern(BATCH_ID.pattern)
    status = serializers.ChoiceField(
        Status.choices, help_text="`queued` until one starts, `in-progress` until all ended, then the best of theirs."
    )
    maxConcurrent = serializers.IntegerField(min_value=1, max_value=50, allow_null=True)
    counts = StatusCounts()
    progress = Count(max_value=100, help_text="Percent of the requests that ended.")
    requests = BatchRequest(many=True)
    createdAt = Timestamp()
    completedAt = Timestamp(allow_null=True)


class BatchCancelled(Cancelled):
    """What was left of the batch is over."""

    cancelled = Count(help_text="How many requests that was.")


# --- The whole --------------------------------------------------------------------------------------------------------


class PriorityCounts(ResponseSerializer):
    """How many wait, by priority."""

    urgent = Count()
    high = Count()
    normal = Count()
    low = Count()


class Paused(ResponseSerializer):
    """Something that staff have paused: what runs goes on, and nothing of it is started."""

    scope = serializers.ChoiceField(PauseScope.choices)
    value = serializers.CharField(allow_null=True, help_text="Which priority, type or provider.")
    since = Timestamp()


class QueueStatus(ResponseSerializer):
    """The queue at this moment."""

    queueLength = Count()
    activeRequests = Count()
    averageWaitTime = Seconds(
        help_text="Seconds from submit to the first start, over this hour (UTC) and the one before."
    )
    queuedByPriority = PriorityCounts()
    systemStatus = serializers.ChoiceField(HEALTH)
    oldestQueuedAt = Timestamp(allow_null=True)
    workers = Count(help_text="Worker processes that are up.")
    capacity = Count(help_text="How many requests they can work on at once.")
    paused = Paused(many=True)


class Day(ResponseSerializer):
    """One day of the last seven, in UTC."""

    date = serializers.DateField()
    totalRequests = Count()
    averageProcessingTime = Seconds(help_text="In seconds.")
    failedCount = Count()
    cost = serializers.FloatField(
        min_value=0, help_text="What the providers charged on that day, in US dollars, as far as it is known."
    )


class Waiting(ResponseSerializer):
    """What waits with one priority."""

    count = Count()
    oldest = Timestamp(allow_null=True)


class Backlog(ResponseSerializer):
    """What waits, by priority."""

    urgent = Waiting()
    high = Waiting()
    normal = Waiting()
    low = Waiting()


class Metrics(ResponseSerializer):
    """The last 24 hours, the last 7 days by day, and what waits at this moment.

    The last 24 hours are this hour (UTC) and the 23 before it. What happened counts when it happened: a request that
    fails and is retried by hand was a failure and, if it then completes, was completed too.
    """

    requestsTotal = Count(help_text="Requests that were submitted.")
    requestsCompleted = Count(help_text="How often a request was completed.")
    requestsFailed = Count(help_text="How often a request failed for good.")
    averageGenerationTime = Seconds(help_text="In seconds.")
    queueLength = Count()
    activeRequests = Count()
    failureRate = serializers.FloatField(
        min_value=0,
        max_value=1,
        help_text="Failed of those submitted; where more ended than were submitted, of those that ended.",
    )
    healthStatus = serializers.ChoiceField(HEALTH)
    byDay = Day(many=True)
    backlog = Backlog()


class Health(ResponseSerializer):
    """The process answers."""

    status = Pattern("ok")


class Checks(ResponseSerializer):
    """What a request needs to get done, part by part."""

    database = serializers.ChoiceField(CHECK)
    broker = serializers.ChoiceField(CHECK)
    worker = serializers.ChoiceField(CHECK)


class Readiness(ResponseSerializer):
    """Whether a request that is submitted now would be worked on."""

    status = serializers.ChoiceField(["ok", "unavailable"])
    checks = Checks()
