"""Schemas of response bodies, as components of the OpenAPI document.

They serialize nothing: ``representations`` and ``statistics`` build the responses, and a contract test compares both.
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from generation.api.serializers import MetadataSerializer
from generation.identifiers import BATCH_ID, REQUEST_ID, UPLOAD_ID
from generation.states import (
    REFERENCE_ROLES,
    Approval,
    CancelReason,
    ErrorCode,
    GenerationType,
    PauseScope,
    Priority,
    Scope,
    Status,
    WaitReason,
)
from generation.storage.digital_source import BY_MODEL, BY_PROGRAM, PARTLY_BY_MODEL
from generation.storage.images import EXTENSIONS

ResponseSerializer = serializers.Serializer[dict[str, Any]]

HEALTH = ["healthy", "warning", "critical"]
CHECK = ["ok", "missing", "unreachable"]


class Text(serializers.CharField):
    """Any string, including the empty one."""

    def __init__(self, **more: Any) -> None:
        super().__init__(allow_blank=True, **more)


class Count(serializers.IntegerField):
    """A number of things, never negative."""

    def __init__(self, *, min_value: int = 0, **more: Any) -> None:
        super().__init__(min_value=min_value, **more)


class Seconds(serializers.FloatField):
    """A duration in seconds, never negative."""

    def __init__(self, **more: Any) -> None:
        super().__init__(min_value=0, **more)


class Pattern(serializers.RegexField):
    """A string that matches this regular expression as a whole."""

    def __init__(self, regex: str, **more: Any) -> None:
        super().__init__(rf"^{regex}$", **more)


class Timestamp(serializers.DateTimeField):
    """RFC 3339 in UTC with milliseconds and ``Z``."""


# --- Errors -----------------------------------------------------------------------------------------------------------


class Error(ResponseSerializer):
    """The format of all errors: `error` is for people and may change, `code` is for programs and does not change."""

    error = serializers.CharField()
    # Excludes the code of a validation error, so that a response matches exactly one of the two schemas.
    code = Pattern("(?!validation_error$)[a-z][a-z_]*")


@extend_schema_serializer(component_name="Fault")
class FieldError(ResponseSerializer):
    """One invalid value."""

    path = Text(help_text="Path of the value, such as `requests[3].prompt`; empty for the body as a whole.")
    msg = serializers.CharField()
    code = Pattern("[a-z][a-z_]*")


class ValidationError(ResponseSerializer):
    """The input is invalid: every invalid value, with its path."""

    error = serializers.CharField(help_text="The first of the errors, as a sentence.")
    code = Pattern("validation_error")
    errors = FieldError(many=True)  # type: ignore[assignment]  # a field that hides the property `errors` of Serializer


class Forbidden(ResponseSerializer):
    """The call is not allowed."""

    error = serializers.CharField()
    code = Pattern("[a-z][a-z_]*")
    required = serializers.ChoiceField(Scope.choices, required=False, help_text="Of `scope_missing`: the scope.")  # type: ignore[assignment]
    errors = FieldError(many=True, required=False)  # type: ignore[assignment]


# --- Tokens -----------------------------------------------------------------------------------------------------------


class Token(ResponseSerializer):
    """A pair of tokens."""

    access = serializers.CharField(help_text="Send as `Authorization: Bearer …`; valid for 15 minutes.")
    refresh = serializers.CharField(help_text="Exchange for the next pair, once; valid for 7 days.")


# --- Requests ---------------------------------------------------------------------------------------------------------


class Accepted(ResponseSerializer):
    """The request is stored and queued."""

    success = serializers.BooleanField()
    requestId = Pattern(REQUEST_ID.pattern)
    status = serializers.ChoiceField(Status.choices)
    estimatedWaitTime = Count(
        allow_null=True,
        help_text="Seconds until the image is ready, estimated from recent requests; `null` while paused or without a "
        "worker.",
    )


class SubmitAccepted(Accepted):
    """The request is stored and queued, or all of its variations."""

    requestIds = serializers.ListField(
        child=Pattern(REQUEST_ID.pattern),
        min_length=2,
        required=False,
        help_text="Only of several variations: their requests, in their order. `requestId` is the first.",
    )
    batchId = Pattern(BATCH_ID.pattern, required=False, help_text="Only of several variations: their batch.")


class RequestMetadata(MetadataSerializer):
    """The client's metadata, and the times and attempts of the request."""

    # No enumeration: an old request may name a provider that is not configured any more.
    provider = serializers.CharField(required=False)  # type: ignore[assignment]
    requestedAt = Timestamp()
    startedAt = Timestamp(allow_null=True, help_text="When the latest attempt began.")
    completedAt = Timestamp(allow_null=True, help_text="When the request completed, failed or was cancelled.")
    attempts = Count()
    maxAttempts = Count(min_value=1)  # type: ignore[assignment]  # required in responses
    generationTime = Count(allow_null=True, help_text="Duration of the latest attempt, in ms.")


