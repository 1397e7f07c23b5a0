"""Permission for a worker to call a provider, and to keep its claims. All times are the database's."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from generation.db import queries
from generation.db.execution import execute, fetch_all
from generation.db.functions import Now
from generation.models import GenerationAttempt, GenerationRequest, ProviderState
from generation.providers import budgets, circuit_breaker
from generation.providers.pricing import OverBudgetError
from generation.queue import batch_limits, pauses
from generation.requests.claims import CallPermit, Claim, StaleClaimError

#: Before a request whose provider has no place free is tried again.
_NO_PLACE_WAIT: Final = timedelta(seconds=1)
#: Before one whose provider is paused is tried again, unless the provider is resumed: then it is woken.
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
    """Note the call that is about to be sent, how long it may take and its expected price in US dollars. Only if it is
    granted may it be sent. ``pace`` counts it as one more call of a rate and says how long to wait where there is no
    room; it is asked last and before any lock is taken, so that a slow Redis holds no row. Raises
    :class:`StaleClaimError`."""
    noted: dict[str, Any] = {"provider": provider, "model": model, "prompt": prompt, "billable": billable}
    under_budget = billable and bool(estimate) and budgets.limit(claim.request.owner_id) is not None
    if not under_budget:
        it: dict[str, Any] = {"request": claim.request.pk, "claim": claim.number}
        if execute(queries.BEGIN_CALL, it | noted | {"estimate": estimate, "deadline": deadline}):
            return CallPermit(granted=True)
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
        if under_budget and estimate is not None:
            try:
                budgets.check_call(claim.request.owner_id, estimate, attempt=claim.attempt())
            except OverBudgetError as error:
                return CallPermit(granted=False, over_budget=True, refusal=str(error))
        if state is not None:
            probe = circuit_breaker.begin_probe(state, deadline=deadline)
        times: dict[str, Any] = {"call_started_at": Now(), "call_deadline_at": Now() + deadline}
        claim.attempt().update(**noted, estimated_cost=estimate, **times)
    return CallPermit(granted=True, probe=probe, troubled=state is not None and state.failures > 0)


def _refusal(provider: str, state: ProviderState | None) -> CallPermit | None:
    """Return why the provider may not be called now, or None if it may. Exact only while its row is locked."""
    if pauses.provider_is_paused(provider):
        return CallPermit(granted=False, suspended=True, wait=_PAUSED_WAIT)
    if state is not None:
        if wait := circuit_breaker.remaining(state):
            return CallPermit(granted=False, suspended=True, wait=wait)
        if not batch_limits.provider_has_free_slot(state):
            return CallPermit(granted=False, wait=_NO_PLACE_WAIT)
    return None


def has_called_provider(claim: Claim) -> bool:
    """Return whether an earlier claim of the request began a call, so that there may be an image."""
    earlier = GenerationAttempt.objects.filter(request_id=claim.request.pk, claim__lt=claim.number)
    return earlier.filter(call_started_at__isnull=False).exists()


def release_provider_slot(claim: Claim) -> None:
    """The provider is not at it any more, although the claim is void: its place there is free."""
    claim.attempt().update(call_deadline_at=None)


def extend_leases(claims: Collection[tuple[str, int]], *, worker: str) -> set[tuple[str, int]]:
    """Renew the leases of what this worker still works on, by ids and claim numbers. Returns those it still holds."""
    parameters: dict[str, Any] = {"requests": [pk for pk, _ in claims], "claims": [number for _, number in claims]}
    held = fetch_all(queries.EXTEND_LEASES, parameters | {"worker": worker, "lease": settings.LEASE})
    return {(request_id, number) for request_id, number in held}
