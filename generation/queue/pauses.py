"""Pauses: which requests and providers are paused, for the dispatcher, the estimates and the pages.

A pause stops requests from being started. A claim reads the table itself, in its one statement. Code that only avoids
useless messages may use a copy that is at most a second old.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import reduce
from operator import or_
from typing import Final

from django.conf import settings
from django.db.models import Q, QuerySet

from generation.caching import ttl_cache
from generation.models import GenerationQueue, GenerationRequest, Pause
from generation.states import GenerationType, PauseScope, Priority

#: Seconds.
_LIFETIME: Final = 1


def active() -> list[Pause]:
    """Return the current pauses with the users who made them."""
    return list(Pause.objects.select_related("paused_by"))


@ttl_cache(seconds=_LIFETIME)
def cached() -> tuple[Pause, ...]:
    """Return the pauses, at most a second old."""
    return tuple(Pause.objects.all())


def recent() -> tuple[tuple[str, str], ...]:
    """Return the scope and value of each pause, at most a second old."""
    return tuple((pause.scope, pause.value) for pause in cached())


def is_paused(request: GenerationRequest) -> bool:
    """Return whether pauses keep the request from being started, as of at most a second ago."""
    return pause_of(request) is not None


def pause_of(request: GenerationRequest) -> Pause | None:
    """Return a pause that keeps the request from being started, as of at most a second ago."""
    paused = {(pause.scope, pause.value): pause for pause in cached()}
    if not paused:
        return None
    scopes = [(PauseScope.EVERYTHING, ""), (PauseScope.PRIORITY, request.priority), (PauseScope.TYPE, request.type)]
    for scope in scopes:
        if scope in paused:
            return paused[scope]
    # Not from its options, for which the prompt would be read.
    provider = request.metadata.get("provider")
    providers = [(PauseScope.PROVIDER, name) for name in ([provider] if provider else settings.PROVIDERS)]
    return paused[providers[0]] if providers and all(name in paused for name in providers) else None


def provider_is_paused(provider: str) -> bool:
    """Return whether calls of the provider are paused now."""
    return Pause.objects.filter(scope=PauseScope.PROVIDER, value=provider).exists()


def without_paused(rows: QuerySet[GenerationQueue]) -> QuerySet[GenerationQueue]:
    """Return the queue rows whose requests may start. Without a pause this costs one query of an empty table."""
    paused = list(Pause.objects.values_list("scope", "value"))
    providers = {value for scope, value in paused if scope == PauseScope.PROVIDER}
    if (PauseScope.EVERYTHING, "") in paused or providers.issuperset(settings.PROVIDERS):
        return rows.none()
    # If only some providers are paused, the claim finds out whether the request needs one of them.
    for scope, value in paused:
        if scope != PauseScope.PROVIDER:
            rows = rows.exclude(**{f"request__{scope}": value})
    return rows


def of_paused_kind() -> Q:
    """Return the condition on requests whose type or priority is paused."""
    paused = Pause.objects.filter(scope__in=[PauseScope.TYPE, PauseScope.PRIORITY]).values_list("scope", "value")
    return reduce(or_, (Q(**{scope: value}) for scope, value in paused), Q(pk__in=()))


def stopped_by(pause: Pause) -> QuerySet[GenerationQueue]:
    """Return the queue rows whose start the pause may have prevented."""
    match pause.scope:
        case PauseScope.EVERYTHING:
            return GenerationQueue.objects.all()
        case PauseScope.PROVIDER:
            return GenerationQueue.objects.filter(redispatch_at__isnull=False)
        case scope:
            return GenerationQueue.objects.filter(**{f"request__{scope}": pause.value})


def choices(scope: str) -> list[str]:
    """Return the values that can be paused of a scope; none for an unknown scope."""
    values: dict[str, Collection[str]] = {
        PauseScope.EVERYTHING: [""],
        PauseScope.PRIORITY: Priority.values,
        PauseScope.TYPE: GenerationType.values,
        PauseScope.PROVIDER: sorted({*settings.PROVIDERS, *settings.PROVIDER_OPTIONS}),
    }
    return list(values.get(scope, ()))
