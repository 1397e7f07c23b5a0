"""Why a queued request waits. What is needed is in its queue row or in this process's caches; only a request that waits
for a retry, a limit or an image needs a further query."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from generation.models import GenerationRequest, StatusChange
from generation.providers import availability
from generation.queue import pauses, processes
from generation.queue.estimates import Place
from generation.queue.run_limits import BATCH, KEY, Usage
from generation.requests import input_images
from generation.requests.representations import timestamp
from generation.states import PARKED_WEIGHT, ErrorCode, Reason, WaitReason


@dataclass(frozen=True, slots=True)
class Why:
    """A reason with its facts by their names on the wire."""

    reason: WaitReason
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the reason as clients see it."""
        facts = {key: timestamp(fact) if isinstance(fact, datetime) else fact for key, fact in self.facts.items()}
        return {"reason": self.reason.value, **facts}

    @property
    def until(self) -> datetime | None:
        """Until when the reason holds, if that is known."""
        return self.facts.get("until")


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A queued request with what its reasons depend on. ``ahead`` is the number of queue rows before it, and
    ``providers`` are those that can do it, in their order."""

    request: GenerationRequest
    place: Place
    ahead: int
    providers: Sequence[str]
    usages: Mapping[WaitReason, Usage]
    now: datetime

    @property
    def is_delayed(self) -> bool:
        """Whether it is not due yet."""
        return self.place.weight > PARKED_WEIGHT and self.place.available_at > self.now


def usages(request: GenerationRequest, place: Place) -> dict[WaitReason, Usage]:
    """Return the used slots of the batch and of the API key for which a held request waits."""
    if not place.held or place.weight == PARKED_WEIGHT:
        return {}
    found = {WaitReason.BATCH_LIMIT: BATCH.usage(request), WaitReason.KEY_LIMIT: KEY.usage(request)}
    used = {reason: usage for reason, usage in found.items() if usage is not None}
    # A slot that was just freed is filled in a moment; until then all limits are named.
    full = {reason: usage for reason, usage in used.items() if usage.running >= usage.most}
    return full or used


def of(waiting: Waiting) -> tuple[Why, ...]:
    """Return the reasons that hold, in the order of :class:`WaitReason`, which is that of the contract."""
    found = [why for find in _FINDERS for why in find(waiting)]
    return tuple(sorted(found, key=lambda why: _ORDER.index(why.reason)))


def _paused(waiting: Waiting) -> Iterator[Why]:
    if pause := pauses.pause_of(waiting.request):
        yield Why(WaitReason.PAUSED, {"scope": pause.scope, "value": pause.value or None, "why": pause.reason or None})


def _reference(waiting: Waiting) -> Iterator[Why]:
    request, awaited = waiting.request, waiting.place.waits_for
    if waiting.place.weight == PARKED_WEIGHT:
        if image := input_images.waits_for(request):
            yield Why(WaitReason.REFERENCE, {"requestId": image.source_id, "status": image.status})
    elif waiting.is_delayed and awaited.startswith("vga_"):
        # It reuses the image of an identical request of its owner, which is being generated.
        status = GenerationRequest.objects.filter(pk=awaited).values_list("status", flat=True).first()
        yield Why(WaitReason.REFERENCE, {"requestId": awaited, "status": status})


def _not_before(waiting: Waiting) -> Iterator[Why]:
    not_before = waiting.request.not_before
    if not_before is not None and not_before > waiting.now:
        yield Why(WaitReason.NOT_BEFORE, {"until": not_before.astimezone(UTC)})


def _delayed(waiting: Waiting) -> Iterator[Why]:
    place = waiting.place
    if not waiting.is_delayed or place.waits_for:
        return
    changes = StatusChange.objects.filter(request=waiting.request.pk).order_by("-sequence")
    reason, error_code = changes.values_list("reason", "error_code").first() or ("", "")
    until = {"until": place.available_at.astimezone(UTC)}
    if reason == Reason.GIVEN_BACK:
        if provider := availability.first_limited(waiting.providers):
            yield Why(WaitReason.PROVIDER_RATE, {"provider": provider} | until)
            return
        error_code = ErrorCode.STORAGE
    yield Why(WaitReason.RETRY, until | {"errorCode": error_code or None})


def _limits(waiting: Waiting) -> Iterator[Why]:
    for reason, usage in waiting.usages.items():
        facts = {"running": usage.running, "max": usage.most} if reason == WaitReason.BATCH_LIMIT else {}
        yield Why(reason, facts)


def _suspended(waiting: Waiting) -> Iterator[Why]:
    if waiting.place.weight == PARKED_WEIGHT:
        return
    if state := availability.suspension(waiting.providers):
        until = state.open_until and state.open_until.astimezone(UTC)
        yield Why(WaitReason.PROVIDER_SUSPENDED, {"provider": state.pk, "until": until, "code": state.reason or None})


def _processes(_: Waiting) -> Iterator[Why]:
    live = processes.capacity()
    if not live.slots:
        yield Why(WaitReason.NO_WORKER)
    if not live.dispatchers:
        yield Why(WaitReason.NO_DISPATCHER)


def _queue(waiting: Waiting) -> Iterator[Why]:
    place = waiting.place
    if place.weight > PARKED_WEIGHT:
        others = place.earlier - place.own if place.fair_key else None
        facts = {"ahead": waiting.ahead, "aheadMorePressing": place.more_pressing, "aheadOthers": others}
        yield Why(WaitReason.QUEUE, facts | {"slots": processes.capacity().slots})


_ORDER: Final = list(WaitReason)
_FINDERS: Final[Sequence[Callable[[Waiting], Iterator[Why]]]] = (
    _paused,
    _reference,
    _not_before,
    _delayed,
    _limits,
    _suspended,
    _processes,
    _queue,
)
