"""What a worker has of a request: the claim, the permit to call a provider, and why it failed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from django.db.models import Q, QuerySet

from generation.models import GenerationAttempt, GenerationRequest
from generation.states import AttemptOutcome, Status


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to one request. Its number is the fence: a later claim makes every write of this one void.
    ``asked_at`` is when its lease was asked for, by the monotonic clock of this process."""

    request: GenerationRequest
    number: int
    asked_at: float = field(default_factory=time.monotonic, compare=False)

    @property
    def fence(self) -> Q:
        """The condition under which this claim still holds."""
        return Q(pk=self.request.pk, status=Status.IN_PROGRESS, claims=self.number)

    def attempt(self) -> QuerySet[GenerationAttempt]:
        """Return the attempt's row."""
        return GenerationAttempt.objects.filter(request_id=self.request.pk, claim=self.number)


#: An attempt that ends without an error, a call or a cost.
NO_OUTCOME: Final[dict[str, Any]] = {
    "error_code": "",
    "error_message": "",
    "provider_request": None,
    "model": None,
    "usage": None,
    "cost": None,
    "booked": None,
    "keep_deadline": False,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why an attempt gave no image. ``message`` is for people and carries no secret. Of a refusal by a safety system
    ``stage`` is ``input`` or ``output``, and ``category`` what it is held to show. ``cost`` is what the call may have
    cost in US dollars, None if it cannot have cost anything or its price is not known."""

    message: str
    code: str
    retryable: bool
    provider: str = ""
    provider_request_id: str = ""
    stage: str = ""
    category: str = ""
    cost: Decimal | None = None

    def as_error(self) -> dict[str, Any]:
        """What a failed request keeps and its client sees."""
        return {
            "message": self.message,
            "code": self.code,
            "retryable": self.retryable,
            "provider": self.provider or None,
            "stage": self.stage or None,
            "category": self.category or None,
        }

    def as_attempt(self) -> dict[str, Any]:
        """What the row of the attempt keeps, as parameters of the statement that ends it."""
        return {
            "outcome": AttemptOutcome.FAILED,
            "error_code": self.code,
            "error_message": self.message,
            "provider_request": self.provider_request_id,
            "booked": self.cost,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class CallPermit:
    """Whether a provider may be called. Where not, asking again makes sense after ``wait``: it is ``suspended``, or has
    as many calls as it may; or the call is ``over_budget``, of which ``refusal`` tells the owner. The outcome of a
    ``probe`` decides for a provider that was in trouble. After recent failures a provider is ``troubled``, so an answer
    has to be noted."""

    granted: bool
    probe: bool = False
    troubled: bool = False
    suspended: bool = False
    over_budget: bool = False
    refusal: str = ""
    wait: timedelta = timedelta(0)


class StaleClaimError(Exception):
    """Somebody cancelled, or the lease ran out: the request is not this worker's any more."""
