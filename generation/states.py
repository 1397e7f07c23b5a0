"""The vocabulary: statuses, priorities, image types, error codes, and the legal transitions between statuses.

This module does no I/O, so every module may import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from django.db.models import TextChoices


class Status(TextChoices):
    """The status of a request."""

    #: Has a queue row; a claim starts it. Lasts as long as the queue ahead of it, or a retry's delay.
    QUEUED = "queued", "Queued"
    #: A worker holds a claim with a lease; that worker, a cancel or the lease's expiry ends it.
    IN_PROGRESS = "in-progress", "In progress"
    #: Has its image. Final.
    COMPLETED = "completed", "Completed"
    #: Has an error, and no attempts left or an error that is not retried. Final unless retried manually.
    FAILED = "failed", "Failed"
    #: Cancelled by its owner or by staff. Final unless retried manually.
    CANCELLED = "cancelled", "Cancelled"


TERMINAL: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
ACTIVE: Final = frozenset(Status) - TERMINAL
#: Ended without an image; these can be retried manually.
GIVEN_UP: Final = TERMINAL - {Status.COMPLETED}

#: Percent, if no finer progress is known.
PROGRESS: Final[Mapping[str, int]] = {
    Status.QUEUED: 0,
    Status.IN_PROGRESS: 50,
    Status.COMPLETED: 100,
    Status.FAILED: 0,
    Status.CANCELLED: 0,
}


class Priority(TextChoices):
    """The priority of a request, most urgent first; also the names of the Celery queues."""

    URGENT = "urgent", "Urgent"
    HIGH = "high", "High"
    NORMAL = "normal", "Normal"
    LOW = "low", "Low"


WEIGHTS: Final[Mapping[str, int]] = {
    Priority.URGENT: 1000,
    Priority.HIGH: 100,
    Priority.NORMAL: 10,
    Priority.LOW: 1,
}
#: The weight of a request that waits for its references: below every queue, so that it is neither sent nor counted.
PARKED_WEIGHT: Final = 0
#: A retry has the lowest weight, so that first attempts go before it.
RETRY_WEIGHT: Final = WEIGHTS[Priority.LOW]


def queue_for(weight: int) -> str:
    """Return the Celery queue for this weight: the highest whose own weight is not above it."""
    return next(priority for priority, reach in WEIGHTS.items() if weight >= reach)


def next_weight(weight: int) -> int:
    """Return the weight one step up; the highest stays."""
    return min((reach for reach in WEIGHTS.values() if reach > weight), default=weight)


class GenerationType(TextChoices):
    """The type of image."""

    COLORING_PAGE = "coloring-page", "Coloring page"
    COVER = "cover", "Cover"
    ILLUSTRATION = "illustration", "Illustration"
    CHARACTER_REFERENCE = "character-reference", "Character reference"
    BACKGROUND = "background", "Background"


class ImageRole(TextChoices):
    """What an image that is sent with a prompt is for. Clients give the first three to references."""

    CHARACTER = "character", "Character"
    STYLE = "style", "Style"
    COMPOSITION = "composition", "Composition"
    #: The image that is edited.
    SOURCE = "source", "Image to edit"
    #: Transparent where the source is to change.
    MASK = "mask", "Mask"


#: The roles of references.
REFERENCE_ROLES: Final = (ImageRole.CHARACTER, ImageRole.STYLE, ImageRole.COMPOSITION)


class Scope(TextChoices):
    """A right of an API key."""

    REQUESTS_READ = "requests:read", "See requests, batches and images"
    REQUESTS_WRITE = "requests:write", "Submit, cancel and retry requests"
    UPLOADS = "uploads", "Upload images"
    BOOKS = "books", "Make books"
    WEBHOOKS = "webhooks", "Manage webhooks"
    METRICS = "metrics", "See the metrics of the service"


class ImageFormat(TextChoices):
    """A format in which images are made and stored. The value is its file extension, and the option's value."""

    PNG = "png", "PNG"
    JPEG = "jpeg", "JPEG"
    WEBP = "webp", "WebP"

    @property
    def content_type(self) -> str:
        """The media type, such as ``image/png``."""
        return f"image/{self.value}"


class ErrorCode(TextChoices):
    """Why a request failed."""

    REFUSED_INPUT = "refused_input", "The provider's safety system refused the prompt"
    REFUSED_OUTPUT = "refused_output", "The provider's safety system refused the image"
    INVALID_REQUEST = "invalid_request", "The provider rejected the request as invalid"
    AUTH = "auth", "The provider rejected the API key"
    QUOTA_EXHAUSTED = "quota_exhausted", "The provider's quota or credit is used up"
    RATE_LIMITED = "rate_limited", "The provider's rate limit was reached"
    UNAVAILABLE = "unavailable", "The provider is unreachable or has a server error"
    TIMEOUT = "timeout", "The request could not be sent to the provider in time"
    UNKNOWN_OUTCOME = "unknown_outcome", "Sent to the provider without an answer; it may have been billed"
    EMPTY_RESULT = "empty_result", "The provider's answer has no image"
    INVALID_IMAGE = "invalid_image", "The provider sent a broken image"
    MODEL_RETIRED = "model_retired", "The model is no longer available"
    STORAGE = "storage", "The image could not be stored"
    WORKER_LOST = "worker_lost", "The worker stopped during the attempt"
    INTERNAL = "internal", "Internal error"


