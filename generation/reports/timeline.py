"""The timeline of a request: its status changes with titles, attempts and errors in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from generation.models import GenerationAttempt, GenerationRequest, StatusChange
from generation.states import ADVICE, ErrorCode, Reason

_TITLES: Final = {
    Reason.SUBMITTED: "Submitted",
    Reason.CLAIMED: "Started",
    Reason.COMPLETED: "Image stored",
    Reason.FAILED: "Failed",
    Reason.RETRY: "Queued again for a retry",
    Reason.POSTPONED: "Queued again: the provider asked to wait",
    Reason.GIVEN_BACK: "Queued again by a worker that stopped",
    Reason.LEASE_EXPIRED: "Worker lost",
    Reason.CANCELLED: "Cancelled",
    Reason.CLIENT_LEFT: "Cancelled: the client left before it was sent",
    Reason.DEADLINE: "Cancelled at its deadline",
    Reason.REFERENCE_FAILED: "Cancelled: the image of a reference failed",
    Reason.RETRIED: "Retried manually",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """An error with its label, the message of the provider, and advice."""

    code: str
    label: str
    message: str
    advice: str
    details: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One status change. A claim has the ``attempt`` that it started, and that attempt's ``problem`` if it failed;
    ``later`` is the time since the previous step."""

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
    """Return the timeline of the request, oldest step first."""
    attempts = {attempt.claim: attempt for attempt in request.attempt_log.all()}
    result: list[Step] = []
    previous: StatusChange | None = None
    for change in request.status_changes.select_related("actor").order_by("sequence"):
        attempt = attempts.get(change.claim) if change.reason == Reason.CLAIMED else None
        result.append(
            Step(
                sequence=change.sequence,
                title=_TITLES[Reason(change.reason)],
                status=change.to_status,
                reason=change.reason,
                at=change.at,
                later=change.at - previous.at if previous else None,
                actor=change.actor.get_username() if change.actor else "",
                attempt=attempt,
                problem=problem(attempt.error_code, attempt.error_message) if attempt and attempt.error_code else None,
            )
        )
        previous = change
    return result


def problem(code: str, message: str, **details: Any) -> Problem:
    """Return the problem for an error code and message; ``stage`` and ``category`` are details of a refusal."""
    is_known = code in ErrorCode.values
    return Problem(
        code=code,
        label=ErrorCode(code).label if is_known else code,
        message=message,
        advice=ADVICE.get(code, ""),
        details=", ".join(str(value) for value in details.values() if value),
    )


def problem_of(request: GenerationRequest) -> Problem | None:
    """Return the problem of a failed request, else None."""
    if not request.error:
        return None
    error = request.error
    return problem(
        error.get("code", ""), error.get("message") or "", stage=error.get("stage"), category=error.get("category")
    )
