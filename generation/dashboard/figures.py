"""Template filters: numbers as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django import template

from generation import representations

register = template.Library()


@register.filter
def iso(moment: datetime) -> str:
    """For the ``datetime`` of a ``<time>``."""
    return representations.timestamp(moment) or ""


@register.filter
def duration(value: timedelta | float | None) -> str:
    """A time span or seconds: ``476 ms``, ``3.2 s``, ``1 min 20 s``, ``2 h 5 min``."""
    if value is None:
        return "–"
    seconds = max(0.0, value.total_seconds() if isinstance(value, timedelta) else float(value))
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = whole // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


@register.filter
def milliseconds(value: float | None) -> str:
    """The same of ms."""
    return duration(None if value is None else value / 1000)


@register.filter
def cost(value: Any) -> str:
    """US dollars, to the cent or as far as there is something: ``$0.04``, ``$0.0005``, ``free``."""
    if value is None:
        return "not known"
    amount = Decimal(str(value))
    if not amount:
        return "free"
    text = f"{amount:.6f}".rstrip("0")
    whole, _, part = text.partition(".")
    return f"${whole}.{part:0<2}"


@register.filter
def amount(value: float) -> str:
    """A number on an axis, without digits that say nothing."""
    return f"{value:g}"