class AttemptOutcome(TextChoices):
    """The outcome of one claim."""

    RUNNING = "running", "Running"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    #: Ended from outside: the request was cancelled, or the claim released.
    ABANDONED = "abandoned", "Abandoned"


class ProcessKind(TextChoices):
    """The kind of a process that sends heartbeats."""

    WORKER = "worker", "Worker"
    DISPATCHER = "dispatcher", "Dispatcher"
    DELIVERER = "deliverer", "Webhook deliverer"


class StyleScope(TextChoices):
    """What a prompt style applies to."""

    TYPE = "type", "Image type"
    IMAGE_STYLE = "image-style", "Image style"
    REFERENCE = "reference", "Reference image"


class PauseScope(TextChoices):
    """The scope of a pause."""

    EVERYTHING = "everything", "Everything"
    PRIORITY = "priority", "Priority"
    TYPE = "type", "Type"
    PROVIDER = "provider", "Provider"


class BulkActionName(TextChoices):
    """The actions of staff on one or many requests."""

    CANCEL = "cancel", "Cancel"
    RETRY = "retry", "Retry"
    REQUEUE = "requeue", "Requeue"
    PRIORITY = "priority", "Change priority"


class Reason(TextChoices):
    """The reason of a status change."""

    SUBMITTED = "submitted", "submitted"
    CLAIMED = "claimed", "claimed by a worker"
    COMPLETED = "completed", "image stored"
    FAILED = "failed", "failed"
    RETRY = "retry", "retry after an error"
    POSTPONED = "postponed", "the provider asked to wait"
    GIVEN_BACK = "given_back", "released by the worker"
    LEASE_EXPIRED = "lease_expired", "worker lost"
    CANCELLED = "cancelled", "cancelled"
    CLIENT_LEFT = "client_left", "the client left before it was sent"
    DEADLINE = "deadline", "cancelled at its deadline"
    REFERENCE_FAILED = "reference_failed", "its reference failed"
    RETRIED = "retried", "retried manually"


class CancelReason(TextChoices):
    """Why a request was cancelled, as its client sees it."""

    CLIENT = "client", "By its owner, or because the waiting client left"
    STAFF = "staff", "By staff"
    DEADLINE = "deadline", "Its deadline passed"
    REFERENCE_FAILED = "reference_failed", "Its reference failed"


class WaitReason(TextChoices):
    """Why a queued request waits, in the order in which clients are told."""

    PAUSED = "paused", "Staff have paused it"
    REFERENCE = "reference", "Waits for the image of another request"
    NOT_BEFORE = "not_before", "Is not to start before its time"
    RETRY = "retry", "Waits for its next attempt"
    BATCH_LIMIT = "batch_limit", "As many requests of its batch are in progress as may be"
    KEY_LIMIT = "key_limit", "As many requests of its API key are in progress as may be"
    PROVIDER_SUSPENDED = "provider_suspended", "The provider is not called at the moment"
    PROVIDER_RATE = "provider_rate", "The provider takes no more calls at the moment"
    NO_WORKER = "no_worker", "No worker is running"
    NO_DISPATCHER = "no_dispatcher", "No dispatcher is running"
    QUEUE = "queue", "Other requests are ahead of it"


class Approval(TextChoices):
    """The decision about the image of a completed request."""

    APPROVED = "approved", "Approved"
    REJECTED = "rejected", "Rejected"


class WebhookEventType(TextChoices):
    """An event that is sent to webhooks."""

    REQUEST_STARTED = "request.started", "A request was started"
    REQUEST_COMPLETED = "request.completed", "A request was completed"
    REQUEST_FAILED = "request.failed", "A request failed"
    REQUEST_CANCELLED = "request.cancelled", "A request was cancelled"
    REQUEST_APPROVED = "request.approved", "An image was approved"
    BATCH_COMPLETED = "batch.completed", "All requests of a batch have ended"
    #: Sent when its owner asks for it. No webhook subscribes to it.
    TEST = "webhook.test", "Test"


#: The events that a webhook can subscribe to.
WEBHOOK_EVENTS: Final = tuple(event for event in WebhookEventType if event is not WebhookEventType.TEST)
#: The events of a webhook that names none.
DEFAULT_WEBHOOK_EVENTS: Final = (
    WebhookEventType.REQUEST_COMPLETED,
    WebhookEventType.REQUEST_FAILED,
    WebhookEventType.REQUEST_CANCELLED,
)


class DeliveryState(TextChoices):
    """The state of a webhook delivery."""

    PENDING = "pending", "Pending"
    DELIVERED = "delivered", "Delivered"
    FAILED = "failed", "Failed"


class DisabledReason(TextChoices):
    """Why a webhook endpoint was disabled, if not by its owner."""

    GONE = "gone", "It answered 410 Gone"
    FAILING = "failing", "Nothing could be delivered for five days"
    STAFF = "staff", "The staff disabled it"


