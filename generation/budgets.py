"""What an owner has spent on one day (UTC), and whether there is enough left for more.

An owner's day has one row. Whoever submits under a budget locks it, so that of many at once no more are accepted than
the budget has room for; what is accepted and not yet paid counts by its estimate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import Sum

from generation.inserts import adding
from generation.models import Budget, GenerationRequest, Spending
from generation.prepared import Statement
from generation.pricing import OverBudgetError
from generation.remembered import briefly
from generation.states import ACTIVE

_NOTHING: Final = Decimal(0)
#: For how many seconds a process goes by the budgets that it has read.
_LIFETIME: Final = 5


def today() -> date:
    """The day that spending belongs to."""
    return datetime.now(UTC).date()


def spending(owner_id: int, cost: Decimal | None) -> list[Statement]:
    """What notes the cost of a call along with the change that ends it. What is not known, or free, is no spending."""
    if not cost:
        return []
    return [adding(Spending, {"owner": owner_id, "day": today()}, {"cost": cost, "calls": 1})]


def limit(owner_id: int) -> Decimal | None:
    """What the owner may spend in a day; ``None`` is any amount."""
    own = _budgets().get(owner_id)
    return settings.DAILY_BUDGET if own is None else own


@contextmanager
def reserving(owner_id: int, wanted: Sequence[Decimal | None]) -> Iterator[None]:
    """Make sure that there is enough left today for so much more, and let nobody else have it before the block, which
    accepts it, ends. Raises :class:`OverBudgetError`. What nobody knows the price of counts nothing, and what is free
    is always welcome."""
    per_day = limit(owner_id)
    more = sum((one for one in wanted if one), _NOTHING)
    if per_day is None or not more:
        yield
        return
    with transaction.atomic():
        _check(owner_id, per_day, more)
        yield


def _check(owner_id: int, per_day: Decimal, more: Decimal) -> None:
    row, _ = Spending.objects.get_or_create(owner_id=owner_id, day=today())
    spent = Spending.objects.select_for_update().get(pk=row.pk).cost
    active = GenerationRequest.objects.filter(owner_id=owner_id, status__in=ACTIVE)
    reserved = active.aggregate(sum=Sum("estimated_cost"))["sum"] or _NOTHING
    if spent + reserved + more > per_day:
        raise OverBudgetError(per_day=per_day, spent=spent, reserved=reserved, wanted=more)


def forget() -> None:
    """Read the budgets again at the next question."""
    _budgets.cache_clear()


@briefly(seconds=_LIFETIME)
def _budgets() -> dict[int, Decimal]:
    return dict(Budget.objects.values_list("owner_id", "per_day"))
