"""A circuit breaker for each provider, shared by all workers: the provider's row in the database.

After some consecutive failures the breaker opens, and the provider is not called for a while. Then one call goes
through as a half-open probe, and its outcome closes the breaker or opens it again. A provider that asks to wait is
suspended for as long as it says. The count of running calls locks the same row anyway, and it survives the loss of
Redis's data.
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

#: Consecutive failures that open the breaker.
FAILURES_TO_OPEN: Final = 5
_FIRST_PAUSE: Final = timedelta(seconds=30)
_LONGEST_PAUSE: Final = timedelta(minutes=10)
#: Seconds for which a process caches rates and failing models.
_LIFETIME: Final = 5
#: A model is set aside after this number of answers that it is not served, each within ``_MODEL_PAUSE`` of the previous
#: one, since a single such answer may be a stray one. It is set aside for ``_MODEL_PAUSE``; only staff or a shutdown
#: date retire it for good.
ANSWERS_TO_SET_ASIDE: Final = 2
_MODEL_PAUSE: Final = timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenBreaker:
    """A provider that is not called at the moment. ``is_open`` is False if it did not fail but asks to wait."""

    provider: str
    reason: str
    until: datetime
    is_open: bool


def open_breakers() -> list[OpenBreaker]:
    """Return the providers that are suspended now."""
    rows = ProviderState.objects.filter(open_until__gt=Now()).order_by("provider")
    return [
        OpenBreaker(
            provider=row.provider, reason=row.reason, until=row.open_until, is_open=row.failures >= FAILURES_TO_OPEN
        )
        for row in rows
        if row.open_until
    ]


def is_open(provider: str) -> bool:
    """Return whether the provider is suspended or paused now."""
    suspended = ProviderState.objects.filter(pk=provider, open_until__gt=Now()).exists()
    return suspended or pauses.provider_is_paused(provider)


# --- Before a call ----------------------------------------------------------------------------------------------------


def state(provider: str) -> ProviderState | None:
    """Return the provider's row; None if it has neither a limit nor a failure."""
    return _with_remaining(ProviderState.objects.filter(pk=provider)).first()


def locked_state(provider: str) -> ProviderState | None:
    """Return the provider's row like :func:`state`, locked until the transaction ends."""
    return _with_remaining(ProviderState.objects.select_for_update().filter(pk=provider)).first()


def _with_remaining(rows: QuerySet[ProviderState]) -> QuerySet[ProviderState]:
    return rows.annotate(remaining=ExpressionWrapper(F("open_until") - Now(), DurationField()))


def remaining(state: ProviderState) -> timedelta:
    """Return how much longer the provider is suspended, as of when its row was read; 0 if it is not."""
    suspended_for: timedelta | None = getattr(state, "remaining", None)
    return max(suspended_for or timedelta(0), timedelta(0))


def begin_probe(state: ProviderState, *, deadline: timedelta) -> bool:
    """Make the call that begins now the half-open probe if the breaker has opened, and return whether it is.

    Other calls are blocked until it ends, or until its deadline if its worker is lost. The caller has locked the row.
    """
    if state.failures < FAILURES_TO_OPEN:
        return False
    _row(state.pk).update(open_until=Now() + deadline)
    return True


@ttl_cache(seconds=_LIFETIME)
def rates() -> dict[str, tuple[int, int]]:
    """Return the rate limits by provider: the number of calls that may begin, in how many seconds."""
    rows = ProviderState.objects.values_list("provider", "calls", "per_seconds")
    return {provider: (calls, per_seconds) for provider, calls, per_seconds in rows if calls and per_seconds}


def _clear_caches() -> None:
    rates.cache_clear()
    _recently_failing_models.cache_clear()


# --- After a call -----------------------------------------------------------------------------------------------------


def succeeded(provider: str) -> None:
    """Note that the provider answered a call, whatever the answer was: reset the failures and close the breaker."""
    if (failures := _row(provider).filter(failures__gt=0).values_list("failures", flat=True).first()) is None:
        return
    if failures < FAILURES_TO_OPEN:
        _row(provider).update(failures=0)
    elif _close(provider):
        logger.info("%s works again", provider, extra={"action": "breaker-closed", "provider": provider})


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

    ``wait`` is how long the provider asked not to be called. ``scope`` is the scope of the error, by default that of
    its code; ``model`` is the model of the call.

    While the breaker is open, only a probe extends the pause. Otherwise each of many concurrent failures would double
    it.
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
    """Note that the model gave an image, so that earlier answers that it is not served were stray ones."""
    if (provider, model) in _recently_failing_models():
        ModelState.objects.filter(provider=provider, model=model).delete()
        _clear_caches()


def unserved_model_states() -> list[ModelState]:
    """Return the rows of the models that are set aside now, for staff."""
    return list(ModelState.objects.filter(set_aside_until__gt=Now()).order_by("provider", "model"))


def unserved_models() -> set[tuple[str, str]]:
    """Return the pairs of provider and model that are set aside at the moment."""
    now = datetime.now(UTC)
    return {model for model, until in _recently_failing_models().items() if until and until > now}


@ttl_cache(seconds=_LIFETIME)
def _recently_failing_models() -> dict[tuple[str, str], datetime | None]:
    """Return until when each model that was reported as not served is set aside, by this process's clock."""
    remaining = ExpressionWrapper(F("set_aside_until") - Now(), DurationField())
    rows = ModelState.objects.values_list("provider", "model", remaining)
    now = datetime.now(UTC)
    return {(provider, model): set_aside_for and now + set_aside_for for provider, model, set_aside_for in rows}


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
    """Let the next call be the probe, since the present one ended without an outcome."""
    if _row(provider).filter(failures__gte=FAILURES_TO_OPEN).update(open_until=Now()):
        dispatch.make_due(provider)


def close(provider: str) -> bool:
    """Close the breakers of the provider and its models, and make the requests that wait for it due. Return False if
    neither the provider nor a model was suspended."""
    closed = _close(provider)
    models = ModelState.objects.filter(provider=provider).delete()[0]
    if models:
        _clear_caches()
    return closed or bool(models)


def _close(provider: str) -> bool:
    suspended = _row(provider).filter(failures__gte=FAILURES_TO_OPEN) | _row(provider).filter(open_until__gt=Now())
    closed = suspended.update(failures=0, reason="", open_until=None)
    if closed:
        dispatch.make_due(provider)
    return bool(closed)


def _row(provider: str) -> QuerySet[ProviderState]:
    return ProviderState.objects.filter(pk=provider)


def _pause(provider: str, wait: timedelta, *, probe: bool) -> None:
    """Suspend a provider that answered and asks to wait."""
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
            doublings = min(failures - FAILURES_TO_OPEN, 10)  # more would exceed the longest pause anyway
            pause = _LONGEST_PAUSE if needs_staff else min(_FIRST_PAUSE * 2**doublings, _LONGEST_PAUSE)
            _open(provider, pause, probe=probe)
            _log_and_send(provider, code, pause)


def _open(provider: str, pause: timedelta, *, probe: bool, **values: Any) -> None:
    rows = _row(provider)
    if not probe:  # a call that was told a shorter wait must not shorten that of another call
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
