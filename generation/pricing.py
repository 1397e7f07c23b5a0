"""What a call costs, by the price rule of its model, in US dollars.

A rule is ``{"per_image": "0.03"}`` or ``{"per_million": {"input_text": "5", "output_image": "30"}}``, with the names
that a provider's ``usage`` has. A rule by tokens may have an ``estimate`` for a picture, by quality, for what has to be
known before the call. An empty rule means that the price is not known, which is not the same as free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

_MILLION: Final = Decimal(1_000_000)
#: What is kept: a ten-thousandth of a cent.
_EXACT: Final = Decimal("0.000001")


@dataclass(kw_only=True, eq=False)
class OverBudgetError(Exception):
    """There is not enough left today. In US dollars; ``reserved`` is for what waits or runs."""

    per_day: Decimal
    spent: Decimal
    reserved: Decimal
    wanted: Decimal

    def __str__(self) -> str:
        left = max(self.per_day - self.spent - self.reserved, Decimal(0))
        return (
            f"The budget is USD {self.per_day:.2f} a day: {self.spent:.2f} is spent and {self.reserved:.2f} set aside "
            f"for what waits; {left:.2f} is left, and this may cost {self.wanted:.2f}. A new day begins at 00:00 UTC."
        )


def cost(rule: Mapping[str, Any], usage: Mapping[str, int]) -> Decimal | None:
    """Of a call that gave a picture. ``None`` where it cannot be told."""
    if (price := _amount(rule, "per_image")) is not None:
        return (price * usage.get("images", 1)).quantize(_EXACT)
    counted = [
        price * amount
        for name, amount in usage.items()
        if (price := _amount(rule.get("per_million"), name)) is not None
    ]
    return (sum(counted, Decimal(0)) / _MILLION).quantize(_EXACT) if counted else None


def estimate(rule: Mapping[str, Any], *, quality: str = "") -> Decimal | None:
    """Of a call before it is made. ``None`` where it cannot be told."""
    if (price := _amount(rule, "per_image")) is None:
        estimates = rule.get("estimate")
        price = _amount(estimates, quality)
        price = _amount(estimates, "medium") if price is None else price
    return None if price is None else price.quantize(_EXACT)


def _amount(prices: object, name: str) -> Decimal | None:
    """A rule is written by people: what is no amount in it is a price that is not known, and loses nobody a picture."""
    found = prices.get(name) if isinstance(prices, Mapping) else None
    try:
        amount = Decimal(str(found))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount >= 0 else None
