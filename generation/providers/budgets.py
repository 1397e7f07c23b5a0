"""Daily budgets of owners and API keys: book the spending, and check whether the rest of the day's budget suffices.

A day is in UTC, by the database's clock. Each owner and day has one row. A submit under a budget locks it, so that
concurrent submits together stay within the budget. Accepted requests that are not paid yet count by their estimate.
Each call under a budget is checked again before it is sent, since failed attempts may have been billed. The spending of
a key is what its attempts of the day cost; its own row is the lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet, Sum

from generation.caching import ttl_cache
from generation.db.functions import database_now
from generation.models import ApiKey, Budget, GenerationAttempt, GenerationRequest, Spending
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Purse:
    """A budget that a request counts against: ``per_day`` in US dollars, the ``requests`` that share it, and the
    function that locks it until the transaction ends and returns what is spent today."""

    name: str
    per_day: Decimal
    requests: QuerySet[GenerationRequest]
    lock: Callable[[], Decimal]

    def check(self, spent: Decimal, reserved: Decimal | None, wanted: Decimal) -> None:
        """Raise :class:`OverBudgetError` if the rest of the budget does not suffice."""
        reserved = reserved or _ZERO
        if spent + reserved + wanted > self.per_day:
            raise OverBudgetError(name=self.name, per_day=self.per_day, spent=spent, reserved=reserved, wanted=wanted)


def limit(owner_id: int) -> Decimal | None:
    """Return the owner's daily budget in US dollars, or None if it is unlimited."""
    own_budget = _budgets().get(owner_id)
    return settings.DAILY_BUDGET if own_budget is None else own_budget


def has_limit(owner_id: int, key_id: str | None) -> bool:
    """Return whether a budget applies to the owner or to the API key."""
    return limit(owner_id) is not None or (key_id is not None and _key_budget(key_id) is not None)


def _purses(owner_id: int, key_id: str | None) -> Iterator[_Purse]:
    """Yield the budgets that apply, in the order in which they are locked."""
    if (per_day := limit(owner_id)) is not None:
        requests = GenerationRequest.objects.filter(owner_id=owner_id)
        yield _Purse(name="budget", per_day=per_day, requests=requests, lock=partial(_locked_spending, owner_id))
    if key_id is not None and (per_day := _key_budget(key_id)) is not None:
        requests = GenerationRequest.objects.filter(api_key_id=key_id)
        lock = partial(_locked_spending_of_key, key_id)
        yield _Purse(name="budget of the API key", per_day=per_day, requests=requests, lock=lock)


@contextmanager
def reserve(owner_id: int, estimates: Sequence[Decimal | None], *, key_id: str | None) -> Iterator[None]:
    """Reserve the sum of the estimates in the budgets of today while the block accepts the requests.

    The budgets stay locked until the block ends. An unknown price counts as 0, and free requests are always accepted.
    Raises :class:`OverBudgetError`.
    """
    wanted = sum((estimate for estimate in estimates if estimate), _ZERO)
    purses = list(_purses(owner_id, key_id)) if wanted else []
    if not purses:
        yield
        return
    with transaction.atomic():
        for purse in purses:
            spent = purse.lock()  # before the sum, which must see what was accepted meanwhile
            active = purse.requests.filter(status__in=ACTIVE)
            purse.check(spent, active.aggregate(sum=Sum("estimated_cost"))["sum"], wanted)
        yield


def check_call(request: GenerationRequest, estimate: Decimal, *, attempt: QuerySet[GenerationAttempt]) -> None:
    """Raise :class:`OverBudgetError` if today's spending, the running calls and this call exceed a budget.

    The caller's transaction, which records the call in its ``attempt``, keeps the budgets locked until it ends. A call
    is already recorded if the commit of an earlier try was not confirmed; it does not count twice.
    """
    for purse in _purses(request.owner_id, request.api_key_id):
        spent = purse.lock()
        # Reads the few requests in progress by their index.
        other_attempts = GenerationAttempt.objects.exclude(pk__in=attempt.values("pk"))
        running = other_attempts.filter(
            request__in=purse.requests.filter(status=Status.IN_PROGRESS),
            outcome=AttemptOutcome.RUNNING,
            call_started_at__isnull=False,
            billable=True,
        ).aggregate(sum=Sum("estimated_cost"))["sum"]
        purse.check(spent, running, estimate)


def _locked_spending(owner_id: int) -> Decimal:
    row, _ = Spending.objects.get_or_create(owner_id=owner_id, day=today())
    return Spending.objects.select_for_update().get(pk=row.pk).cost


def _locked_spending_of_key(key_id: str) -> Decimal:
    # A new request of the key locks its row as well, for its foreign key; ``no_key`` does not wait for that.
    ApiKey.objects.select_for_update(no_key=True).filter(pk=key_id).first()
    midnight = database_now().replace(hour=0, minute=0, second=0, microsecond=0)
    ended = GenerationAttempt.objects.filter(api_key_id=key_id, finished_at__gte=midnight)
    return ended.aggregate(sum=Sum("booked_cost"))["sum"] or _ZERO


@ttl_cache(seconds=_LIFETIME)
def _budgets() -> dict[int, Decimal]:
    return dict(Budget.objects.values_list("owner_id", "per_day"))


@ttl_cache(seconds=_LIFETIME, maxsize=4096)
def _key_budget(key_id: str) -> Decimal | None:
    # One by one, so that a new key's is not missing from what is cached.
    return ApiKey.objects.filter(pk=key_id).values_list("daily_budget", flat=True).first()