class Result(ResponseSerializer):
    """The image of a completed request."""

    imageData = Pattern(
        r"data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/]+={0,2}",
        required=False,
        help_text="The image as a data URL. Only in the status of a single request, unless `imageData=false`.",
    )
    imageUrl = serializers.URLField(
        help_text="Works without a token for at least 24 hours, for every client that has it. A URL of a bucket that is"
        " accessed with a role's temporary credentials works until they expire: see `X-Amz-Date` and `X-Amz-Expires`."
    )
    thumbnailUrl = serializers.URLField(help_text="Like `imageUrl`, for a WebP of at most 320 pixels a side.")
    contentType = serializers.ChoiceField(list(EXTENSIONS))
    width = Count(min_value=1, help_text="In pixels, after the EXIF orientation is applied, as in a browser.")
    height = Count(min_value=1)
    bytes = Count(min_value=1)
    sha256 = Pattern("[0-9a-f]{64}", help_text="Of the image's bytes.")
    provider = serializers.CharField()
    model = Text()
    seed = Count(allow_null=True, help_text="Gives the same image again, if the provider supports seeds.")
    revisedPrompt = Text(help_text="The prompt as rewritten by the provider; empty if it was not.")
    generationTime = Count(allow_null=True, help_text="In ms.")
    cost = serializers.FloatField(
        min_value=0, allow_null=True, help_text="In US dollars, as charged by the provider; `null` if unknown."
    )
    cached = serializers.BooleanField(help_text="Whether an earlier image of an equal request was used.")
    notice = serializers.CharField(
        allow_null=True,
        help_text="Deviation from the request: another model replaced a retired one, or the format is another.",
    )
    attribution = Text(help_text="Publish this text together with the image.")


class GenerationError(ResponseSerializer):
    """Why a request failed."""

    message = serializers.CharField()
    code = serializers.ChoiceField(
        ErrorCode.choices, help_text="\n".join(f"- `{code.value}`: {code.label}" for code in ErrorCode)
    )
    retryable = serializers.BooleanField(help_text="Whether another attempt might have succeeded.")
    provider = serializers.CharField(allow_null=True)
    stage = Pattern(
        "(input|output)", allow_null=True, help_text="Of a refusal: whether the prompt or the image was refused."
    )
    category = serializers.CharField(
        allow_null=True, help_text="Of a refusal: the safety system's categories, separated by commas."
    )


class WaitingFor(ResponseSerializer):
    """A reason why a queued request waits, with its facts."""

    reason = serializers.ChoiceField(
        WaitReason.choices,
        help_text="In this order, of which `waitingFor` is the first that holds:\n"
        + "\n".join(f"- `{reason.value}`: {reason.label[0].lower()}{reason.label[1:]}." for reason in WaitReason),
    )
    scope = serializers.ChoiceField(PauseScope.choices, required=False, help_text="Of `paused`: what is paused.")
    value = serializers.CharField(
        required=False, allow_null=True, help_text="Of `paused`: the priority, type or provider."
    )
    why = serializers.CharField(
        required=False, allow_null=True, help_text="Of `paused`: what staff gave as the reason."
    )
    requestId = Pattern(
        REQUEST_ID.pattern, required=False, allow_null=True, help_text="Of `reference`: whose image it waits for."
    )
    status = serializers.ChoiceField(
        Status.choices, required=False, allow_null=True, help_text="Of that request; `null` if it was deleted."
    )
    until = Timestamp(
        required=False, help_text="Of `not_before`, `retry`, `provider_suspended` and `provider_rate`: until then."
    )
    errorCode = serializers.ChoiceField(
        ErrorCode.choices, required=False, allow_null=True, help_text="Of `retry`: why the last attempt failed."
    )
    running = Count(required=False, help_text="Of `batch_limit`: its requests in progress, or about to start.")
    max = Count(required=False, help_text="Of `batch_limit`: how many may be.")
    provider = serializers.CharField(required=False, help_text="Of `provider_suspended` and `provider_rate`.")
    code = serializers.ChoiceField(
        ErrorCode.choices, required=False, allow_null=True, help_text="Of `provider_suspended`: why."
    )
    ahead = Count(required=False, help_text="Of `queue`: requests that come before.")
    aheadMorePressing = Count(
        required=False, help_text="Of `queue`: how many of these have a higher priority, at most 500."
    )
    aheadOthers = Count(
        required=False,
        allow_null=True,
        help_text="Of `queue`: how many of the same priority are of others who take turns, at most 500; `null` without "
        "fairness.",
    )
    slots = Count(required=False, help_text="Of `queue`: requests that the workers do at once.")


