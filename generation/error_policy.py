"""What each error code means: one table for retry, fallback, the provider's health, attempts, billing and logging.

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
    #: An unclassified error: decided by :data:`RETRYABLE_PHRASES`.
    BY_MESSAGE = "by_message"


class Fallback(StrEnum):
    """Whether another provider may be asked."""

    NO = "no"
    YES = "yes"
    #: Only where the client allows it with ``metadata.onRefusal``.
    IF_CLIENT_ALLOWS = "if_client_allows"
    #: Only where the error names a limit of this model or provider, or nothing was sent.
    UNLESS_ABOUT_REQUEST = "unless_about_request"


class Health(StrEnum):
    """What the error says about the provider or model that it is about."""

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
        retry=Retry.YES, fallback=Fallback.NO, health=Health.ANSWERED, severity=logging.ERROR
    ),
    ErrorCode.WORKER_LOST: ErrorPolicy(
        retry=Retry.YES, fallback=Fallback.NO, health=Health.NOTHING, may_be_billed=False, severity=logging.WARNING
    ),
    ErrorCode.INTERNAL: ErrorPolicy(
        retry=Retry.BY_MESSAGE, fallback=Fallback.NO, health=Health.NOTHING, severity=logging.ERROR
    ),
}
