"""Leaving a provider alone that is in trouble, over all workers: a circuit breaker in the provider's row.

After some failures one after the other the provider is not called for a while; then one call is let through as a
probe, and what comes of it decides for all. A provider that asks to wait is left alone for as long as it says. The row
is the one whose lock the count of calls under way needs anyway, and it outlives an emptied Redis.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cachetools.func import ttl_cache
from django.db import transaction
from django.db.models import DurationField, ExpressionWrapper, F

from generation.clock import Now
from generation.models import ProviderState
from generation.states import ErrorCode

logger = logging.getLogger(__name__)

#: So many failures one after the other, and the provider is left alone.
FAILURES_TO_OPEN: Final = 5
_FIRST_PAUSE: Final = timedelta(seconds=30)
#: For how many seconds a process goes by the rates that it has read.
_LIFETIME: Final = 5
_PROBE_EVERY: Final = timedelta(seconds=30)
_LONGEST_PAUSE: Final = timedelta(minutes=10)
#: What says something of the provider as a whole, rather than of one request.
_TROUBLE: Final = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.TIMEOUT, ErrorCode.UNKNOWN_OUTCOME})
#: What no further call will mend, and somebody has to: one failure is enough.
NEEDS_SOMEBODY: Final = frozenset({ErrorCode.QUOTA_EXHAUSTED, ErrorCode.AUTH})


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspension:
    """A provider that is not called at the moment."""

    provider: str
    reason: str
    until: datetime
    failures: int


def suspended() -> list[Suspension]:
    """The providers that are left alone now."""
    rows = ProviderState.objects.filter(open_until__gt=Now()).order_by("provider")
    return [
        Suspension(provider=row.provider, reason=row.reason, until=row.open_until, failures=row.failures)
        for row in rows
        if row.open_until
    ]


def locked_state(provider: str) -> ProviderState | None:
    """The provider's row, locked until the transaction ends; ``None`` where there is neither a limit nor trouble."""
    remaining = ExpressionWrapper(F("open_until") - Now(), DurationField())
    rows = ProviderState.objects.select_for_update().annotate(remaining=remaining)
    return rows.filter(pk=provider).first()


def remaining(state: ProviderState) -> timedelta:
    """For how much longer the provider is left alone, as of when its row was read; 0 where it is not."""
    left: timedelta | None = getattr(state, "remaining", None)
    return max(left or timedelta(0), timedelta(0))


def failed(provider: str, code: str, *, wait: timedelta | None = None) -> None:
    """A call of the provider failed. ``wait`` is how long it asks to be left alone."""
    if code == ErrorCode.RATE_LIMITED:
        if wait:
            _suspend(provider, code, wait, failures=None)
    elif code in NEEDS_SOMEBODY:
        _suspend(provider, code, _LONGEST_PAUSE, failures=FAILURES_TO_OPEN)
        logger.error("%s: %s", provider, ErrorCode(code).label, extra={"action": "breaker-open", "provider": provider})
    elif code in _TROUBLE:
        _count(provider, code)


def succeeded(provider: str) -> None:
    """A call of the provider gave an answer, whatever was in it: it is well again."""
    mended = ProviderState.objects.filter(pk=provider, failures__gt=0).update(failures=0, reason="", open_until=None)
    if mended:
        logger.info("%s is well again", provider, extra={"action": "breaker-closed", "provider": provider})


def probe(state: ProviderState) -> None:
    """Where the provider was left alone until now, this call is to show how it is; for a moment there is no other. The
    caller has locked the row."""
    if state.failures >= FAILURES_TO_OPEN:
        ProviderState.objects.filter(pk=state.pk).update(open_until=Now() + _PROBE_EVERY)


@ttl_cache(maxsize=1, ttl=_LIFETIME)
def rates() -> dict[str, tuple[int, int]]:
    """The providers that may begin only so many calls in so many seconds."""
    rows = ProviderState.objects.values_list("provider", "calls", "per_seconds")
    return {provider: (calls, per_seconds) for provider, calls, per_seconds in rows if calls and per_seconds}


def forget() -> None:
    """Read the rates again at the next question."""
    rates.cache_clear()


def close(provider: str) -> bool:
    """Call the provider again, since somebody says so. ``False`` where it was not left alone."""
    return bool(
        ProviderState.objects.filter(pk=provider, open_until__isnull=False).update(
            failures=0, reason="", open_until=None
        )
    )


def _suspend(provider: str, code: str, wait: timedelta, *, failures: int | None) -> None:
    ProviderState.objects.get_or_create(pk=provider)
    # Who asks for less does not shorten what somebody else was told.
    rows = ProviderState.objects.filter(pk=provider).exclude(open_until__gt=Now() + wait)
    values = {} if failures is None else {"failures": failures}
    rows.update(open_until=Now() + wait, reason=code, **values)


def _count(provider: str, code: str) -> None:
    with transaction.atomic():
        ProviderState.objects.get_or_create(pk=provider)
        ProviderState.objects.filter(pk=provider).update(failures=F("failures") + 1, reason=code)
        failures = ProviderState.objects.values_list("failures", flat=True).get(pk=provider)
        if failures >= FAILURES_TO_OPEN:
            pause = min(_FIRST_PAUSE * 2 ** min(failures - FAILURES_TO_OPEN, 10), _LONGEST_PAUSE)
            ProviderState.objects.filter(pk=provider).update(open_until=Now() + pause)
            logger.warning(
                "%s is left alone for %g s after %d failures, the last: %s",
                provider,
                pause.total_seconds(),
                failures,
                code,
                extra={"action": "breaker-open", "provider": provider},
            )