class Transition(NamedTuple):
    """A legal status change. ``source`` is ``None`` for a new request."""

    source: Status | None
    target: Status
    reason: Reason


#: All legal status changes. The lifecycle, the database constraint and the diagram in README.md are made from it.
TRANSITIONS: Final = (
    Transition(None, Status.QUEUED, Reason.SUBMITTED),
    Transition(Status.QUEUED, Status.IN_PROGRESS, Reason.CLAIMED),
    Transition(Status.IN_PROGRESS, Status.COMPLETED, Reason.COMPLETED),
    Transition(Status.IN_PROGRESS, Status.FAILED, Reason.FAILED),
    Transition(Status.IN_PROGRESS, Status.QUEUED, Reason.RETRY),
    Transition(Status.IN_PROGRESS, Status.QUEUED, Reason.POSTPONED),
    Transition(Status.IN_PROGRESS, Status.QUEUED, Reason.GIVEN_BACK),
    Transition(Status.IN_PROGRESS, Status.QUEUED, Reason.LEASE_EXPIRED),
    Transition(Status.IN_PROGRESS, Status.FAILED, Reason.LEASE_EXPIRED),
    Transition(Status.QUEUED, Status.CANCELLED, Reason.CANCELLED),
    Transition(Status.IN_PROGRESS, Status.CANCELLED, Reason.CANCELLED),
    Transition(Status.QUEUED, Status.CANCELLED, Reason.CLIENT_LEFT),
    Transition(Status.QUEUED, Status.CANCELLED, Reason.DEADLINE),
    Transition(Status.IN_PROGRESS, Status.CANCELLED, Reason.DEADLINE),
    Transition(Status.QUEUED, Status.CANCELLED, Reason.REFERENCE_FAILED),
    Transition(Status.FAILED, Status.QUEUED, Reason.RETRIED),
    Transition(Status.CANCELLED, Status.QUEUED, Reason.RETRIED),
)


def check_transitions(transitions: tuple[Transition, ...]) -> None:
    """Raise ``ValueError`` if a status is unreachable, has no way out, or is final but left."""
    if len(set(transitions)) != len(transitions):
        raise ValueError("a transition is listed twice")
    for status in Status:
        if not any(edge.target is status for edge in transitions):
            raise ValueError(f"nothing leads to {status}")
        leaves = any(edge.source is status for edge in transitions)
        if status in ACTIVE and not leaves:
            raise ValueError(f"nothing leads on from {status}")
    if any(edge.source is Status.COMPLETED for edge in transitions):
        raise ValueError("completed is final")
    if [edge.target for edge in transitions if edge.source is None] != [Status.QUEUED]:
        raise ValueError("a request begins queued and nowhere else")


check_transitions(TRANSITIONS)


def diagram() -> str:
    """Return the transitions as a Mermaid state diagram."""

    def node(status: Status | None) -> str:
        return "[*]" if status is None else status.value.replace("-", "_")

    names = [f'    state "{status.value}" as {node(status)}' for status in Status if "-" in status.value]
    steps = [f"    {node(edge.source)} --> {node(edge.target)}: {edge.reason.label}" for edge in TRANSITIONS]
    ends = [f"    {node(status)} --> [*]" for status in Status if status in TERMINAL]
    return "\n".join(["stateDiagram-v2", *names, *steps, *ends])


#: What to do about each error: for the pages, the admin and the command line.
ADVICE: Final[Mapping[str, str]] = {
    ErrorCode.REFUSED_INPUT: "Rephrase the prompt: often a single word triggers the safety system.",
    ErrorCode.REFUSED_OUTPUT: "Generate a new variation, or rephrase the prompt.",
    ErrorCode.INVALID_REQUEST: "Correct the request; the message says what is not accepted.",
    ErrorCode.AUTH: "Check the provider's key in the settings, and whether it may use this model.",
    ErrorCode.QUOTA_EXHAUSTED: "Add credit at the provider, then try again.",
    ErrorCode.RATE_LIMITED: "Try again later, or ask the provider for a higher limit.",
    ErrorCode.UNAVAILABLE: "Try again later; the provider's status page may say more.",
    ErrorCode.TIMEOUT: "Try again; if it happens often, check the network between the workers and the provider.",
    ErrorCode.UNKNOWN_OUTCOME: (
        "Check the provider's bill before you retry: the call may have been charged. If it happens often, raise "
        "PROVIDER_TIMEOUT_MS."
    ),
    ErrorCode.EMPTY_RESULT: "Try again, or ask for an image more clearly in the prompt.",
    ErrorCode.INVALID_IMAGE: "Try again, or choose another model.",
    ErrorCode.MODEL_RETIRED: "Choose another model, or set a successor for this one.",
    ErrorCode.STORAGE: "Free space in the image storage, or correct its settings, then try again.",
    ErrorCode.WORKER_LOST: "Try again; if it happens often, check the workers' logs and memory.",
    ErrorCode.INTERNAL: "Check the workers' logs.",
}