class Estimate(ResponseSerializer):
    """When a queued request is expected to start and to end, in seconds from now: with a chance of 50 % and of 90 %.
    Rounded to 1 s below a minute, to 5 s below ten minutes, then to minutes."""

    startP50 = Count()
    startP90 = Count()
    doneP50 = Count(min_value=1)
    doneP90 = Count(min_value=1)
    basis = serializers.ChoiceField(
        [("measured", "From recent requests of this type"), ("default", "Assumed, since there are too few of these")]
    )


class Reference(ResponseSerializer):
    """An image that is sent with the prompt."""

    role = serializers.ChoiceField([(role.value, role.label) for role in REFERENCE_ROLES])
    name = serializers.CharField(allow_null=True)
    requestId = Pattern(REQUEST_ID.pattern, allow_null=True)
    uploadId = Pattern(UPLOAD_ID.pattern, allow_null=True, help_text="Without either, the image was deleted.")
    status = serializers.ChoiceField(
        Status.choices, allow_null=True, help_text="Of the request; an upload is `completed`."
    )
    sha256 = Pattern("[0-9a-f]{64}", allow_null=True, help_text="`null` while the image is not made.")


@extend_schema_serializer(component_name="Request")
class RequestSerializer(ResponseSerializer):
    """A request and its status."""

    requestId = Pattern(REQUEST_ID.pattern)
    type = serializers.ChoiceField(GenerationType.choices)
    prompt = serializers.CharField()
    status = serializers.ChoiceField(Status.choices)
    priority = serializers.ChoiceField(Priority.choices)
    progress = Count(max_value=100, help_text="Percent.")
    sequence = Count(min_value=1, help_text="Increases by one with every change of the status.")
    projectId = serializers.CharField(allow_null=True)
    pageId = serializers.CharField(allow_null=True)
    batchId = Pattern(BATCH_ID.pattern, allow_null=True)
    variation = Count(help_text="Index among the images that were submitted together for one prompt; else 0.")
    notBefore = Timestamp(allow_null=True, help_text="The request does not start before this time.")
    metadata = RequestMetadata()
    result = Result(allow_null=True, help_text="Only of a completed request.")
    previewUrl = serializers.URLField(
        allow_null=True,
        help_text="The newest preview, only while the request is in progress and only after `metadata.previews`. It"
        " works for an hour without a token, and not after the end of the attempt.",
    )
    error = GenerationError(allow_null=True, help_text="Only of a failed request.")
    approval = Pattern(f"({'|'.join(Approval)})", allow_null=True, help_text="The decision about the image.")
    approvalNote = serializers.CharField(allow_null=True)
    cancelReason = Pattern(
        f"({'|'.join(CancelReason)})",
        allow_null=True,
        help_text="Only of a cancelled request:\n" + "\n".join(f"- `{one.value}`: {one.label}" for one in CancelReason),
    )
    references = Reference(many=True, help_text="In the order in which they are sent.")
    editOf = Pattern(
        f"({REQUEST_ID.pattern}|{UPLOAD_ID.pattern})",
        allow_null=True,
        help_text="The request or upload whose image is changed.",
    )
    queuePosition = Count(
        min_value=1,
        required=False,
        allow_null=True,
        help_text="From 1; only in the status of a queued request. It may rise, since owners take turns: one with fewer"
        " queued requests comes sooner. `null` while it waits for a reference or its time.",
    )
    estimatedWaitTime = Count(
        required=False,
        allow_null=True,
        help_text="`doneP50` of the estimate; together with `queuePosition`.",
    )
    estimate = Estimate(
        required=False,
        allow_null=True,
        help_text="Only in the status of a queued request. `null` while that cannot be told: while paused, without a "
        "worker, while it waits for a reference, or if it is not possible.",
    )
    waitingFor = WaitingFor(
        required=False,
        allow_null=True,
        help_text="Only in the status of a queued request: the first reason that holds. `null` for a moment, while a "
        "reference has just been made.",
    )
    possible = serializers.BooleanField(
        required=False,
        help_text="Only in the status of a queued request: whether an enabled model of a configured "
        "provider can do it.",
    )
    explanation = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="With `explain=true`: why it waits and when it is expected to start, in sentences.",
    )
    reasons = WaitingFor(many=True, required=False, help_text="With `explain=true`: all reasons that hold, in order.")


