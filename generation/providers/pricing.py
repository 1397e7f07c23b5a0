"""The cost of a call in US dollars, by the price rule of its model.

A rule is ``{"per_image": "0.03"}`` or ``{"per_million": {"input_text": "5", "output_image": "30"}}``, with the names
that a provider's ``usage`` has. A rule by tokens may have an ``estimate`` of an image's price by quality, which is used
before the call, and an ``input_estimate`` for each image that is sent with the prompt. An empty rule means that the
price is unknown, which is not the same as free. For larger images a rule may have rules of their own, whose entries
replace those of the rule, such as ``"4K": {"estimate": {"medium": "0.151"}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from generation.models.model_rows import amount

_MILLION: Final = Decimal(1_000_000)
#: Precision of a cost: a ten-thousandth of a cent.
_PRECISION: Final = Decimal("0.000001")
#: Maximum cost of one call. The columns have 12 digits, 6 of them decimals, and 14 digits for the sum of a day.
MAX_COST: Final = Decimal(10_000)
_MAX_COUNT: Final = 10**12


@dataclass(kw_only=True, eq=False)
class OverBudgetError(Exception):
    """The rest of the day's budget does not suffice. ``name`` tells which budget. Amounts are in US dollars;
    ``reserved`` is for requests that are queued or in progress."""

    name: str
    per_day: Decimal
    spent: Decimal
    reserved: Decimal
    wanted: Decimal

    def __str__(self) -> str:
        left = max(self.per_day - self.spent - self.reserved, Decimal(0))
        return (
            f"The {self.name} is USD {self.per_day:.2f} a day: {self.spent:.2f} is spent, {self.reserved:.2f} is "
            f"reserved for active requests, {left:.2f} is left, and this may cost {self.wanted:.2f}. "
            "A new day begins at 00:00 UTC."
        )


def rule_for(rule: Mapping[str, Any], resolution: str) -> Mapping[str, Any]:
    """Return the rule for images of this resolution."""
    own = rule.get(resolution)
    return {**rule, **own} if own else rule


def cost(rule: Mapping[str, Any], usage: Mapping[str, Any]) -> Decimal | None:
    """Return the cost of a call that gave an image, or ``None`` if it cannot be determined.

    It never raises, whatever the rule and the vendor's usage contain: the image is already paid for.
    """
    rule, usage = _mapping(rule), _mapping(usage)
    per_image = amount(rule.get("per_image"))
    if per_image is not None:
        images = _count(usage.get("images", 1))
        return None if images is None else _bounded(per_image * images)
    prices = _mapping(rule.get("per_million"))
    total, is_known = Decimal(0), False
    for name, used in usage.items():
        price, count = amount(prices.get(name)), _count(used)
        if price is None:
            continue
        if count is None:
            return None
        total, is_known = total + price * count, True
    return _bounded(total / _MILLION) if is_known else None


def estimate(rule: Mapping[str, Any], *, quality: object = "", inputs: int = 0) -> Decimal | None:
    """Return the expected cost of a call with so many images before it is made, or ``None`` if it cannot be determined.
    Never raises."""
    rule = _mapping(rule)
    price = amount(rule.get("per_image"))
    if price is None:
        estimates = _mapping(rule.get("estimate"))
        price = amount(estimates.get(quality)) if isinstance(quality, str) else None
        price = amount(estimates.get("medium")) if price is None else price
    if price is None:
        return None
    return _bounded(price + inputs * (amount(rule.get("input_estimate")) or 0))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= _MAX_COUNT else None


def _bounded(price: Decimal) -> Decimal | None:
    return price.quantize(_PRECISION) if price <= MAX_COST else None
