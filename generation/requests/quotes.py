"""Prices and estimates of a submit that stores nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from django.contrib.auth.models import User
from django.db import transaction

from generation.providers import catalogue
from generation.requests import permissions
from generation.requests.new_request import NewRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Quote:
    """The price of requests in US dollars, None if that of one is unknown: ``usual`` if each is one call of the first
    model, ``highest`` if every attempt is billed, each at the most expensive model of its route. And the number of
    requests by their first models."""

    usual: Decimal | None
    highest: Decimal | None
    models: Counter[str]


def quote(owner: User, drafts: Sequence[NewRequest]) -> Quote:
    """Return the price of the requests. Raises :class:`generation.access.grants.NotAllowedError`."""
    usual: list[Decimal | None] = []
    highest: list[Decimal | None] = []
    models: Counter[str] = Counter()
    for draft in drafts:
        allowed = permissions.permitted(owner, draft)
        assert allowed.options is not None  # noqa: S101  every door parses them
        route = catalogue.choices(allowed.options)
        prices = [catalogue.call_estimate(choice, allowed.options) for choice in route]
        known = [price for price in prices if price is not None]
        models[route[0].model] += 1
        usual.append(prices[0])
        highest.append(max(known) * allowed.max_attempts if len(known) == len(prices) else None)
    return Quote(_sum(usual), _sum(highest), models)


def rolled_back(submit: Callable[[], T]) -> T:
    """Return what a submit returns, and undo it: so it finds everything wrong that a submit would, and has its place in
    the queue. Messages and updates are sent after a commit only. Raises what the submit raises."""
    with transaction.atomic():
        submitted = submit()
        transaction.set_rollback(True)
    return submitted


def _sum(prices: Sequence[Decimal | None]) -> Decimal | None:
    known = [price for price in prices if price is not None]
    return sum(known, Decimal(0)) if len(known) == len(prices) else None
