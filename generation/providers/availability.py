"""Which providers can do a request, and when they may be called, as of seconds ago; for estimates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from generation.caching import ttl_cache
from generation.models import ProviderState
from generation.models.options import GenerationOptions
from generation.providers import catalogue, circuit_breaker
from generation.providers.catalogue import UnsupportedRequest

#: Seconds for which a process caches the providers' rows, and the routes of requests.
_STATE_LIFETIME: Final = 2
_ROUTE_LIFETIME: Final = 5
_MOST_ROUTES: Final = 2_048


@ttl_cache(seconds=_STATE_LIFETIME)
def _states() -> dict[str, ProviderState]:
    return {state.provider: state for state in ProviderState.objects.all()}


@ttl_cache(seconds=_ROUTE_LIFETIME, maxsize=_MOST_ROUTES)
def route(options: GenerationOptions) -> tuple[tuple[str, str], ...]:
    """Return the pairs of provider and model that can do the request, in the order in which to try them."""
    for unserved in (circuit_breaker.unserved_models(), set[tuple[str, str]]()):
        try:
            return tuple((choice.provider, choice.model) for choice in catalogue.choices(options, unserved=unserved))
        except UnsupportedRequest:
            continue
    return ()


def suspension(providers: Sequence[str]) -> ProviderState | None:
    """Return the provider that may be called again first, or None if one of them may be called now."""
    now = datetime.now(UTC)
    suspended = [state for name in providers if (state := _states().get(name)) and (state.open_until or now) > now]
    if not providers or len(suspended) < len(providers):
        return None
    return min(suspended, key=lambda state: state.open_until or now)


def first_limited(providers: Sequence[str]) -> str:
    """Return the first of the providers that has a limit on its calls, or an empty string."""
    return next((name for name in providers if math.isfinite(_slots(name, 1.0))), "")


def slots(providers: Sequence[str], *, seconds: float) -> float:
    """Return how many calls of so many seconds the limits of the first provider allow at once. A request waits for it
    rather than go to the next one."""
    return _slots(providers[0], seconds) if providers else math.inf


def _slots(provider: str, seconds: float) -> float:
    state = _states().get(provider)
    if state is None:
        return math.inf
    by_rate = seconds * state.calls / state.per_seconds if state.calls and state.per_seconds else math.inf
    return min(by_rate, state.max_concurrent or math.inf)
