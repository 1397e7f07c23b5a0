"""What a call costs, by the price rule of its model, in US dollars.

A rule is ``{"per_image": "0.03"}`` or ``{"per_million": {"input_text": "5", "output_image": "30"}}``, with the names
that a provider's ``usage`` has. A rule by tokens may have an ``estimate`` for a picture, by quality, for what has to be
known before the call. An empty rule means that the price is not known, which is not the same as free.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

_MILLION: Final = Decimal(1_000_000)
#: What is kept: a ten-thousandth of a cent.
_EXACT: Final = Decimal("0.000001")


def cost(rule: Mapping[str, Any], usage: Mapping[str, int]) -> Decimal | None:
    """Of a call that gave a picture. ``None`` where it cannot be told."""
    if "per_image" in rule:
        return (Decimal(rule["per_image"]) * usage.get("images", 1)).quantize(_EXACT)
    prices = rule.get("per_million", {})
    counted = {name: amount for name, amount in usage.items() if name in prices}
    if not counted:
        return None
    return (sum(Decimal(prices[name]) * amount for name, amount in counted.items()) / _MILLION).quantize(_EXACT)


def estimate(rule: Mapping[str, Any], *, quality: str = "") -> Decimal | None:
    """Of a call before it is made. ``None`` where it cannot be told."""
    if "per_image" in rule:
        return Decimal(rule["per_image"]).quantize(_EXACT)
    estimates = rule.get("estimate", {})
    found = estimates.get(quality) or estimates.get("medium")
    return Decimal(found).quantize(_EXACT) if found else None
