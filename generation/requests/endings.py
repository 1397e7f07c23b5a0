"""Ends of a claim as data, so that the ends of several claims can be written by one statement."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from generation.requests.claims import AttemptFailure, Claim
from generation.states import RETRY_WEIGHT, WEIGHTS, AttemptOutcome, Reason, Status, Transition

_COMPLETED: Final = Transition(Status.IN_PROGRESS, Status.COMPLETED, Reason.COMPLETED)
_FAILED: Final = Transition(Status.IN_PROGRESS, Status.FAILED, Reason.FAILED)
#: A worker was lost, and no attempt is left.
_LOST: Final = Transition(Status.IN_PROGRESS, Status.FAILED, Reason.LEASE_EXPIRED)
#: Columns of an ending that is nothing special.
_PLAIN: Final[dict[str, Any]] = {"expired": False, "keep_deadline": False, "error_code": "", "error_message": ""}


@dataclass(frozen=True, kw_only=True, slots=True)
class LateCost:
    """A cost that is booked to the claim ``paid_by`` if that is not the ended claim, or if the end had no effect.

    ``columns`` are those of the attempt, ``price`` is in US dollars.
    """

    paid_by: int
    columns: dict[str, Any]
    price: Decimal | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """The end of a claim. ``columns`` are those of the statement's array.

    If ``send`` is set, the message of a request that is queued again may be sent at once.
    """

    claim: Claim
    transition: Transition
    columns: dict[str, Any]
    late_cost: LateCost | None = None
    send: bool = False

    @property
    def requeues(self) -> bool:
        """Whether the request is queued again."""
        return self.transition.target == Status.QUEUED

    @property
    def needs_transaction(self) -> bool:
        """Whether the end is more than one statement."""
        return self.late_cost is not None and self.late_cost.paid_by != self.claim.number

    @property
    def is_grouped(self) -> bool:
        """Whether the end may be written together with those of other claims."""
        return not self.needs_transaction and not self.send


def completed(
    claim: Claim,
    *,
    result: dict[str, Any],
    model: str,
    provider_request_id: str = "",
    usage: dict[str, int] | None = None,
    cost: str | None = None,
    estimate: str | None = None,
    paid_by: int | None = None,
    lost_cost: Decimal | None = None,
    expired: bool = False,
) -> Ending:
    """The request is completed with its stored image.

    ``cost`` is in US dollars; if it is unknown, the ``estimate`` is booked. ``paid_by`` is the number of the earlier
    claim that made the call, whose cost may be booked in part. ``lost_cost`` is the possible cost of a further call by
    this claim. With ``expired``, the claim is ended only if its lease ran out.
    """
    known_cost = None if cost is None else Decimal(cost)
    price = Decimal(estimate) if known_cost is None and estimate is not None else known_cost
    paying_claim = claim.number if paid_by is None else paid_by
    columns: dict[str, Any] = {"model": model, "provider_request": provider_request_id, "usage": usage or {}}
    columns |= {"result": result, "expired": expired, "outcome": AttemptOutcome.SUCCEEDED}
    if paying_claim == claim.number:
        columns |= {"booked": price, "cost": known_cost}
    else:
        columns |= {"booked": lost_cost, "cost": None if lost_cost else Decimal(0)}
    attempt = {"model": model, "provider_request_id": provider_request_id, "usage": usage or {}, "cost": known_cost}
    late_cost = LateCost(paid_by=paying_claim, columns=attempt, price=price)
    return _ending(claim, _COMPLETED, columns, late_cost=late_cost)


def failed(claim: Claim, failure: AttemptFailure) -> Ending:
    """The request failed for good."""
    return _ending(claim, _FAILED, failure.attempt_columns() | {"error": failure.request_error()})


def lost(claim: Claim, failure: AttemptFailure) -> Ending:
    """The request failed since its worker was lost and no attempt is left. The call keeps its slot at the provider
    until its deadline."""
    columns = {"error": failure.request_error(), "expired": True, "keep_deadline": True}
    return _ending(claim, _LOST, failure.attempt_columns() | columns)


def retried(claim: Claim, failure: AttemptFailure, *, delay: timedelta) -> Ending:
    """The request is queued again after a failed attempt, behind requests without one, and not due before the delay is
    over."""
    return requeued(claim, Reason.RETRY, failure.attempt_columns(), weight=RETRY_WEIGHT, delay=delay)


def snoozed(claim: Claim, failure: AttemptFailure, *, delay: timedelta) -> Ending:
    """The request is queued again as by :func:`retried`, but with a wait counted and no attempt, since the provider did
    not fail but asked to wait."""
    columns = failure.attempt_columns() | {"attempts_back": 1, "waits": 1}
    return requeued(claim, Reason.POSTPONED, columns, weight=RETRY_WEIGHT, delay=delay)


def released(claim: Claim, *, delay: timedelta = timedelta(0), waits_for: str = "") -> Ending:
    """A claim under which nothing was sent is released: the request is queued again at its priority, without counting
    the attempt. It is due after the delay, or as soon as ``waits_for`` is made due."""
    columns = {"outcome": AttemptOutcome.ABANDONED, "attempts_back": 1, "waits_for": waits_for}
    return requeued(claim, Reason.GIVEN_BACK, columns, weight=WEIGHTS[claim.request.priority], delay=delay)


def requeued(
    claim: Claim,
    reason: Reason,
    columns: dict[str, Any],
    *,
    weight: int,
    delay: timedelta = timedelta(0),
    send: bool = True,
) -> Ending:
    """The request is queued again. With ``send`` and no delay, its message is sent after the commit; else the
    dispatcher sends it when it is due. ``columns`` may have ``attempts_back`` and ``waits``, which are subtracted from
    the request's attempts and added to its waits."""
    queue: dict[str, Any] = {"attempts_back": 0, "waits": 0, "waits_for": "", "sent": False}
    queue |= {"weight": weight, "delay": delay.total_seconds()}
    transition = Transition(Status.IN_PROGRESS, Status.QUEUED, reason)
    return _ending(claim, transition, queue | columns, send=send and not delay)


def _ending(
    claim: Claim,
    transition: Transition,
    columns: dict[str, Any],
    *,
    late_cost: LateCost | None = None,
    send: bool = False,
) -> Ending:
    request, number = claim.key
    key = {"request": request, "claim": number, "target": transition.target, "reason": transition.reason}
    return Ending(claim=claim, transition=transition, columns=_PLAIN | key | columns, late_cost=late_cost, send=send)
