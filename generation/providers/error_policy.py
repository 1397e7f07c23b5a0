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
    """How much an error says something about: this request alone, one model, or the whole provider."""

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
    """Whether another provider may be asked."""

    NO = "no"
    YES = "yes"
    #: Only where the client allows it with ``metadata.onRefusal``.
    IF_CLIENT_ALLOWS = "if_client_allows"
    #: Only where the error names a limit of this model or provider, or nothing was sent.
    UNLESS_ABOUT_REQUEST = "unless_about_request"


class Snooze(StrEnum):
    """Whether a retry after it uses up no attempt, as often as a request may wait."""

    NO = "no"
    YES = "yes"
    #: Nothing was sent and no provider failed.
    IF_NOT_SENT = "if_not_sent"


class Health(StrEnum):
    """Effect of the error on the circuit breaker of the provider or model that it is about."""

    NOTHING = "nothing"
    #: It answered, so it works.
    ANSWERED = "answered"
    #: It asks to wait.
    BUSY = "busy"
    #: One of several failures that together open the circuit breaker.
    TROUBLE = "trouble"
    #: Another call will not help; staff have to act. One such error opens the breaker.
    NEEDS_STAFF = "needs_staff"


class Action(StrEnum):
    """The next step of a request whose call failed."""

    #: Ask the next provider of the route at once.
    FALL_BACK = "fall_back"
    #: Wait without using up an attempt.
    SNOOZE = "snooze"
    #: Use up the attempt and try again after the backoff.
    RETRY = "retry"
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorPolicy:
    """The rules of one error code.

    ``scope`` is what the error is about unless the adapter narrows it. ``uses_attempt`` says whether a fallback after
    it uses up an attempt. ``may_be_billed`` says whether a call that was sent and ended so may stand on the vendor's
    bill.
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
    # Nothing was sent within the time.
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
    # Another image would be paid for again, which is for the client to decide.
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
        """How much the error says something about."""


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
    """The next step. ``problem`` is the failure that decided it, for the wait; ``uses_attempt`` is for a fallback."""

    action: Action
    problem: Problem
    uses_attempt: bool


def is_retryable(code: str) -> bool:
    """Return whether another attempt may help after an error of this code."""
    return POLICIES[code].retry in {Retry.YES, Retry.ONCE}


def has_retryable_phrase(text: str) -> bool:
    """Return whether the text of an unclassified error says that it may pass."""
    return any(phrase in text.lower() for phrase in RETRYABLE_PHRASES)


def uses_attempt(problem: Problem) -> bool:
    """Return whether the failure counts against ``maxAttempts`` when another provider is asked instead."""
    return problem.sent and POLICIES[problem.code].uses_attempt


def may_be_billed(code: str) -> bool:
    """Return whether a call that was begun and ended with this error may stand on the vendor's bill."""
    return POLICIES[code].may_be_billed


def outcome_is_unknown(problem: Problem) -> bool:
    """Return whether the call may have been billed for nothing, which may happen to a request twice at the most."""
    unclassified = problem.code == ErrorCode.INTERNAL and problem.sent
    return unclassified or problem.code == ErrorCode.UNKNOWN_OUTCOME


def says_model_is_unserved(problem: Problem) -> bool:
    """Return whether the provider said that it does not serve this model, while it may serve others."""
    return problem.scope is ErrorScope.MODEL and POLICIES[problem.code].health is Health.NEEDS_STAFF


def may_ask_others(problem: Problem, *, refusal_may_fall_back: bool) -> bool:
    """Return whether another provider may be asked after this failure."""
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
    """Return what becomes of the request: fall back, snooze, retry or fail."""
    newest = situation.problems[-1]
    counts = uses_attempt(newest)

    def next_step(action: Action, problem: Problem = newest) -> Decision:
        return Decision(action=action, problem=problem, uses_attempt=counts)

    # The second call that may have been billed for nothing is the last one, whichever provider would be next.
    if outcome_is_unknown(newest) and situation.billable and situation.unknown_outcomes:
        return next_step(Action.FAIL)
    open_to_others = may_ask_others(newest, refusal_may_fall_back=situation.refusal_may_fall_back)
    attempts_left = situation.attempts < situation.max_attempts
    if situation.others_left and open_to_others and (attempts_left or not counts):
        return next_step(Action.FALL_BACK)
    deciding = max(reversed(situation.problems), key=_promise) if open_to_others else newest
    # Another image would be paid for as well, and would not make the storage any better.
    paid_and_lost = newest.code == ErrorCode.STORAGE and newest.sent and situation.billable
    if paid_and_lost or not deciding.retryable:
        return next_step(Action.FAIL, deciding)
    # A newest call that may have been billed uses up an attempt all the same.
    if _snoozes(deciding) and not counts and situation.waits < MAX_WAITS:
        return next_step(Action.SNOOZE, deciding)
    return next_step(Action.RETRY if attempts_left else Action.FAIL, deciding)


def _snoozes(problem: Problem) -> bool:
    snooze = POLICIES[problem.code].snooze
    return snooze is Snooze.YES or (snooze is Snooze.IF_NOT_SENT and not problem.sent)


def _promise(problem: Problem) -> int:
    """Rank a failure by how much waiting may help: told to wait first, then any retryable error."""
    return problem.retryable + (problem.code == ErrorCode.RATE_LIMITED)
