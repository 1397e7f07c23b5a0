"""A worker's permission to call a provider, and the leases of its claims. All times are the database's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from generation.db import queries
from generation.db.execution import as_json, fetch_all
from generation.db.functions import Now
from generation.models import GenerationAttempt, GenerationRequest, ProviderState
from generation.providers import budgets, circuit_breaker
from generation.providers.pricing import OverBudgetError
from generation.queue import pauses, run_limits
from generation.requests.claims import CallPermit, Claim, StaleClaimError
from generation.states import ErrorCode

#: Wait of a request whose provider has no free slot.
_NO_SLOT_WAIT: Final = timedelta(seconds=1)
#: Wait of a request whose provider is paused. It is made due earlier if the provider is resumed.
_PAUSED_WAIT: Final = timedelta(hours=1)


def begin_call(
    claim: Claim,
    *,
    provider: str,
    model: str,
    prompt: str,
    deadline: timedelta,
    billable: bool = True,
    estimate: Decimal | None = None,
    pace: Callable[[], timedelta] | None = None,
) -> CallPermit:
    """Record the call that is about to be sent in the attempt's row. It may only be sent if the permit is granted.

    A provider without limits or trouble needs less; see :func:`begin_calls_unlocked`, which is tried first.

    ``deadline`` is the longest duration of the call, ``estimate`` its expected price in US dollars. ``pace`` counts the
    call against the provider's rate limit, and returns how long to wait if the limit is reached. It is called after
    all other checks but before any lock is taken, so that a slow Redis blocks no row. Raises :class:`StaleClaimError`.
    """
    has_budget = needs_budget(claim, billable=billable, estimate=estimate)
    call: dict[str, Any] = {"provider": provider, "model": model, "prompt": prompt, "billable": billable}
    if pace is not None:
        if refused := _refusal(provider, circuit_breaker.state(provider)):
            return refused
        if wait := pace():
            return CallPermit(granted=False, wait=wait)
    probe = False
    with transaction.atomic():
        state = circuit_breaker.locked_state(provider)
        if not GenerationRequest.objects.select_for_update().filter(claim.fence).exists():
            raise StaleClaimError
        if refused := _refusal(provider, state):
            return refused
        if has_budget and estimate is not None:
            try:
                budgets.check_call(claim.request, estimate, attempt=claim.attempt())
            except OverBudgetError as error:
                return CallPermit(granted=False, over_budget=True, budget_message=str(error))
        if state is not None:
            probe = circuit_breaker.begin_probe(state, deadline=deadline)
        times: dict[str, Any] = {"call_started_at": Now(), "call_deadline_at": Now() + deadline}
        claim.attempt().update(**call, estimated_cost=estimate, **times)
    return CallPermit(granted=True, probe=probe, recently_failing=state is not None and state.failures > 0)


def needs_budget(claim: Claim, *, billable: bool, estimate: Decimal | None) -> bool:
    """Return whether the call counts against a budget of the request's owner or of its API key."""
    request = claim.request
    return billable and bool(estimate) and budgets.has_limit(request.owner_id, request.api_key_id)


def begin_calls_unlocked(
    calls: Sequence[tuple[Claim, Mapping[str, Any]]], *, deadline: timedelta
) -> list[CallPermit | None]:
    """Record those of the calls that are restricted by nothing: their providers have neither limits nor trouble and are
    not paused. Return None for each of the others, which :func:`begin_call` decides.

    Each call comes with its claim, has ``provider``, ``model``, ``prompt``, ``billable`` and ``estimate``, and needs no
    budget.
    """
    rows = [{"request": claim.key[0], "claim": claim.number, **call} for claim, call in calls]
    noted = {tuple(row) for row in fetch_all(queries.BEGIN_CALLS, {"calls": as_json(rows), "deadline": deadline})}
    return [CallPermit(granted=True) if claim.key in noted else None for claim, _ in calls]


def _refusal(provider: str, state: ProviderState | None) -> CallPermit | None:
    """Return a refused permit if the provider may not be called now, else None. Exact only while its row is locked."""
    if pauses.provider_is_paused(provider):
        return CallPermit(granted=False, provider_suspended=True, wait=_PAUSED_WAIT)
    if state is not None:
        if wait := circuit_breaker.remaining(state):
            return CallPermit(granted=False, provider_suspended=True, wait=wait)
        if not run_limits.provider_has_free_slot(state):
            return CallPermit(granted=False, wait=_NO_SLOT_WAIT)
    return None


def has_called_provider(claim: Claim) -> bool:
    """Return whether an earlier claim of the request began a call, so that there may be an image."""
    earlier = GenerationAttempt.objects.filter(request_id=claim.request.pk, claim__lt=claim.number)
    return earlier.filter(call_started_at__isnull=False).exists()


def unknown_outcomes(request: GenerationRequest) -> int:
    """Return the number of this request's calls that may have been billed without an understood answer."""
    rows = GenerationAttempt.objects.filter(request=request, billable=True, call_started_at__isnull=False)
    return rows.filter(error_code__in=[ErrorCode.UNKNOWN_OUTCOME, ErrorCode.INTERNAL]).count()


# --- Shared -----------------------------------------------------------------------------------------------------------


def release_provider_slot(claim: Claim) -> None:
    """Free the slot at the provider of a call that has ended although its claim is stale."""
    claim.attempt().update(call_deadline_at=None)


def extend_leases(claims: Collection[tuple[str, int]], *, worker: str) -> set[tuple[str, int]]:
    """Extend the leases of this worker's claims, given by request ids and claim numbers. Return the valid claims."""
    parameters: dict[str, Any] = {"requests": [pk for pk, _ in claims], "claims": [number for _, number in claims]}
    valid = fetch_all(queries.EXTEND_LEASES, parameters | {"worker": worker, "lease": settings.LEASE})
    return {(request_id, number) for request_id, number in valid}