@extend_schema_serializer(many=False)
class RequestPage(ResponseSerializer):
    """One page of the list, the newest request first."""

    results = RequestSerializer(many=True)
    next = serializers.URLField(allow_null=True, help_text="URL of the page with older requests.")
    previous = serializers.URLField(allow_null=True, help_text="URL of the page with newer requests.")


class AcceptedOrWaited(Accepted):
    """The request is stored and queued; after a wait, the request when it has ended."""

    request = RequestSerializer(required=False, help_text="Only after `Prefer: wait`, if it has ended in time.")


class SentReference(ResponseSerializer):
    """An image that was sent with the prompt."""

    role = Pattern(f"({'|'.join(REFERENCE_ROLES)})")
    name = serializers.CharField(allow_null=True)
    requestId = Pattern(REQUEST_ID.pattern, allow_null=True)
    uploadId = Pattern(UPLOAD_ID.pattern, allow_null=True)
    sha256 = Pattern("[0-9a-f]{64}", allow_null=True)


class Provenance(ResponseSerializer):
    """How an image was made."""

    requestId = Pattern(REQUEST_ID.pattern)
    type = serializers.ChoiceField(GenerationType.choices)
    prompt = serializers.CharField()
    promptSent = serializers.CharField(
        allow_null=True, help_text="As the provider got it; `null` if the image is one of an earlier request."
    )
    provider = serializers.CharField()
    model = Text()
    seed = Count(allow_null=True)
    references = SentReference(many=True)
    editOf = Pattern(f"({REQUEST_ID.pattern}|{UPLOAD_ID.pattern})", allow_null=True)
    sha256 = Pattern("[0-9a-f]{64}")
    bytes = Count(min_value=1)
    contentType = serializers.ChoiceField(list(EXTENSIONS))
    width = Count(min_value=1)
    height = Count(min_value=1)
    createdAt = Timestamp()
    completedAt = Timestamp()
    cost = serializers.FloatField(min_value=0, allow_null=True)
    digitalSourceType = serializers.ChoiceField(
        [BY_MODEL, PARTLY_BY_MODEL, BY_PROGRAM],
        help_text="IPTC's term: made by a model, in part by one (a strict mask), or by a program without one.",
    )


class Cancelled(ResponseSerializer):
    """Cancelled, with immediate effect."""

    success = serializers.BooleanField()
    message = serializers.CharField()


# --- Batches ----------------------------------------------------------------------------------------------------------


class BatchAcceptedItem(ResponseSerializer):
    """One request of a new batch, with its index in the submitted list."""

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
        allow_null=True,
        help_text="Seconds until the last of the images is ready; `null` while paused or without a worker.",
    )


class StatusCounts(ResponseSerializer):
    """Number of the batch's requests by status."""

    queued = Count()
    completed = Count()
    failed = Count()
    cancelled = Count()

    def get_fields(self) -> dict[str, Any]:
        return super().get_fields() | {"in-progress": Count()}


@extend_schema_serializer(component_name="BatchRequest")
class BatchRequest(RequestSerializer):
    """A request of a batch, with its index in the submitted list."""

    index = Count()


class Batch(ResponseSerializer):
    """A batch and the status of its requests."""

    batchId = Pattern(BATCH_ID.pattern)
    status = serializers.ChoiceField(
        Status.choices,
        help_text="`queued` until one starts, `in-progress` until all ended, then the best of their statuses.",
    )
    maxConcurrent = serializers.IntegerField(min_value=1, max_value=50, allow_null=True)
    counts = StatusCounts()
    progress = Count(max_value=100, help_text="Percentage of requests that ended.")
    requests = BatchRequest(many=True)
    createdAt = Timestamp()
    completedAt = Timestamp(allow_null=True)


