"""Format numbers, durations and amounts for the pages; most functions are template filters as well."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django import template

from generation.requests import representations

register = template.Library()

#: Shown for a missing value.
NONE: Final = "–"


def requests(count: int) -> str:
    """``1 request``, ``2 requests``, ``1,000 requests``."""
    return "1 request" if count == 1 else f"{count:,} requests"


@register.filter
def iso(moment: datetime) -> str:
    """Format the ``datetime`` attribute of a ``<time>``."""
    return representations.timestamp(moment) or ""


@register.filter
def duration(value: timedelta | float | None) -> str:
    """Format a time span or seconds: ``476 ms``, ``3.2 s``, ``1 min 20 s``, ``2 h 5 min``, ``3 d 4 h``; else ``–``."""
    if value is None:
        return NONE
    seconds = max(0.0, value.total_seconds() if isinstance(value, timedelta) else float(value))
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _in_two(*divmod(whole, 60), "min", "s")
    if whole < 48 * 3600:
        return _in_two(*divmod(whole // 60, 60), "h", "min")
    return _in_two(*divmod(whole // 3600, 24), "d", "h")


def _in_two(large: int, small: int, large_unit: str, small_unit: str) -> str:
    return f"{large} {large_unit} {small} {small_unit}" if small else f"{large} {large_unit}"


@register.filter
def milliseconds(value: float | None) -> str:
    """Format milliseconds as :func:`duration` does."""
    return duration(None if value is None else value / 1000)


@register.filter
def dollars(value: Decimal | float | str | None) -> str:
    """Format US dollars: ``$1,234.50``, ``$0.04``, with up to six decimals below one: ``$0.0005``; None: ``–``."""
    if value is None:
        return NONE
    amount = Decimal(str(value))
    if amount >= 1:
        return f"${amount:,.2f}"
    whole, _, part = f"{amount:.6f}".rstrip("0").partition(".")
    return f"${whole}.{part:0<2}"


def charges(calls: Iterable[tuple[Decimal | None, Decimal | None]]) -> str:
    """Format the total of calls, each with its cost and its booked cost in US dollars: ``$0.06``, or ``up to $0.06`` if
    one call has only a booked cost."""
    known = [(cost is None, booked if cost is None else cost) for cost, booked in calls]
    amounts = [amount for _, amount in known if amount is not None]
    if not amounts:
        return NONE
    is_bound = any(booked and amount is not None for booked, amount in known)
    return ("up to " if is_bound else "") + dollars(sum(amounts, Decimal(0)))


@register.filter
def cost(value: Decimal | float | str | None) -> str:
    """Format the cost of one image: ``not known`` for None, ``free`` for zero, else US dollars."""
    if value is None:
        return "not known"
    return dollars(value) if Decimal(str(value)) else "free"


@register.filter
def amount(value: float) -> str:
    """Format a number on an axis without trailing zeros."""
    return f"{value:g}"
