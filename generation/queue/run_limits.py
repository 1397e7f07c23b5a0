"""Concurrency limits: free slots of a batch, of an API key and of a provider."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.db import transaction
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from generation.db.functions import Now
from generation.models import (
    ApiKey,
    GenerationAttempt,
    GenerationBatch,
    GenerationQueue,
    GenerationRequest,
    ProviderState,
)
from generation.queue import dispatch, pauses
from generation.states import Status


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

    def has_free_slot(self, request_id: str) -> bool:
        """Return whether the request's group has a free slot; True if it has no group or no limit.

        The group's row stays locked until the transaction ends, so that two claims cannot take the same slot.
        """
        requests = GenerationRequest.objects.filter(pk=request_id)
        group = self._locked(self.limited().filter(pk__in=requests.values(self.field)))
        return group is None or self._running(group.pk) < getattr(group, self.column)

    def fill(self, group_id: str) -> int:
        """Unhold as many held requests of a group as it has free slots, and send them. Return their number.

        It is done in a transaction of its own, after the transaction that frees a slot: a slot that stays free for a
        moment does no harm, and locks taken in two orders would deadlock.
        """
        with transaction.atomic():
            group = self._locked(self.limited().filter(pk=group_id))
            if group is None:
                return 0
            queue_rows = GenerationQueue.objects.filter(**{f"request__{self.field}": group_id})
            free = getattr(group, self.column) - self._running(group_id) - queue_rows.filter(held=False).count()
            # Rows that another transaction has locked are being cancelled. Skipping them rules out a deadlock.
            rows = list(
                pauses.without_paused(queue_rows)
                .select_for_update(skip_locked=True, of=("self",))
                .filter(held=True, available_at__lte=Now())
                .order_by("-priority_weight", "queued_at", "pk")
                .values_list("pk", "priority_weight")[: max(0, free)]
            )
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
        held = pauses.without_paused(GenerationQueue.objects.filter(held=True, available_at__lte=Now()))
        used_slots = (
            GenerationRequest.objects.filter(Q(status=Status.IN_PROGRESS) | Q(queue_entry__held=False))
            .filter(**{self.field: OuterRef("pk")})
            .order_by()
            .values(self.field)
            .values_list(Count("pk"))
        )
        groups = self.limited().filter(pk__in=held.values(f"request__{self.field}"))
        unfilled = groups.filter(**{f"{self.column}__gt": Coalesce(Subquery(used_slots), 0)})
        return list(unfilled.values_list("pk", flat=True)[:most])

    @staticmethod
    def _locked(groups: QuerySet[Any]) -> Any:
        # A new request of the group locks its row as well, for its foreign key; ``no_key`` does not wait for that.
        return groups.select_for_update(no_key=True).first()

    def _running(self, group_id: str) -> int:
        return GenerationRequest.objects.filter(status=Status.IN_PROGRESS, **{self.field: group_id}).count()


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


def applies_to(request: GenerationRequest) -> bool:
    """Return whether the request's batch or API key has a limit."""
    return any(limit.limited().filter(pk=group_id).exists() for limit, group_id in groups_of(request))


def fill_all(most: int) -> int:
    """Send held requests of groups that have a free slot, at most ``most`` groups of each limit. Return their
    number."""
    return sum(limit.fill(group_id) for limit in LIMITS for group_id in limit.to_fill(most))


def provider_has_free_slot(state: ProviderState) -> bool:
    """Return whether the provider may have one more call in progress. The caller has locked its row.

    A call counts until it ends, or until its deadline if its worker was lost, since the provider may still process it.
    """
    if state.max_concurrent is None:
        return True
    running = GenerationAttempt.objects.filter(provider=state.pk, call_deadline_at__gt=Now())
    return running.count() < state.max_concurrent
