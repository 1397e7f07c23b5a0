"""Leaving a provider alone that is in trouble, over all workers: a circuit breaker in the provider's row.

After some failures one after the other the provider is not called for a while; then one call is let through as a
probe, and what comes of it decides for all. A provider that asks to wait is left alone for as long as it says. The row
is the one whose lock the count of calls under way needs anyway, and it outlives an emptied Redis.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import DurationField, ExpressionWrapper, F, QuerySet

from generation.caching import ttl_cache
from generation.db.functions import Now
from generation.models import ModelState, ProviderState
from generation.providers.error_policy import POLICIES, ErrorScope, Health
from generation.queue import dispatch, pauses
from generation.states import ErrorCode

logger = logging.getLogger(__name__)

#: So many failures one after the other, and the provider is left alone.
FAILURES_TO_OPEN: Final = 5
_FIRST_PAUSE: Final = timedelta(seconds=30)
_LONGEST_PAUSE: Final = timedelta(minutes=10)
#: For how many seconds a process goes by the rates that it has read.
_LIFETIME: Final = 5
#: A model is set aside after so many answers that it is not served, each within this time of the one before: one such
#: answer may be a stray one. It holds for this long; only staff or a date retire a model for good.
ANSWERS_TO_SET_ASIDE: Final = 2
_MODEL_PAUSE: Final = timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenBreaker:
    """A provider that is not called at the moment. ``is_open`` where it is in trouble, and not merely asks to wait."""

    provider: str
    reason: str
    until: datetime
    is_open: bool


def open_breakers() -> list[OpenBreaker]:
    """The providers that are left alone now."""
    rows = ProviderState.objects.filter(open_until__gt=Now()).order_by("provider")
    return [
        OpenBreaker(
            provider=row.provider, reason=row.reason, until=row.open_until, is_open=row.failures >= FAILURES_TO_OPEN
        )
        for row in rows
        if row.open_until
    ]


def is_open(provider: str) -> bool:
    """Whether the provider is left alone now, or paused."""
    alone = ProviderState.objects.filter(pk=provider, open_until__gt=Now()).exists()
    return alone or pauses.provider_is_paused(provider)


# --- Before a call ----------------------------------------------------------------------------------------------------


def state(provider: str) -> ProviderState | None:
    """The provider's row; ``None`` where there is neither a limit nor trouble."""
    return _with_remaining(ProviderState.objects.filter(pk=provider)).first()


def locked_state(provider: str) -> ProviderState | None:
    """The same, locked until the transaction ends."""
    return _with_remaining(ProviderState.objects.select_for_update().filter(pk=provider)).first()


def _with_remaining(rows: QuerySet[ProviderState]) -> QuerySet[ProviderState]:
    return rows.annotate(remaining=ExpressionWrapper(F("open_until") - Now(), DurationField()))


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


@ttl_cache(seconds=_LIFETIME)
def rates() -> dict[str, tuple[int, int]]:
    """The providers that may begin only so many calls in so many seconds."""
    rows = ProviderState.objects.values_list("provider", "calls", "per_seconds")
    return {provider: (calls, per_seconds) for provider, calls, per_seconds in rows if calls and per_seconds}


def _clear_caches() -> None:
    rates.cache_clear()
    _recently_failing_models.cache_clear()


# --- After a call -----------------------------------------------------------------------------------------------------


def succeeded(provider: str) -> None:
    """A call of the provider gave an answer, whatever was in it: it is well again."""
    if (failures := _row(provider).filter(failures__gt=0).values_list("failures", flat=True).first()) is None:
        return
    if failures < FAILURES_TO_OPEN:
        _row(provider).update(failures=0)
    elif _close(provider):
        logger.info("%s is well again", provider, extra={"action": "breaker-closed", "provider": provider})


def failed(
    provider: str,
    code: str,
    *,
    wait: timedelta = timedelta(0),
    probe: bool = False,
    scope: ErrorScope | None = None,
    model: str = "",
) -> None:
    """Note a failed call.

    ``wait`` is how long the provider asked not to be called. ``scope`` says what the error is about, the code's usual
    scope by default; ``model`` is the one that was asked for.

    While the breaker is open, only a probe lengthens it: of many calls that fail at once each would double the pause.
    """
    policy = POLICIES[code]
    scope = scope or policy.scope
    match policy.health:
        case Health.BUSY if scope is ErrorScope.PROVIDER:
            _pause(provider, wait, probe=probe)
        case Health.TROUBLE | Health.NEEDS_STAFF if scope is ErrorScope.PROVIDER:
            _count(provider, code, probe=probe)
        case Health.ANSWERED:
            succeeded(provider)
        case Health.NEEDS_STAFF if scope is ErrorScope.MODEL:
            succeeded(provider)
            if model:
                _count_model(provider, model, code)
        case _:
            if probe:
                release_probe(provider)


