"""The spending of an owner on one day (UTC, by the database's clock), and whether there is enough left for more.

An owner's day has one row. A submit under a budget locks it, so that of many at once no more are accepted than the
budget has room for. Accepted requests that are not paid yet count by their estimate. Each call under a budget is
checked again before it is sent, since failed attempts may have been billed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet, Sum

from generation.caching import ttl_cache
from generation.db.functions import database_now
from generation.models import Budget, GenerationAttempt, GenerationRequest, Spending
from generation.providers.pricing import OverBudgetError
from generation.states import ACTIVE, AttemptOutcome, Status

_NOTHING: Final = Decimal(0)
#: For how many seconds a process goes by the budgets that it has read.
_LIFETIME: Final = 5


def today() -> date:
    """Return the day that spending belongs to now."""
    return database_now().date()


def book(owner_id: int, cost: Decimal, *, calls: int = 1) -> None:
    """Add a cost to the owner's day, within the caller's transaction."""
    day = today()
    Spending.objects.get_or_create(owner_id=owner_id, day=day)
    Spending.objects.filter(owner_id=owner_id, day=day).update(cost=F("cost") + cost, calls=F("calls") + calls)


def book_late(request: GenerationRequest, number: int, noted: dict[str, Any], price: Decimal | None) -> None:
    """Book the cost of a call beyond what was booked when its attempt ended.

    A running attempt is left to its own end, as where a lease was renewed during a rescue.
    """
    with transaction.atomic():
        ended = GenerationAttempt.objects.select_for_update().exclude(outcome=AttemptOutcome.RUNNING)
        attempt = ended.filter(request=request, claim=number, cost=None).first()
        if attempt is None:  # its cost is known and booked; a repeated end must not book it again
            return
        booked = attempt.booked_cost or Decimal(0)
        more = max((price or Decimal(0)) - booked, Decimal(0))
        values = noted | {"cost": noted.get("cost", price), "booked_cost": (booked + more) or None}
        GenerationAttempt.objects.filter(pk=attempt.pk).update(**values)
        if more:
            # The call was counted when its estimate was booked.
            book(request.owner_id, more, calls=0 if booked else 1)


def limit(owner_id: int) -> Decimal | None:
    """What the owner may spend in a day; ``None`` is any amount."""
    own = _budgets().get(owner_id)
    return settings.DAILY_BUDGET if own is None else own


@contextmanager
def reserving(owner_id: int, wanted: Sequence[Decimal | None]) -> Iterator[None]:
    """Make sure that there is enough left today for so much more, and let nobody else have it before the block, which
    accepts it, ends. Raises :class:`OverBudgetError`. An unknown price counts as nothing, and what is free is always
    accepted."""
    per_day = limit(owner_id)
    more = sum((one for one in wanted if one), _NOTHING)
    if per_day is None or not more:
        yield
        return
    with transaction.atomic():
        spent = _locked_spending(owner_id)
        active = GenerationRequest.objects.filter(owner_id=owner_id, status__in=ACTIVE)
        reserved = active.aggregate(sum=Sum("estimated_cost"))["sum"] or _NOTHING
        _check(per_day, spent, reserved, more)
        yield


def check_call(owner_id: int, estimate: Decimal, *, attempt: QuerySet[GenerationAttempt]) -> None:
    """Raise :class:`OverBudgetError` where a call of this price does not fit beside what was spent today and the other
    calls under way. The caller's transaction, which notes the call with its ``attempt``, keeps the owner's day locked
    until it ends. A call whose earlier commit was not confirmed is noted already, and does not count twice."""
    per_day = limit(owner_id)
    if per_day is None:
        return
    spent = _locked_spending(owner_id)
    # Reads the few requests in progress by their index.
    others = GenerationAttempt.objects.exclude(pk__in=attempt.values("pk"))
    under_way = others.filter(
        request__owner_id=owner_id,
        request__status=Status.IN_PROGRESS,
        outcome=AttemptOutcome.RUNNING,
        call_started_at__isnull=False,
        billable=True,
    ).aggregate(sum=Sum("estimated_cost"))["sum"]
    _check(per_day, spent, under_way or _NOTHING, estimate)


def _locked_spending(owner_id: int) -> Decimal:
    row, _ = Spending.objects.get_or_create(owner_id=owner_id, day=today())
    return Spending.objects.select_for_update().get(pk=row.pk).cost


def _check(per_day: Decimal, spent: Decimal, reserved: Decimal, wanted: Decimal) -> None:
    if spent + reserved + wanted > per_day:
        raise OverBudgetError(per_day=per_day, spent=spent, reserved=reserved, wanted=wanted)


@ttl_cache(seconds=_LIFETIME)
def _budgets() -> dict[int, Decimal]:
    return dict(Budget.objects.values_list("owner_id", "per_day"))