class BatchCancelled(Cancelled):
    """The unfinished requests of the batch are cancelled."""

    cancelled = Count(help_text="Number of requests cancelled by this call.")


class BatchOrWaited(BatchAccepted):
    """All requests of the batch are stored; after a wait, the batch when all have ended."""

    batch = Batch(required=False, help_text="Only after `Prefer: wait`, if all requests have ended in time.")


class Cost(ResponseSerializer):
    """A price in US dollars, by the price rules of the models; `null` if the price of a model is not known."""

    p50 = serializers.FloatField(min_value=0, allow_null=True, help_text="If each image is one call.")
    max = serializers.FloatField(
        min_value=0,
        allow_null=True,
        help_text="If each of `maxAttempts` is billed, at the most expensive model that may be called.",
    )


class DryRun(ResponseSerializer):
    """What a submit would cost, and when it would be done. Nothing was stored."""

    success = serializers.BooleanField()
    dryRun = serializers.BooleanField()
    cost = Cost()
    model = Text(help_text="The model that is called first.")
    estimate = Estimate(allow_null=True, help_text="Of the last image to be done; `null` while that cannot be told.")


class BatchDryRun(ResponseSerializer):
    """What a batch would cost, and when the last of it would be done. Nothing was stored."""

    success = serializers.BooleanField()
    dryRun = serializers.BooleanField()
    cost = Cost()
    models = serializers.DictField(child=Count(min_value=1), help_text="The number of requests of each model.")
    estimate = Estimate(allow_null=True, help_text="Of the last image to be done; `null` while that cannot be told.")


class SubmitWaited(SubmitAccepted):
    """The request or all of its variations are stored and queued; after a wait, they have ended."""

    request = RequestSerializer(required=False, help_text="Only after `Prefer: wait`, if all have ended in time.")
    batch = Batch(required=False, help_text="Only of several variations, together with `request`.")


# --- API keys ---------------------------------------------------------------------------------------------------------


@extend_schema_serializer(component_name="ApiKey")
class Key(ResponseSerializer):
    """An API key as its owner sees it."""

    keyId = Pattern("[0-9A-Za-z]{8}")
    prefix = Pattern("vgsk_[0-9A-Za-z]{8}", help_text="The part of the secret that is shown.")
    name = serializers.CharField()
    scopes = serializers.ListField(child=serializers.ChoiceField(Scope.choices))
    expiresAt = Timestamp(allow_null=True)
    rate = serializers.CharField(allow_null=True)
    dailyBudgetUsd = serializers.FloatField(min_value=0, allow_null=True)
    maxActive = Count(min_value=1, allow_null=True)
    maxPriority = Pattern(f"({'|'.join(Priority)})", allow_null=True)
    projectIds = serializers.ListField(child=serializers.CharField(), allow_null=True)
    models = serializers.ListField(child=serializers.CharField(), allow_null=True)
    createdAt = Timestamp()
    lastUsedAt = Timestamp(allow_null=True, help_text="To the minute.")
    lastUsedFrom = serializers.CharField(allow_null=True, help_text="The address of the last use.")
    previousUntil = Timestamp(allow_null=True, help_text="Until when the previous secret is valid, after a rotation.")


@extend_schema_serializer(component_name="ApiKeyWithSecret")
class KeyWithSecret(Key):
    """An API key with its secret, which no later call shows."""

    key = Pattern("vgsk_[0-9A-Za-z]{8}_[0-9A-Za-z]{46}", help_text="Send as `Authorization: Bearer …`.")


@extend_schema_serializer(many=False, component_name="ApiKeys")
class Keys(ResponseSerializer):
    """All API keys of the user, the newest first."""

    results = Key(many=True)
    next = serializers.URLField(allow_null=True, help_text="Always `null`: there are at most 50.")
    previous = serializers.URLField(allow_null=True, help_text="Always `null`.")


# --- Uploads ----------------------------------------------------------------------------------------------------------


class Upload(ResponseSerializer):
    """An uploaded image, as it is stored."""

    uploadId = Pattern(UPLOAD_ID.pattern)
    name = Text()
    contentType = Pattern("image/(png|jpeg)")
    width = Count(min_value=1)
    height = Count(min_value=1)
    bytes = Count(min_value=1)
    sha256 = Pattern("[0-9a-f]{64}")
    imageUrl = serializers.URLField(help_text="Signed; valid for 24 hours at least.")
    createdAt = Timestamp()
    expiresAt = Timestamp(allow_null=True, help_text="It is deleted then, unless it is used before.")


