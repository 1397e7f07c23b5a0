"""Leaving a provider alone that is in trouble, over all workers: a circuit breaker in the provider's row.

After some failures one after the other the provider is not called for a while; then one call is let through as a
probe, and what comes of it decides for all. A provider that asks to wait is left alone for as long as it says. The row
is the one whose lock the count of calls under way needs anyway, and it outlives an emptied Redis.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import DurationField, ExpressionWrapper, F, QuerySet

from generation import dispatch, pauses
from generation.clock import Now
from generation.models import ProviderState
from generation.remembered import briefly
from generation.states import ErrorCode

logger = logging.getLogger(__name__)

#: So many failures one after the other, and the provider is left alone.
FAILURES_TO_OPEN: Final = 5
_FIRST_PAUSE: Final = timedelta(seconds=30)
_LONGEST_PAUSE: Final = timedelta(minutes=10)
#: For how many seconds a process goes by the rates that it has read.
_LIFETIME: Final = 5
#: What says something of the provider as a whole, rather than of one request.
_TROUBLE: Final = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.TIMEOUT, ErrorCode.UNKNOWN_OUTCOME})
#: What no further call will mend, and somebody has to: one failure is enough.
_NEEDS_SOMEBODY: Final = frozenset({ErrorCode.QUOTA_EXHAUSTED, ErrorCode.AUTH})
#: What says nothing of the provider. Whatever else it is, the provider has answered.
_OURS: Final = frozenset({ErrorCode.INTERNAL, ErrorCode.WORKER_LOST})


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspension:
    """A provider that is not called at the moment. ``is_open`` where it is in trouble, and not merely asks to wait."""

    provider: str
    reason: str
    until: datetime
    is_open: bool


def suspended() -> list[Suspension]:
    """The providers that are left alone now."""
    rows = ProviderState.objects.filter(open_until__gt=Now()).order_by("provider")
    return [
        Suspension(
            provider=row.provider, reason=row.reason, until=row.open_until, is_open=row.failures >= FAILURES_TO_OPEN
        )
        for row in rows
        if row.open_until
    ]


def is_suspended(provider: str) -> bool:
    """Whether the provider is left alone now, or paused."""
    alone = ProviderState.objects.filter(pk=provider, open_until__gt=Now()).exists()
    return alone or pauses.provider_is_paused(provider)


# --- Before a call ----------------------------------------------------------------------------------------------------


def locked_state(provider: str) -> ProviderState | None:
    """The provider's row, locked until the transaction ends; ``None`` where there is neither a limit nor trouble."""
    remaining = ExpressionWrapper(F("open_until") - Now(), DurationField())
    rows = ProviderState.objects.select_for_update().annotate(remaining=remaining)
    return rows.filter(pk=provider).first()


def remaining(state: ProviderState) -> timedelta:
    """For how much longer the provider is left alone, as of when its row was read; 0 where it is not."""
    left: timedelta | None = getattr(state, "remaining", None)
    return max(left or timedelta(0), timedelta(0))


def begin_probe(state: ProviderState, *, deadline: timedelta) -> bool:
    """Whether the call that begins now is to show how a provider is that was left alone. Until its end, or its deadline
    where its worker is lost, there is no other. The caller has locked the row."""
    if state.failures < FAILURES_TO_OPEN:
        return False
    _row(state.pk).update(open_until=Now() + deadline)
    return True


@briefly(seconds=_LIFETIME)
def rates() -> dict[str, tuple[int, int]]:
    """The providers that may begin only so many calls in so many seconds."""
    rows = ProviderState.objects.values_list("provider", "calls", "per_seconds")
    return {provider: (calls, per_seconds) for provider, calls, per_seconds in rows if calls and per_seconds}


def forget() -> None:
    """Read the rates again at the next question."""
    rates.cache_clear()


# --- After a call -----------------------------------------------------------------------------------------------------


def succeeded(provider: str) -> None:
    """A call of the provider gave an answer, whatever was in it: it is well again."""
    if (failures := _row(provider).filter(failures__gt=0).values_list("failures", flat=True).first()) is None:
        return
    if failures < FAILURES_TO_OPEN:
        _row(provider).update(failures=0)
    elif close(provider):
        logger.info("%s is well again", provider, extra={"action": "breaker-closed", "provider": provider})


def failed(provider: str, code: str, *, wait: timedelta, probe: bool = False) -> None:
    """A call of the provider failed. ``wait`` is for how long it is left alone if it says so itself. While it is in
    trouble, only what comes of a probe makes it longer: of many calls that fail at once each would double the pause."""
    if code in _OURS:
        if probe:
            release(provider)
    elif code == ErrorCode.RATE_LIMITED:
        _pause(provider, wait, probe=probe)
    elif code in _TROUBLE | _NEEDS_SOMEBODY:
        _count(provider, code, probe=probe)
    else:
        succeeded(provider)


def release(provider: str) -> None:
    """A probe came to nothing, and the next call may be one."""
    if _row(provider).filter(failures__gte=FAILURES_TO_OPEN).update(open_until=Now()):
        dispatch.wake(provider)


def close(provider: str) -> bool:
    """Call the provider again, and whoever waits for it may start. ``False`` where it was not left alone."""
    left_alone = _row(provider).filter(failures__gte=FAILURES_TO_OPEN) | _row(provider).filter(open_until__gt=Now())
    closed = left_alone.update(failures=0, reason="", open_until=None)
    if closed:
        dispatch.wake(provider)
    return bool(closed)


def _row(provider: str) -> QuerySet[ProviderState]:
    return ProviderState.objects.filter(pk=provider)


def _pause(provider: str, wait: timedelta, *, probe: bool) -> None:
    """It answered, and asks to wait."""
    ProviderState.objects.get_or_create(pk=provider)
    _leave_alone(provider, wait, probe=probe, failures=0, reason=ErrorCode.RATE_LIMITED)


def _count(provider: str, code: str, *, probe: bool) -> None:
    with transaction.atomic():
        ProviderState.objects.get_or_create(pk=provider)
        before = _row(provider).select_for_update().values_list("failures", flat=True).get()
        if before >= FAILURES_TO_OPEN and not probe:
            return
        failures = max(before + 1, FAILURES_TO_OPEN) if code in _NEEDS_SOMEBODY else before + 1
        _row(provider).update(failures=failures, reason=code)
        if failures >= FAILURES_TO_OPEN:
            doubled = min(failures - FAILURES_TO_OPEN, 10)  # past this it is the longest whatever follows
            pause = _LONGEST_PAUSE if code in _NEEDS_SOMEBODY else min(_FIRST_PAUSE * 2**doubled, _LONGEST_PAUSE)
            _leave_alone(provider, pause, probe=probe)
            _tell(provider, code, pause)


def _leave_alone(provider: str, pause: timedelta, *, probe: bool, **values: Any) -> None:
    rows = _row(provider)
    if not probe:  # who is told less does not shorten what somebody else was told
        rows = rows.exclude(open_until__gt=Now() + pause)
    rows.update(open_until=Now() + pause, **values)


def _tell(provider: str, code: str, pause: timedelta) -> None:
    logger.log(
        logging.ERROR if code in _NEEDS_SOMEBODY else logging.WARNING,
        "%s is left alone for %g s: %s",
        provider,
        pause.total_seconds(),
        ErrorCode(code).label,
        extra={"action": "breaker-open", "provider": provider, "code": code},
    )
