"""The meaning of each error code: one table for retry, fallback, the provider's health, attempts, billing and logging.

:func:`decide` is the only place that turns a failed call into the next step of its request. It reads no clock, no
database and no setting.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from generation.states import ErrorCode

#: How often a request may be told to wait without using up an attempt.
MAX_WAITS: Final = 10
#: From the guide: an unclassified error is retryable if its text contains one of these phrases.
RETRYABLE_PHRASES: Final = ("rate limit", "timeout", "network", "temporary", "service unavailable")


class ErrorScope(StrEnum):
    """What an error is about: this request alone, one model, or the whole provider."""

    REQUEST = "request"
    MODEL = "model"
    PROVIDER = "provider"


class Retry(StrEnum):
    """Whether another attempt may help."""

    NEVER = "never"
    YES = "yes"
    #: The call may have been billed, so it is repeated once whatever ``maxAttempts`` says.
    ONCE = "once"
    #: An unclassified error: never, unless the place that caught it says otherwise, by :func:`has_retryable_phrase`.
    IF_MARKED = "if_marked"


class Fallback(StrEnum):
    """Whether another provider may be called."""

    NO = "no"
    YES = "yes"
    #: Only if the client allows it with ``metadata.onRefusal``.
    IF_CLIENT_ALLOWS = "if_client_allows"
    #: Only if the error is about a limit of this model or provider, or nothing was sent.
    UNLESS_ABOUT_REQUEST = "unless_about_request"


class Snooze(StrEnum):
    """Whether a retry after the error uses up no attempt, up to :data:`MAX_WAITS` times."""

    NO = "no"
    YES = "yes"
    #: Only if nothing was sent, so that no provider failed.
    IF_NOT_SENT = "if_not_sent"


class Health(StrEnum):
    """Effect of the error on the circuit breaker of the provider or model that it is about."""

    NOTHING = "nothing"
    #: The provider answered, so it works.
    ANSWERED = "answered"
    #: The provider asks to wait.
    BUSY = "busy"
    #: One of several failures that together open the circuit breaker.
    TROUBLE = "trouble"
    #: Another call will not help; staff have to act. One such error opens the breaker.
    NEEDS_STAFF = "needs_staff"


class Action(StrEnum):
    """The next step of a request whose call failed."""

    #: Call the next provider of the route at once.
    FALL_BACK = "fall_back"
    #: Wait without using up an attempt.
    SNOOZE = "snooze"
    #: Use up the attempt and try again after the backoff.
    RETRY = "retry"
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorPolicy:
    """The rules of one error code.

    ``scope`` applies unless the adapter sets another one. ``uses_attempt`` says whether a fallback after the error uses
    up an attempt, ``may_be_billed`` whether the vendor may bill a call that was sent and ended with it.
    """

    retry: Retry
    fallback: Fallback
    health: Health
    scope: ErrorScope = ErrorScope.REQUEST
    snooze: Snooze = Snooze.NO
    uses_attempt: bool = True
    may_be_billed: bool = True
    severity: int = logging.INFO


POLICIES: Final[Mapping[str, ErrorPolicy]] = {
    ErrorCode.REFUSED_INPUT: ErrorPolicy(
        retry=Retry.NEVER, fallback=Fallback.IF_CLIENT_ALLOWS, health=Health.ANSWERED, may_be_billed=False
    ),
    # The image was made before it was withheld.
    ErrorCode.REFUSED_OUTPUT: ErrorPolicy(
        retry=Retry.NEVER, fallback=Fallback.IF_CLIENT_ALLOWS, health=Health.ANSWERED
    ),
    ErrorCode.INVALID_REQUEST: ErrorPolicy(
        retry=Retry.NEVER,
        fallback=Fallback.UNLESS_ABOUT_REQUEST,
        health=Health.ANSWERED,
        uses_attempt=False,
        may_be_billed=False,
    ),
    ErrorCode.AUTH: ErrorPolicy(
        retry=Retry.NEVER,
        fallback=Fallback.YES,
        health=Health.NEEDS_STAFF,
        scope=ErrorScope.PROVIDER,
        uses_attempt=False,
        may_be_billed=False,
        severity=logging.ERROR,
    ),
    ErrorCode.QUOTA_EXHAUSTED: ErrorPolicy(
        retry=Retry.NEVER,
        fallback=Fallback.YES,
        health=Health.NEEDS_STAFF,
        scope=ErrorScope.PROVIDER,
        uses_attempt=False,
        may_be_billed=False,
        severity=logging.ERROR,
    ),
    ErrorCode.RATE_LIMITED: ErrorPolicy(
        retry=Retry.YES,
        fallback=Fallback.YES,
        health=Health.BUSY,
        scope=ErrorScope.PROVIDER,
        snooze=Snooze.YES,
        uses_attempt=False,
        may_be_billed=False,
    ),
    ErrorCode.UNAVAILABLE: ErrorPolicy(
        retry=Retry.YES,
        fallback=Fallback.YES,
        health=Health.TROUBLE,
        scope=ErrorScope.PROVIDER,
        uses_attempt=False,
        may_be_billed=False,
        severity=logging.WARNING,
    ),
    # The time limit passed before anything was sent.
    ErrorCode.TIMEOUT: ErrorPolicy(
        retry=Retry.YES,
        fallback=Fallback.YES,
        health=Health.TROUBLE,
        scope=ErrorScope.PROVIDER,
        uses_attempt=False,
        may_be_billed=False,
        severity=logging.WARNING,
    ),
    ErrorCode.UNKNOWN_OUTCOME: ErrorPolicy(
        retry=Retry.ONCE,
        fallback=Fallback.YES,
        health=Health.TROUBLE,
        scope=ErrorScope.PROVIDER,
        severity=logging.WARNING,
    ),
    ErrorCode.EMPTY_RESULT: ErrorPolicy(retry=Retry.YES, fallback=Fallback.YES, health=Health.ANSWERED),
    # Another image would cost again, which is the client's decision.
    ErrorCode.INVALID_IMAGE: ErrorPolicy(
        retry=Retry.NEVER, fallback=Fallback.NO, health=Health.ANSWERED, severity=logging.WARNING
    ),
    ErrorCode.MODEL_RETIRED: ErrorPolicy(
        retry=Retry.NEVER,
        fallback=Fallback.YES,
        health=Health.NEEDS_STAFF,
        scope=ErrorScope.MODEL,
        uses_attempt=False,
        may_be_billed=False,
        severity=logging.WARNING,
    ),
    ErrorCode.STORAGE: ErrorPolicy(
        retry=Retry.YES,
        fallback=Fallback.NO,
        health=Health.ANSWERED,
        snooze=Snooze.IF_NOT_SENT,
        severity=logging.ERROR,
    ),
    ErrorCode.WORKER_LOST: ErrorPolicy(
        retry=Retry.YES, fallback=Fallback.NO, health=Health.NOTHING, may_be_billed=False, severity=logging.WARNING
    ),
    ErrorCode.INTERNAL: ErrorPolicy(
        retry=Retry.IF_MARKED, fallback=Fallback.NO, health=Health.NOTHING, severity=logging.ERROR
    ),
}


class Problem(Protocol):
    """The facts of one failed call. ``workers.providers.base.ProviderError`` has them."""

    @property
    def code(self) -> str:
        """One of :class:`generation.states.ErrorCode`."""

    @property
    def retryable(self) -> bool:
        """Whether another attempt may help."""

    @property
    def sent(self) -> bool:
        """Whether the request may have reached the vendor."""

    @property
    def scope(self) -> ErrorScope:
        """What the error is about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """A request whose call just failed.

    ``problems`` are the failures of this run, the newest last. ``others_left`` says whether the route has another
    provider. ``attempts`` counts the current one. ``unknown_outcomes`` counts earlier billable calls of the request
    that were sent and not answered. ``billable`` says whether the newest call costs money.
    """

    problems: Sequence[Problem]
    others_left: bool
    attempts: int
    max_attempts: int
    waits: int
    unknown_outcomes: int
    refusal_may_fall_back: bool = False
    billable: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The next step. ``problem`` is the failure that decided it and sets the delay; ``uses_attempt`` is for a
    fallback."""

    action: Action
    problem: Problem
    uses_attempt: bool


def is_retryable(code: str) -> bool:
    """Return whether another attempt may help after an error of this code."""
    return POLICIES[code].retry in {Retry.YES, Retry.ONCE}


def has_retryable_phrase(text: str) -> bool:
    """Return whether the text of an unclassified error indicates a temporary problem."""
    return any(phrase in text.lower() for phrase in RETRYABLE_PHRASES)


def uses_attempt(problem: Problem) -> bool:
    """Return whether the failure counts against ``maxAttempts`` when another provider is called instead."""
    return problem.sent and POLICIES[problem.code].uses_attempt


def may_be_billed(code: str) -> bool:
    """Return whether the vendor may bill a call that was begun and ended with this error."""
    return POLICIES[code].may_be_billed


def outcome_is_unknown(problem: Problem) -> bool:
    """Return whether the call may have been billed without a result. A request is allowed two such calls at most."""
    unclassified = problem.code == ErrorCode.INTERNAL and problem.sent
    return unclassified or problem.code == ErrorCode.UNKNOWN_OUTCOME


def says_model_is_unserved(problem: Problem) -> bool:
    """Return whether the provider does not serve this model, while it may serve others."""
    return problem.scope is ErrorScope.MODEL and POLICIES[problem.code].health is Health.NEEDS_STAFF


def can_fall_back(problem: Problem, *, refusal_may_fall_back: bool) -> bool:
    """Return whether another provider may be called after this failure."""
    match POLICIES[problem.code].fallback:
        case Fallback.NO:
            return False
        case Fallback.YES:
            return True
        case Fallback.IF_CLIENT_ALLOWS:
            return refusal_may_fall_back
        case Fallback.UNLESS_ABOUT_REQUEST:
            return not problem.sent or problem.scope is not ErrorScope.REQUEST


def decide(situation: Situation) -> Decision:
    """Return the next step of the request: fall back, snooze, retry or fail."""
    newest = situation.problems[-1]
    newest_uses_attempt = uses_attempt(newest)

    def next_step(action: Action, problem: Problem = newest) -> Decision:
        return Decision(action=action, problem=problem, uses_attempt=newest_uses_attempt)

    # After the second call that may have been billed without a result, no provider is called again.
    if outcome_is_unknown(newest) and situation.billable and situation.unknown_outcomes:
        return next_step(Action.FAIL)
    may_fall_back = can_fall_back(newest, refusal_may_fall_back=situation.refusal_may_fall_back)
    attempts_left = situation.attempts < situation.max_attempts
    if situation.others_left and may_fall_back and (attempts_left or not newest_uses_attempt):
        return next_step(Action.FALL_BACK)
    deciding = max(reversed(situation.problems), key=_promise) if may_fall_back else newest
    # Another image would be paid for as well, and the storage would not be any better.
    paid_and_lost = newest.code == ErrorCode.STORAGE and newest.sent and situation.billable
    if paid_and_lost or not deciding.retryable:
        return next_step(Action.FAIL, deciding)
    # If the newest call may have been billed, it uses up an attempt even if an earlier failure decides.
    if _snoozes(deciding) and not newest_uses_attempt and situation.waits < MAX_WAITS:
        return next_step(Action.SNOOZE, deciding)
    return next_step(Action.RETRY if attempts_left else Action.FAIL, deciding)


def _snoozes(problem: Problem) -> bool:
    snooze = POLICIES[problem.code].snooze
    return snooze is Snooze.YES or (snooze is Snooze.IF_NOT_SENT and not problem.sent)


def _promise(problem: Problem) -> int:
    """Rank a failure by how much waiting may help: a rate limit first, then any retryable error."""
    return problem.retryable + (problem.code == ErrorCode.RATE_LIMITED)