@extend_schema_serializer(many=False)
class UploadPage(ResponseSerializer):
    """One page of the uploads, the newest first."""

    results = Upload(many=True)
    next = serializers.URLField(allow_null=True, help_text="URL of the page with older uploads.")
    previous = serializers.URLField(allow_null=True, help_text="URL of the page with newer uploads.")


# --- Queue and health -------------------------------------------------------------------------------------------------


class PriorityCounts(ResponseSerializer):
    """Number of queued requests by priority."""

    urgent = Count()
    high = Count()
    normal = Count()
    low = Count()


class Paused(ResponseSerializer):
    """A pause set by staff: running requests continue, and no further ones start."""

    scope = serializers.ChoiceField(PauseScope.choices)
    value = serializers.CharField(allow_null=True, help_text="The paused priority, type or provider.")
    since = Timestamp()


class PriorityWaits(ResponseSerializer):
    """Seconds by priority."""

    urgent = Count(allow_null=True)
    high = Count(allow_null=True)
    normal = Count(allow_null=True)
    low = Count(allow_null=True)


class QueueStatus(ResponseSerializer):
    """The current state of the queue."""

    queueLength = Count()
    activeRequests = Count()
    averageWaitTime = Seconds(
        help_text="Seconds from submit to the first start, over this hour (UTC) and the previous one."
    )
    owners = Count(
        allow_null=True,
        help_text="Owners with queued requests, of which each takes its turn; counted up to 1,000. `null` without"
        " turns. With `FAIRNESS` other than `owner` it counts their projects or end users.",
    )
    queuedByPriority = PriorityCounts()
    systemStatus = serializers.ChoiceField(HEALTH)
    oldestQueuedAt = Timestamp(allow_null=True)
    workers = Count(help_text="Worker processes that are up.")
    capacity = Count(help_text="Number of requests that they can process at the same time.")
    paused = Paused(many=True)
    waitP50 = PriorityWaits(
        help_text="Seconds until a new request would start that comes behind all others of its priority, with a chance "
        "of 50 %. `null` while it would not start."
    )
    waitP90 = PriorityWaits(help_text="The same with a chance of 90 %.")


class Day(ResponseSerializer):
    """One day of the last seven, in UTC."""

    date = serializers.DateField()
    totalRequests = Count()
    averageProcessingTime = Seconds(help_text="In seconds.")
    failedCount = Count()
    cost = serializers.FloatField(
        min_value=0, help_text="Charges of the providers on that day, in US dollars, as far as known."
    )


class Waiting(ResponseSerializer):
    """The queued requests of one priority."""

    count = Count()
    oldest = Timestamp(allow_null=True)


class Backlog(ResponseSerializer):
    """The queued requests by priority."""

    urgent = Waiting()
    high = Waiting()
    normal = Waiting()
    low = Waiting()


class Metrics(ResponseSerializer):
    """Statistics of the last 24 hours, of each of the last 7 days, and of the requests queued now.

    The last 24 hours are this hour (UTC) and the 23 hours before it. Events count at the time when they happen: a
    request that fails, is retried by hand and then completes counts as one failure and one completion.
    """

    requestsTotal = Count(help_text="Submitted requests.")
    requestsCompleted = Count(help_text="How often a request was completed.")
    requestsFailed = Count(help_text="How often a request failed for good.")
    averageGenerationTime = Seconds(help_text="In seconds.")
    queueLength = Count()
    activeRequests = Count()
    failureRate = serializers.FloatField(
        min_value=0,
        max_value=1,
        help_text="Failed requests divided by submitted ones, or by ended ones if more ended than were submitted.",
    )
    healthStatus = serializers.ChoiceField(HEALTH)
    byDay = Day(many=True)
    backlog = Backlog()


class Health(ResponseSerializer):
    """The process is up."""

    status = Pattern("ok")


class Checks(ResponseSerializer):
    """The parts that processing a request needs."""

    database = serializers.ChoiceField(CHECK)
    broker = serializers.ChoiceField(CHECK)
    worker = serializers.ChoiceField(CHECK)


class Readiness(ResponseSerializer):
    """Whether a request submitted now would be processed."""

    status = serializers.ChoiceField(["ok", "unavailable"])
    checks = Checks()
