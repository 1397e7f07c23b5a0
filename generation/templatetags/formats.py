"""Numbers as people read them, on every page; each is a template filter as well."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django import template

from generation.requests import representations

register = template.Library()

#: Where there is nothing to show.
NONE: Final = "–"


def requests(count: int) -> str:
    """``1 request``, ``2 requests``, ``1,000 requests``."""
    return "1 request" if count == 1 else f"{count:,} requests"


@register.filter
def iso(moment: datetime) -> str:
    """For the ``datetime`` of a ``<time>``."""
    return representations.timestamp(moment) or ""


@register.filter
def duration(value: timedelta | float | None) -> str:
    """A time span or seconds: ``476 ms``, ``3.2 s``, ``1 min 20 s``, ``2 h 5 min``, ``3 d 4 h``; ``–`` where it is not
    known."""
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
    """The same of ms."""
    return duration(None if value is None else value / 1000)


@register.filter
def dollars(value: Decimal | float | str | None) -> str:
    """US dollars: to the cent, and less than one as far as there is something: ``$1,234.50``, ``$0.04``, ``$0.0005``;
    ``–`` where it is not known."""
    if value is None:
        return NONE
    amount = Decimal(str(value))
    if amount >= 1:
        return f"${amount:,.2f}"
    whole, _, part = f"{amount:.6f}".rstrip("0").partition(".")
    return f"${whole}.{part:0<2}"


def charges(calls: Iterable[tuple[Decimal | None, Decimal | None]]) -> str:
    """Return what calls cost together: ``$0.06``, or ``up to $0.06`` where only what was booked is known of one. Each
    has its cost and what was booked for it, in US dollars."""
    known = [(cost is None, booked if cost is None else cost) for cost, booked in calls]
    amounts = [amount for _, amount in known if amount is not None]
    if not amounts:
        return NONE
    is_bound = any(booked and amount is not None for booked, amount in known)
    return ("up to " if is_bound else "") + dollars(sum(amounts, Decimal(0)))


@register.filter
def cost(value: Decimal | float | str | None) -> str:
    """What one picture cost: the same, but in words where it cost nothing or nobody knows."""
    if value is None:
        return "not known"
    return dollars(value) if Decimal(str(value)) else "free"


@register.filter
def amount(value: float) -> str:
    """A number on an axis, without digits that say nothing."""
    return f"{value:g}"
