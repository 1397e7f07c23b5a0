"""Concurrency limits: free slots of a batch, of an API key and of a provider."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import transaction
from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from generation.db.functions import Now
from generation.db.locks import locked_keys
from generation.models import (
    ApiKey,
    GenerationAttempt,
    GenerationBatch,
    GenerationQueue,
    GenerationRequest,
    ProviderState,
)
from generation.queue import dispatch, pauses
from generation.states import PARKED_WEIGHT, Status

#: The most requests of a group that are counted ahead of another.
_COUNTED: Final = 1_000


@dataclass(frozen=True, slots=True)
class Usage:
    """The used slots of a group, their number, and how many of its queued requests come before one of them, at most
    ``_COUNTED``."""

    running: int
    most: int
    ahead: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLimit:
    """A limit on how many requests of a group are in progress at once. ``model`` has a row for each group with the
    limit in ``column``, and a request names its group in ``field``."""

    model: type[GenerationBatch] | type[ApiKey]
    column: str
    field: str

    def limited(self) -> QuerySet[Any]:
        """Return the groups that have a limit."""
        return self.model._default_manager.filter(**{f"{self.column}__isnull": False})

    def of(self, request: GenerationRequest) -> str | None:
        """Return the key of the request's group, None if it has none."""
        key: str | None = getattr(request, f"{self.field}_id")
        return key

    def usage(self, request: GenerationRequest) -> Usage | None:
        """Return how the limit of a queued request's group is used; None if it has no group or no limit."""
        group_id = self.of(request)
        group = self._with_used_slots().filter(pk=group_id).first() if group_id else None
        if group is None:
            return None
        own = GenerationQueue.objects.filter(pk=request.pk)
        weight, turn = Subquery(own.values("priority_weight")), Subquery(own.values("turn"))
        same_turn = Q(turn=turn) & Q(pk__lt=request.pk)
        before = Q(priority_weight__gt=weight) | Q(priority_weight=weight) & (Q(turn__lt=turn) | same_turn)
        waiting = GenerationQueue.objects.filter(before, held=True, **{f"request__{self.field}": group_id})
        ahead = waiting.values("pk")[:_COUNTED].count()
        return Usage(running=group.used, most=getattr(group, self.column), ahead=ahead)

    def has_free_slot(self, request_id: str) -> bool:
        """Return whether the request's group has a free slot; True if it has no group or no limit.

        The group's row stays locked until the transaction ends, so that two claims cannot take the same slot.
        """
        requests = GenerationRequest.objects.filter(pk=request_id)
        group = self._locked(self.limited().filter(pk__in=requests.values(self.field)))
        running = GenerationRequest.objects.filter(status=Status.IN_PROGRESS, **{self.field: group and group.pk})
        return group is None or running.count() < getattr(group, self.column)

    def fill(self, group_id: str) -> int:
        """Unhold as many held requests of a group as it has free slots, and send them. Return their number.

        It is done in a transaction of its own, after the transaction that frees a slot: a slot that stays free for a
        moment does no harm, and locks taken in two orders would deadlock. A request with two limits is left to the
        API key's, which skips it while its batch has no free slot: sent without, it would only be held again.
        """
        with transaction.atomic():
            group = self._locked(self.limited().filter(pk=group_id))
            if group is None:
                return 0
            free = getattr(group, self.column) - self._with_used_slots().get(pk=group_id).used
            # Rows that another transaction has locked are being cancelled. Skipping them rules out a deadlock.
            found: list[tuple[str, int, str | None]] = list(
                self._fillable(**{f"request__{self.field}": group_id})
                .select_for_update(skip_locked=True, of=("self",))
                .order_by("-priority_weight", "turn", "queued_at", "pk")
                .values_list("pk", "priority_weight", "request__batch")[: max(0, free)]
            )
            fitting = found if self is BATCH else _within_batches(found)
            rows = [(pk, weight) for pk, weight, _ in fitting]
            allowed = dispatch.reserve_capacity([weight for _, weight in rows])
            messages = [row for row, is_allowed in zip(rows, allowed, strict=True) if is_allowed]
            # Update each row once. For a row that this transaction has already written, PostgreSQL checks the foreign
            # key again, which locks the request, and would wait for a transaction that cancels it and waits for this
            # row.
            send_now = [pk for pk, _ in messages]
            send_later = [pk for pk, _ in rows if pk not in send_now]
            GenerationQueue.objects.filter(pk__in=send_now).update(held=False, **dispatch.dispatch_columns())
            GenerationQueue.objects.filter(pk__in=send_later).update(held=False)
            dispatch.send_after_commit(messages)
        return len(rows)

    def to_fill(self, most: int) -> list[str]:
        """Return the groups with a free slot and a held request that is due: a freed slot was not filled, or the delay
        of a retry is over."""
        groups = self._with_used_slots().filter(pk__in=self._fillable().values(f"request__{self.field}"))
        return list(groups.filter(used__lt=F(self.column)).values_list("pk", flat=True)[:most])

    def _with_used_slots(self) -> QuerySet[Any]:
        """Return the groups that have a limit, with the number of their requests that are in progress or may start."""
        may_start = Q(queue_entry__held=False, queue_entry__available_at__lte=Now()) & ~pauses.of_paused_kind()
        used = (
            GenerationRequest.objects.filter(Q(status=Status.IN_PROGRESS) | may_start)
            .filter(**{self.field: OuterRef("pk")})
            .order_by()
            .values(self.field)
            .values_list(Count("pk"))
        )
        groups: QuerySet[Any] = self.limited().annotate(used=Coalesce(Subquery(used), 0))
        return groups

    def _fillable(self, **conditions: Any) -> QuerySet[GenerationQueue]:
        """Return the held rows that are due and for which this limit is responsible."""
        rows = pauses.without_paused(_held().filter(available_at__lte=Now(), **conditions))
        if self is BATCH:
            return rows.filter(request__api_key__max_active=None)
        batches = BATCH._with_used_slots().filter(pk__in=rows.values("request__batch"))
        return rows.exclude(request__batch__in=batches.filter(used__gte=F(BATCH.column)).values("pk"))

    @staticmethod
    def _locked(groups: QuerySet[Any]) -> Any:
        # A new request of the group locks its row as well, for its foreign key; ``no_key`` does not wait for that.
        return groups.select_for_update(no_key=True).first()