def model_succeeded(provider: str, model: str) -> None:
    """Note that the model gave an image, so earlier answers that it is not served were stray ones."""
    if (provider, model) in _recently_failing_models():
        ModelState.objects.filter(provider=provider, model=model).delete()
        _clear_caches()


def unserved_model_states() -> list[ModelState]:
    """Return the rows of the models that are set aside now, for staff."""
    return list(ModelState.objects.filter(set_aside_until__gt=Now()).order_by("provider", "model"))


def unserved_models() -> set[tuple[str, str]]:
    """Return the models, each with its provider, that are not asked at the moment."""
    now = datetime.now(UTC)
    return {model for model, until in _recently_failing_models().items() if until and until > now}


@ttl_cache(seconds=_LIFETIME)
def _recently_failing_models() -> dict[tuple[str, str], datetime | None]:
    """The models with such answers, and until when each is set aside, by this process's clock."""
    left = ExpressionWrapper(F("set_aside_until") - Now(), DurationField())
    rows = ModelState.objects.values_list("provider", "model", left)
    now = datetime.now(UTC)
    return {(provider, model): left and now + left for provider, model, left in rows}


def _count_model(provider: str, model: str, code: str) -> None:
    with transaction.atomic():
        ModelState.objects.get_or_create(provider=provider, model=model, defaults={"failed_at": Now(), "reason": code})
        rows = ModelState.objects.filter(provider=provider, model=model)
        recent = rows.select_for_update().filter(failed_at__gt=Now() - _MODEL_PAUSE).values_list("failures", flat=True)
        failures = (recent.first() or 0) + 1
        until = Now() + _MODEL_PAUSE if failures >= ANSWERS_TO_SET_ASIDE else None
        rows.update(failures=failures, reason=code, failed_at=Now(), set_aside_until=until)
    _clear_caches()
    if failures >= ANSWERS_TO_SET_ASIDE:
        logger.error(
            "%s does not serve %s; it is set aside for %d minutes",
            provider,
            model,
            _MODEL_PAUSE.total_seconds() // 60,
            extra={"action": "model-set-aside", "provider": provider, "code": code},
        )


def release_probe(provider: str) -> None:
    """A probe came to nothing, and the next call may be one."""
    if _row(provider).filter(failures__gte=FAILURES_TO_OPEN).update(open_until=Now()):
        dispatch.make_due(provider)


def close(provider: str) -> bool:
    """Call the provider and all its models again, so that the requests that wait for it may start. False if neither it
    nor a model was suspended."""
    closed = _close(provider)
    models = ModelState.objects.filter(provider=provider).delete()[0]
    if models:
        _clear_caches()
    return closed or bool(models)


def _close(provider: str) -> bool:
    left_alone = _row(provider).filter(failures__gte=FAILURES_TO_OPEN) | _row(provider).filter(open_until__gt=Now())
    closed = left_alone.update(failures=0, reason="", open_until=None)
    if closed:
        dispatch.make_due(provider)
    return bool(closed)


def _row(provider: str) -> QuerySet[ProviderState]:
    return ProviderState.objects.filter(pk=provider)


def _pause(provider: str, wait: timedelta, *, probe: bool) -> None:
    """It answered, and asks to wait."""
    ProviderState.objects.get_or_create(pk=provider)
    _open(provider, wait, probe=probe, failures=0, reason=ErrorCode.RATE_LIMITED)


def _count(provider: str, code: str, *, probe: bool) -> None:
    with transaction.atomic():
        ProviderState.objects.get_or_create(pk=provider)
        before = _row(provider).select_for_update().values_list("failures", flat=True).get()
        if before >= FAILURES_TO_OPEN and not probe:
            return
        needs_staff = POLICIES[code].health is Health.NEEDS_STAFF
        failures = max(before + 1, FAILURES_TO_OPEN) if needs_staff else before + 1
        _row(provider).update(failures=failures, reason=code)
        if failures >= FAILURES_TO_OPEN:
            doubled = min(failures - FAILURES_TO_OPEN, 10)  # past this it is the longest whatever follows
            pause = _LONGEST_PAUSE if needs_staff else min(_FIRST_PAUSE * 2**doubled, _LONGEST_PAUSE)
            _open(provider, pause, probe=probe)
            _log_and_send(provider, code, pause)


def _open(provider: str, pause: timedelta, *, probe: bool, **values: Any) -> None:
    rows = _row(provider)
    if not probe:  # who is told less does not shorten what somebody else was told
        rows = rows.exclude(open_until__gt=Now() + pause)
    rows.update(open_until=Now() + pause, **values)


def _log_and_send(provider: str, code: str, pause: timedelta) -> None:
    logger.log(
        POLICIES[code].severity,
        "%s is suspended for %g s: %s",
        provider,
        pause.total_seconds(),
        ErrorCode(code).label,
        extra={"action": "breaker-open", "provider": provider, "code": code},
    )
