"""What is paused: the conditions that claims and the dispatcher go by, and who may be told of it.

A pause stops what would start. A claim looks at the table itself, in its one statement; everything that only saves
useless messages may go by what was read a second ago.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from django.conf import settings
from django.db.models import QuerySet

from generation.caching import ttl_cache
from generation.models import GenerationQueue, GenerationRequest, Pause
from generation.states import GenerationType, PauseScope, Priority

_LIFETIME: Final = 1


def active() -> list[Pause]:
    """Return the pauses of this moment with the staff who made them."""
    return list(Pause.objects.select_related("paused_by"))


@ttl_cache(seconds=_LIFETIME)
def cached() -> tuple[Pause, ...]:
    """Return the pauses, as of at most a second ago."""
    return tuple(Pause.objects.all())


def recent() -> tuple[tuple[str, str], ...]:
    """The scope and value of each pause, as of at most a second ago."""
    return tuple((pause.scope, pause.value) for pause in cached())


def is_paused(request: GenerationRequest) -> bool:
    """Whether the request would not be started now, as of at most a second ago."""
    now = recent()
    if not now:
        return False
    stops = {(PauseScope.EVERYTHING, ""), (PauseScope.PRIORITY, request.priority), (PauseScope.TYPE, request.type)}
    named = request.options.provider
    providers = {(PauseScope.PROVIDER, name) for name in ([named] if named else settings.PROVIDERS)}
    return not stops.isdisjoint(now) or providers.issubset(now)


def provider_is_paused(provider: str) -> bool:
    """Whether calls of the provider are paused now."""
    return Pause.objects.filter(scope=PauseScope.PROVIDER, value=provider).exists()


def without_paused(rows: QuerySet[GenerationQueue]) -> QuerySet[GenerationQueue]:
    """Those rows of the ledger whose requests may start. Without a pause this costs one look at an empty table."""
    found = list(Pause.objects.values_list("scope", "value"))
    providers = {value for scope, value in found if scope == PauseScope.PROVIDER}
    if (PauseScope.EVERYTHING, "") in found or providers.issuperset(settings.PROVIDERS):
        return rows.none()
    # A request that may only be sent to one of the providers that are paused finds that out when it is claimed.
    for scope, value in found:
        if scope != PauseScope.PROVIDER:
            rows = rows.exclude(**{f"request__{scope}": value})
    return rows


def stopped_by(pause: Pause) -> QuerySet[GenerationQueue]:
    """The rows of the ledger that the pause may have kept from being started."""
    match pause.scope:
        case PauseScope.EVERYTHING:
            return GenerationQueue.objects.all()
        case PauseScope.PROVIDER:
            return GenerationQueue.objects.filter(redispatch_at__isnull=False)
        case scope:
            return GenerationQueue.objects.filter(**{f"request__{scope}": pause.value})


def choices(scope: str) -> list[str]:
    """What can be paused of a scope; nothing of one that there is not."""
    values: dict[str, Collection[str]] = {
        PauseScope.EVERYTHING: [""],
        PauseScope.PRIORITY: Priority.values,
        PauseScope.TYPE: GenerationType.values,
        PauseScope.PROVIDER: sorted({*settings.PROVIDERS, *settings.PROVIDER_OPTIONS}),
    }
    return list(values.get(scope, ()))
