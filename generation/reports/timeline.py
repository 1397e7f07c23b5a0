"""What happened to a request, step by step, in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from generation.models import GenerationAttempt, GenerationRequest, StatusChange
from generation.states import ADVICE, ErrorCode, Reason

_TITLES: Final = {
    Reason.SUBMITTED: "Submitted",
    Reason.CLAIMED: "Taken by a worker",
    Reason.COMPLETED: "Picture stored",
    Reason.FAILED: "Failed",
    Reason.RETRY: "Back in the queue, to be tried again",
    Reason.POSTPONED: "Back in the queue: the provider asked to wait",
    Reason.GIVEN_BACK: "Given back by a worker that was stopped",
    Reason.LEASE_EXPIRED: "The worker was lost",
    Reason.CANCELLED: "Cancelled",
    Reason.RETRIED: "Queued again by hand",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """An error in plain words, what the provider said of it, and what to do."""

    code: str
    label: str
    message: str
    advice: str
    details: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One change of the status. What a worker took has the ``attempt`` that began, and its ``problem`` if it had one;
    ``later`` is the time since the step before."""

    sequence: int
    title: str
    status: str
    reason: str
    at: datetime
    later: timedelta | None
    actor: str
    attempt: GenerationAttempt | None
    problem: Problem | None


def steps(request: GenerationRequest) -> list[Step]:
    """The history of the request, the oldest step first."""
    attempts = {attempt.claim: attempt for attempt in request.attempt_log.all()}
    found: list[Step] = []
    before: StatusChange | None = None
    for change in request.status_changes.select_related("actor").order_by("sequence"):
        attempt = attempts.get(change.claim) if change.reason == Reason.CLAIMED else None
        found.append(
            Step(
                sequence=change.sequence,
                title=_TITLES[Reason(change.reason)],
                status=change.to_status,
                reason=change.reason,
                at=change.at,
                later=change.at - before.at if before else None,
                actor=change.actor.get_username() if change.actor else "",
                attempt=attempt,
                problem=problem(attempt.error_code, attempt.error_message) if attempt and attempt.error_code else None,
            )
        )
        before = change
    return found


def problem(code: str, message: str, **details: Any) -> Problem:
    """Any error code with what was said of it; ``stage`` and ``category`` are those of a refusal."""
    known = code in ErrorCode.values
    return Problem(
        code=code,
        label=ErrorCode(code).label if known else code,
        message=message,
        advice=ADVICE.get(code, ""),
        details=", ".join(str(value) for value in details.values() if value),
    )


def problem_of(request: GenerationRequest) -> Problem | None:
    """Why the request failed, if it did."""
    if not request.error:
        return None
    error = request.error
    return problem(
        error.get("code", ""), error.get("message") or "", stage=error.get("stage"), category=error.get("category")
    )
