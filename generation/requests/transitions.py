"""Status transitions: a guarded UPDATE, a row in the history, and side effects after the commit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F

from generation.models import GenerationRequest, StatusChange
from generation.providers import result_cache
from generation.queue import run_limits
from generation.requests import events, references
from generation.states import TERMINAL, TRANSITIONS, Reason, Status, Transition
from generation.telemetry import metrics

SUBMIT: Final = Transition(None, Status.QUEUED, Reason.SUBMITTED)
CLAIM: Final = Transition(Status.QUEUED, Status.IN_PROGRESS, Reason.CLAIMED)


def apply_transition(
    request_ids: Collection[str], transition: Transition, *, actor: User | None = None, **values: Any
) -> list[GenerationRequest]:
    """Change the status of requests that the caller has locked in the transition's source status, and return them.
    Raises ``ValueError`` for a transition that does not exist."""
    check(transition)
    rows = GenerationRequest.objects.filter(pk__in=request_ids)
    rows.filter(status=transition.source).update(status=transition.target, sequence=F("sequence") + 1, **values)
    requests = list(rows.order_by("pk"))
    if requests:
        StatusChange.objects.bulk_create(
            StatusChange(
                request=request,
                sequence=request.sequence,
                from_status=transition.source or "",
                to_status=transition.target,
                reason=transition.reason,
                claim=request.claims,
                actor=actor,
            )
            for request in requests
        )
        schedule_side_effects(requests, transition)
    return requests


def check(transition: Transition) -> None:
    """Raise ``ValueError`` for a transition that does not exist."""
    if transition not in TRANSITIONS:
        source, target, reason = transition
        raise ValueError(f"there is no transition {source} → {target} ({reason})")


def schedule_side_effects(requests: Sequence[GenerationRequest], transition: Transition) -> None:
    """After the commit, publish the transition to subscribers, count it in the metrics, and wake requests that wait for
    a slot in the batch or API key, or for the image."""
    announce(requests, transition)
    if transition.source is None or transition.target == Status.IN_PROGRESS:
        return
    for limit, group_id in dict.fromkeys(group for request in requests for group in run_limits.groups_of(request)):
        transaction.on_commit(partial(limit.fill, group_id), robust=True)
    for request in requests:
        for wake in wake_ups(request, is_limited=False):
            transaction.on_commit(wake, robust=True)
    if transition.target in TERMINAL:
        transaction.on_commit(partial(references.source_ended, [request.pk for request in requests]), robust=True)


def announce(requests: Sequence[GenerationRequest], transition: Transition) -> None:
    """After the commit, publish the transition to subscribers and count it in the metrics. Neither blocks."""
    events.announce(requests)
    if settings.ENABLE_METRICS:
        transaction.on_commit(lambda: _count(requests, transition), robust=True)


def wake_ups(request: GenerationRequest, *, is_limited: bool, is_source: bool = False) -> list[Callable[[], object]]:
    """Return the functions that wake requests that wait for a slot in this one's batch or API key, if one of them
    ``is_limited``, or for its image, if it ``is_source`` of others or may be shared. They are run after the commit and
    may block."""
    functions: list[Callable[[], object]] = []
    if is_limited:
        functions += [partial(limit.fill, group_id) for limit, group_id in run_limits.groups_of(request)]
    if request.options.use_cache:
        functions.append(partial(result_cache.wake, request.pk))
    if is_source:
        functions.append(partial(references.source_ended, [request.pk]))
    return functions


def _count(requests: Sequence[GenerationRequest], transition: Transition) -> None:
    for request in requests:
        metrics.count_transition(request, transition)
