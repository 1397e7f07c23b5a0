"""The tables. Constraints refuse rows that must not exist; the statuses are written by ``lifecycle`` alone."""

from generation.models.access import ApiKey
from generation.models.control import BulkAction, Pause
from generation.models.counters import Counter, CounterChange, QueueLength
from generation.models.estimates import GivenEstimate
from generation.models.processes import WorkerProcess
from generation.models.providers import ModelState, PromptStyle, ProviderModel, ProviderState
from generation.models.references import GenerationReference
from generation.models.requests import GenerationBatch, GenerationRequest, IdempotencyKey
from generation.models.spending import Budget, SharedPicture, Spending
from generation.models.uploads import Upload
from generation.models.webhooks import WebhookDelivery, WebhookEndpoint, WebhookEvent, WebhookSecret
from generation.models.work import GenerationAttempt, GenerationQueue, StatusChange

__all__ = [
    "ApiKey",
    "Budget",
    "BulkAction",
    "Counter",
    "CounterChange",
    "GenerationAttempt",
    "GenerationBatch",
    "GenerationQueue",
    "GenerationReference",
    "GenerationRequest",
    "GivenEstimate",
    "IdempotencyKey",
    "ModelState",
    "Pause",
    "PromptStyle",
    "ProviderModel",
    "ProviderState",
    "QueueLength",
    "SharedPicture",
    "Spending",
    "StatusChange",
    "Upload",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
    "WebhookSecret",
    "WorkerProcess",
]
