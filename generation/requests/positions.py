"""The queue position of a request, when it is expected to start and to end, and why it waits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from django.contrib.auth.models import User

from generation.access import grants
from generation.db import queries
from generation.db.execution import fetch_one
from generation.models import GenerationRequest
from generation.models.options import GenerationOptions
from generation.providers import availability
from generation.queue import backlog, estimates, figures, given_estimates, pauses
from generation.queue.estimates import Place
from generation.queue.forecasts import Estimate, Start
from generation.queue.given_estimates import Given
from generation.requests import waiting_reasons
from generation.requests.waiting_reasons import Waiting, Why
from generation.states import PARKED_WEIGHT, WEIGHTS, WaitReason

#: While one of these holds, the start cannot be told.
_UNKNOWN: Final = frozenset({WaitReason.PAUSED, WaitReason.REFERENCE, WaitReason.NO_WORKER})


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """Position of a queued request, from 1, or None while it is parked; its estimate, or None while its start cannot be
    known; and the reasons why it waits. It is not ``possible`` if no model can do it.

    The position rises when an owner with fewer queued requests submits one, since owners take turns.
    """

    position: int | None
    estimate: Estimate | None
    reasons: tuple[Why, ...] = ()
    possible: bool = True

    @property
    def estimated_wait(self) -> int | None:
        """The seconds until the image, or None."""
        return self.estimate.done_p50 if self.estimate else None


#: Of a request that waits for its images, as far as a submit knows.
PARKED: Final = QueuePosition(None, None)


def of_request(request: GenerationRequest, *, most_at_once: int | None = None) -> QueuePosition | None:
    """Return the queue position, or None if the request is not queued (any more).

    A request that was just submitted needs no query: the submit has counted the queue rows ahead, and the other figures
    come from this process's caches, some seconds old. Its reasons are not looked for. ``most_at_once`` is the limit of
    its batch or its API key, if it has one.
    """
    if request.is_parked and request.inputs is not None:
        return PARKED
    if request.ahead is not None:
        return _of_submitted(request, most_at_once)
    row = fetch_one(queries.COUNT_AHEAD, {"request": request.pk})
    return None if row is None else of_place(request, Place(*row))


def of_place(request: GenerationRequest, place: Place) -> QueuePosition:
    """Return the queue position of a request whose queue row has this place."""
    ahead = place.more_pressing + place.earlier
    if ahead >= queries.COUNTED:
        ahead = max(ahead, backlog.estimated_ahead(place.weight, place.turn, place.queued_at))
    route = _route(request)
    waiting = Waiting(
        request=request,
        place=place,
        ahead=ahead,
        providers=[provider for provider, _ in route],
        usages=waiting_reasons.usages(request, place),
        now=datetime.now(UTC),
    )
    reasons = waiting_reasons.of(waiting)
    is_unknown = not route or any(why.reason in _UNKNOWN for why in reasons)
    begin = None if is_unknown else _start(waiting, reasons)
    return QueuePosition(
        position=None if place.weight == PARKED_WEIGHT else ahead + 1,
        estimate=begin and estimates.estimate(request, begin, model=route[0][1]),
        reasons=reasons,
        possible=bool(route),
    )


def _start(waiting: Waiting, reasons: Sequence[Why]) -> Start | None:
    """Return when the request starts: the latest of its turn in the queue, its turns in its batch and its API key, and
    the ends of the reasons."""
    ahead = waiting.ahead
    if waiting.place.weight == PARKED_WEIGHT:  # it will come behind all that waits
        ahead = backlog.behind_all(WEIGHTS[waiting.request.priority])
    begin = estimates.start(ahead, limit=_limit(waiting.providers))
    if begin is None:
        return None
    for usage in waiting.usages.values():
        in_group = estimates.group_start(usage.ahead, most=usage.most, running=usage.running)
        begin = Start(max(begin.p50, in_group.p50), max(begin.p90, in_group.p90))
    begin = estimates.corrected(begin)
    for why in reasons:
        if why.until is not None:
            begin = begin.at_least((why.until - waiting.now).total_seconds())
    return begin


def _of_submitted(request: GenerationRequest, most_at_once: int | None) -> QueuePosition:
    route, ahead = _route(request), _ahead(request)
    position = None if request.is_parked else ahead + 1
    providers = [provider for provider, _ in route]
    begin = None
    if route and not pauses.pause_of(request):
        begin = estimates.start(ahead, limit=min(_limit(providers), most_at_once or math.inf))
    if begin is None:
        return QueuePosition(position=position, estimate=None, possible=bool(route))
    begin = estimates.corrected(begin)
    state = availability.suspension(providers)
    for until in (request.not_before, state.open_until if state else None):
        if until is not None:
            begin = begin.at_least((until - datetime.now(UTC)).total_seconds())
    return QueuePosition(position=position, estimate=estimates.estimate(request, begin, model=route[0][1]))


def _ahead(request: GenerationRequest) -> int:
    """Return how many queue rows are ahead of a request that was just submitted."""
    weight = WEIGHTS[request.priority]
    if request.is_parked:  # it will come behind all that waits
        return backlog.behind_all(weight)
    ahead = request.ahead or 0
    return ahead if ahead < queries.COUNTED else max(ahead, backlog.estimated_ahead(weight, request.turn, None))


def limit_of(user: User, max_concurrent: int | None = None) -> int | None:
    """Return how many of the requests that the user submits may be in progress at once, or None for no limit."""
    grant = grants.grant_of(user)
    limits = [grant.max_active if grant else None, max_concurrent]
    return min((limit for limit in limits if limit), default=None)


def keep_estimates(requests: Sequence[GenerationRequest], *, most_at_once: int | None) -> None:
    """Keep the estimates of requests that were just submitted together and wait for nothing but their turn, to be
    measured later. Those that are made of assumptions would correct nothing but these."""
    kept: list[Given] = []
    if most_at_once is not None or figures.recent().occupancy.count < figures.ENOUGH:
        return
    for index in given_estimates.spread(len(requests)):
        request = requests[index]
        providers = [provider for provider, _ in _route(request)]
        if request.is_parked or request.ahead is None or pauses.pause_of(request) or availability.suspension(providers):
            continue
        if providers and (begin := estimates.start(_ahead(request), limit=_limit(providers))):
            kept.append(Given(request.pk, request.created_at, begin, estimates.corrected(begin)))
    given_estimates.note(kept)


def _limit(providers: Sequence[str]) -> float:
    return availability.slots(providers, seconds=figures.recent().occupancy.mean)


def _route(request: GenerationRequest) -> tuple[tuple[str, str], ...]:
    # Without the length of the prompt, for which it would be read. It was checked at submit.
    options = GenerationOptions.parse(request.metadata)
    return availability.route(options if request.inputs is None else request.parsed_inputs.applied_to(options))
