"""Types of a worker's attempt: the claim of a request, the permit to call a provider, and the failure."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Q, QuerySet

from generation.models import GenerationAttempt, GenerationRequest
from generation.states import AttemptOutcome, Status


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's claim of one request, with a lease. ``number`` is the fencing token: after a later claim, no write of
    this one has an effect. ``lease_requested_at`` is the time before the claim, by this process's monotonic clock."""

    request: GenerationRequest
    number: int
    lease_requested_at: float = field(default_factory=time.monotonic, compare=False)

    @property
    def key(self) -> tuple[str, int]:
        """The id of the request and the number of the claim."""
        return self.request.pk, self.number

    @property
    def fence(self) -> Q:
        """The condition of the claim still being valid."""
        return Q(pk=self.request.pk, status=Status.IN_PROGRESS, claims=self.number)

    def attempt(self) -> QuerySet[GenerationAttempt]:
        """Return a queryset of the attempt's row."""
        return GenerationAttempt.objects.filter(request_id=self.request.pk, claim=self.number)


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptFailure:
    """The reason why an attempt gave no image.

    ``message`` is shown to clients and contains no secret. For a refusal by a safety system, ``stage`` is ``input`` or
    ``output``, and ``category`` names the content that it objects to. ``cost`` is the possible cost of the call in US
    dollars, None if it cannot have cost anything or its price is unknown.
    """

    message: str
    code: str
    retryable: bool
    provider: str = ""
    provider_request_id: str = ""
    stage: str = ""
    category: str = ""
    cost: Decimal | None = None

    def request_error(self) -> dict[str, Any]:
        """Return the error that a failed request stores and its client sees."""
        return {
            "message": self.message,
            "code": self.code,
            "retryable": self.retryable,
            "provider": self.provider or None,
            "stage": self.stage or None,
            "category": self.category or None,
        }

    def attempt_columns(self) -> dict[str, Any]:
        """Return the columns of the attempt's row, as the statement that ends it names them."""
        return {
            "outcome": AttemptOutcome.FAILED,
            "error_code": self.code,
            "error_message": self.message,
            "provider_request": self.provider_request_id,
            "booked": self.cost,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class CallPermit:
    """The answer to whether a provider may be called.

    If it is not ``granted``, try again after ``wait``: the provider is suspended or paused (``provider_suspended``), or
    has no free slot. Or the call is ``over_budget``, with a ``budget_message`` for the owner.

    If it is granted, the outcome of a ``probe`` closes or opens the circuit breaker; and a success has to be reported
    to the breaker of a ``recently_failing`` provider.
    """

    granted: bool
    probe: bool = False
    recently_failing: bool = False
    provider_suspended: bool = False
    over_budget: bool = False
    budget_message: str = ""
    wait: timedelta = timedelta(0)


class StaleClaimError(Exception):
    """The claim is no longer valid: the request was cancelled, or the lease ran out."""
