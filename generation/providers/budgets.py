"""Daily budgets: book an owner's spending, and check whether the rest of the day's budget suffices.

A day is in UTC, by the database's clock. Each owner and day has one row. A submit under a budget locks it, so that
concurrent submits together stay within the budget. Accepted requests that are not paid yet count by their estimate.
Each call under a budget is checked again before it is sent, since failed attempts may have been billed.
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

_ZERO: Final = Decimal(0)
#: Seconds for which a process caches the budgets.
_LIFETIME: Final = 5


def today() -> date:
    """Return the day to which spending is booked now."""
    return database_now().date()


def book(owner_id: int, cost: Decimal, *, calls: int = 1) -> None:
    """Add a cost to the owner's spending of today, within the caller's transaction."""
    day = today()
    Spending.objects.get_or_create(owner_id=owner_id, day=day)
    Spending.objects.filter(owner_id=owner_id, day=day).update(cost=F("cost") + cost, calls=F("calls") + calls)


def book_late(request: GenerationRequest, claim: int, values: dict[str, Any], price: Decimal | None) -> None:
    """Book the part of a call's cost that was not booked when the attempt of this claim ended.

    ``values`` are further columns of the attempt. A running attempt is skipped, since its own end books the cost; it
    runs, for example, if its lease was renewed during a rescue.
    """
    with transaction.atomic():
        ended = GenerationAttempt.objects.select_for_update().exclude(outcome=AttemptOutcome.RUNNING)
        attempt = ended.filter(request=request, claim=claim, cost=None).first()
        if attempt is None:  # its cost is known and booked; a repeated end must not book it again
            return
        booked = attempt.booked_cost or _ZERO
        unbooked = max((price or _ZERO) - booked, _ZERO)
        values = values | {"cost": values.get("cost", price), "booked_cost": (booked + unbooked) or None}
        GenerationAttempt.objects.filter(pk=attempt.pk).update(**values)
        if unbooked:
            # If an estimate was booked, the call is already counted.
            book(request.owner_id, unbooked, calls=0 if booked else 1)


def limit(owner_id: int) -> Decimal | None:
    """Return the owner's daily budget in US dollars, or None if it is unlimited."""
    own_budget = _budgets().get(owner_id)
    return settings.DAILY_BUDGET if own_budget is None else own_budget


@contextmanager
def reserve(owner_id: int, estimates: Sequence[Decimal | None]) -> Iterator[None]:
    """Reserve the sum of the estimates in the owner's budget of today while the block accepts the requests.

    The owner's day stays locked until the block ends. An unknown price counts as 0, and free requests are always
    accepted. Raises :class:`OverBudgetError`.
    """
    per_day = limit(owner_id)
    wanted = sum((estimate for estimate in estimates if estimate), _ZERO)
    if per_day is None or not wanted:
        yield
        return
    with transaction.atomic():
        spent = _locked_spending(owner_id)
        active = GenerationRequest.objects.filter(owner_id=owner_id, status__in=ACTIVE)
        reserved = active.aggregate(sum=Sum("estimated_cost"))["sum"] or _ZERO
        _check(per_day, spent, reserved, wanted)
        yield


def check_call(owner_id: int, estimate: Decimal, *, attempt: QuerySet[GenerationAttempt]) -> None:
    """Raise :class:`OverBudgetError` if today's spending, the running calls and this call exceed the budget.

    The caller's transaction, which records the call in its ``attempt``, keeps the owner's day locked until it ends. A
    call is already recorded if the commit of an earlier try was not confirmed; it does not count twice.
    """
    per_day = limit(owner_id)
    if per_day is None:
        return
    spent = _locked_spending(owner_id)
    # Reads the few requests in progress by their index.
    other_attempts = GenerationAttempt.objects.exclude(pk__in=attempt.values("pk"))
    running = other_attempts.filter(
        request__owner_id=owner_id,
        request__status=Status.IN_PROGRESS,
        outcome=AttemptOutcome.RUNNING,
        call_started_at__isnull=False,
        billable=True,
    ).aggregate(sum=Sum("estimated_cost"))["sum"]
    _check(per_day, spent, running or _ZERO, estimate)


def _locked_spending(owner_id: int) -> Decimal:
    row, _ = Spending.objects.get_or_create(owner_id=owner_id, day=today())
    return Spending.objects.select_for_update().get(pk=row.pk).cost


def _check(per_day: Decimal, spent: Decimal, reserved: Decimal, wanted: Decimal) -> None:
    if spent + reserved + wanted > per_day:
        raise OverBudgetError(per_day=per_day, spent=spent, reserved=reserved, wanted=wanted)


@ttl_cache(seconds=_LIFETIME)
def _budgets() -> dict[int, Decimal]:
    return dict(Budget.objects.values_list("owner_id", "per_day"))
