"""Drill down to a year, month or day. The first and last request IDs give the range, since IDs begin with their time;
no rows are scanned."""

from __future__ import annotations

from calendar import month_name, monthrange
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from generation.models import GenerationRequest
from generation.requests import filters


@dataclass(kw_only=True, slots=True)
class Calendar:
    """The chosen period, and links to wider and narrower ones as pairs of label and URL."""

    up: list[tuple[str, str]] = field(default_factory=list)
    here: str = ""
    down: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, chosen: str, pages: Any) -> Calendar:
        """Build it for a period such as ``2026``, ``2026-01`` or ``2026-01-31``; empty or invalid: all dates."""

        def to(period: str) -> str:
            address: str = pages.get_query_string({"on": period or None})
            return address

        ids = GenerationRequest.objects.order_by("pk").values_list("pk", flat=True)
        first, last = ids.first(), ids.last()
        if first is None or last is None:
            return cls()
        begin, end = filters.time_of(first), filters.time_of(last)
        if filters.period(chosen) is None:
            chosen = ""
        parts = chosen.split("-") if chosen else []
        names = ["All dates", *parts[:1], *(month_name[int(part)] for part in parts[1:2]), *map(_day, parts[2:])]
        periods = ["", *("-".join(parts[: count + 1]) for count in range(len(parts)))]
        up = [(name, to(period)) for name, period in zip(names, periods, strict=True)]
        below = [(name, to(period)) for name, period in _below(parts, begin, end)]
        return cls(up=up[:-1], here=names[-1], down=below)


def _day(part: str) -> str:
    return str(int(part))


def _below(parts: list[str], begin: datetime, end: datetime) -> list[tuple[str, str]]:
    months = _months(begin, end)
    match parts:
        case []:
            years = sorted({year for year, _ in months})
            if len(years) > 1:
                return [(str(year), str(year)) for year in years]
            return [(month_name[month], f"{year}-{month:02d}") for year, month in months]
        case [chosen]:
            return [(month_name[month], f"{year}-{month:02d}") for year, month in months if year == int(chosen)]
        case [chosen, of_year]:
            year, month = int(chosen), int(of_year)
            days = (datetime(year, month, day, tzinfo=UTC) for day in range(1, monthrange(year, month)[1] + 1))
            return [(str(day.day), f"{day:%Y-%m-%d}") for day in days if begin.date() <= day.date() <= end.date()]
    return []


def _months(begin: datetime, end: datetime) -> list[tuple[int, int]]:
    count = (end.year - begin.year) * 12 + end.month - begin.month
    numbers = range(begin.month - 1, begin.month + min(count, 240))
    return [(begin.year + number // 12, number % 12 + 1) for number in numbers]
