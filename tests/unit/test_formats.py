"""Numbers as people read them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from generation.templatetags import formats


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "–"),
        (-0.2, "0 ms"),
        (0.4761, "476 ms"),
        (0.9996, "1.0 s"),
        (3.24, "3.2 s"),
        (9.97, "10 s"),
        (59.6, "1 min"),
        (80, "1 min 20 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (172_799, "47 h 59 min"),
        (172_800, "2 d"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations_have_two_units_at_the_most(seconds: float | None, expected: str) -> None:
    assert formats.duration(seconds) == expected
    if seconds is not None:
        assert formats.duration(timedelta(seconds=seconds)) == expected


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (None, "–"),
        (0, "$0.00"),
        (Decimal("0.000500"), "$0.0005"),
        (0.04, "$0.04"),
        ("0.1", "$0.10"),
        (Decimal("0.0211"), "$0.0211"),
        (1, "$1.00"),
        (Decimal("1234.567"), "$1,234.57"),
    ],
)
def test_amounts_are_exact_where_they_are_small(amount: Decimal | float | str | None, expected: str) -> None:
    assert formats.dollars(amount) == expected


def test_an_unknown_cost_is_shown_in_words() -> None:
    assert [formats.cost(value) for value in (None, "0", 0, "0.04")] == ["not known", "free", "free", "$0.04"]


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([], "–"),
        ([(None, None)], "–"),
        ([("0.03", "0.03"), (None, None)], "$0.03"),
        ([(None, "0.03")], "up to $0.03"),
        ([("0.05", "0.05"), (None, "0.03")], "up to $0.08"),
        ([("0", None)], "$0.00"),
    ],
)
def test_charges_tell_what_is_only_booked(calls: list[tuple[str | None, str | None]], expected: str) -> None:
    pairs = [tuple(None if one is None else Decimal(one) for one in call) for call in calls]
    assert formats.charges(pairs) == expected  # type: ignore[arg-type]