BATCH: Final = RunLimit(model=GenerationBatch, column="max_concurrent", field="batch")
KEY: Final = RunLimit(model=ApiKey, column="max_active", field="api_key")
#: In the order in which their rows are locked.
LIMITS: Final = (BATCH, KEY)


def has_free_slots(request_id: str) -> bool:
    """Return whether the request may start, as far as its batch and its API key are concerned. If not, its queue row
    is marked as held."""
    if all(limit.has_free_slot(request_id) for limit in LIMITS):
        return True
    GenerationQueue.objects.filter(pk=request_id).update(held=True, dispatched_at=None, redispatch_at=None)
    return False


def groups_of(request: GenerationRequest) -> Iterator[tuple[RunLimit, str]]:
    """Yield the groups of a request, each with its limit."""
    for limit in LIMITS:
        if key := limit.of(request):
            yield limit, key


def _held() -> QuerySet[GenerationQueue]:
    """Return the rows that wait for a slot, and not for their images."""
    return GenerationQueue.objects.filter(held=True, priority_weight__gt=PARKED_WEIGHT)


def applies_to(request: GenerationRequest) -> bool:
    """Return whether the request's batch or API key has a limit."""
    return any(limit.limited().filter(pk=group_id).exists() for limit, group_id in groups_of(request))


def _within_batches(rows: Sequence[tuple[str, int, str | None]]) -> list[tuple[str, int, str | None]]:
    """Return those of the rows, each with its weight and batch, for which their batches have free slots."""
    batches = BATCH._with_used_slots().filter(pk__in={batch for *_, batch in rows if batch})
    free = {batch.pk: batch.max_concurrent - batch.used for batch in batches}
    fitting = []
    for row in rows:
        batch = row[2]
        if batch in free:
            free[batch] -= 1
        if free.get(batch, 0) >= 0:
            fitting.append(row)
    return fitting


def fill_all(most: int) -> int:
    """Send held requests of groups that have a free slot, at most ``most`` groups of each limit. Return their
    number."""
    if not _held().filter(available_at__lte=Now()).exists():
        return 0
    filled = sum(limit.fill(group_id) for limit in LIMITS for group_id in limit.to_fill(most))
    return filled + _unhold_unlimited(most)


def _unhold_unlimited(most: int) -> int:
    """Unhold requests whose limit was removed, for the dispatcher to send. Return their number."""
    rows = _held()
    for limit in LIMITS:
        rows = rows.filter(**{f"request__{limit.field}__{limit.column}": None})
    with transaction.atomic():
        return GenerationQueue.objects.filter(pk__in=locked_keys(rows, limit=most)).update(held=False)


def provider_has_free_slot(state: ProviderState) -> bool:
    """Return whether the provider may have one more call in progress. The caller has locked its row.

    A call counts until it ends, or until its deadline if its worker was lost, since the provider may still process it.
    """
    if state.max_concurrent is None:
        return True
    running = GenerationAttempt.objects.filter(provider=state.pk, call_deadline_at__gt=Now())
    return running.count() < state.max_concurrent
