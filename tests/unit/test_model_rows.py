"""The shapes of a model's row, and prices that make no sense."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import pytest

from generation.models import model_rows
from generation.providers import pricing

ODD_VALUES: list[Any] = [
    *(None, True, 0, -1, 10**400, 1e308, float("nan"), float("inf"), "", "x", "1e30", "NaN", "1e999999999", "9" * 5000),
    *(
        [],
        [1],
        {},
        {"a": 1},
        {"per_image": {}},
        b"0.03",
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("1e999999"),
        object(),
    ),
]


def test_nothing_that_stands_in_a_row_raises() -> None:
    for value in ODD_VALUES:
        for shape in (value, [value], {"any": value}, {"1:1": value}, {"1:1": [value, value]}, {"per_million": value}):
            model_rows.mistakes(capabilities=shape, sizes=shape, price_rule=shape, larger_sizes=shape)
            larger = {"2K": shape, "4K": value}
            model_rows.mistakes(capabilities=[], sizes={}, price_rule=larger, larger_sizes=larger)
        rule = {"short": value, "step": value, "widest": value}
        model_rows.mistakes(capabilities=[], sizes={"any": rule}, price_rule={"per_image": value, "estimate": value})
        larger = {"4K": {"any": {"pixels": value, "longest": value, "step": value, "widest": value}}}
        model_rows.mistakes(capabilities=[], sizes={}, price_rule={"4K": {"estimate": value}}, larger_sizes=larger)


def test_no_rule_and_no_usage_makes_pricing_raise() -> None:
    rules: list[Any] = [
        *({"per_image": value} for value in ODD_VALUES),
        *({"per_million": {"output_image": value}, "estimate": {"medium": value}} for value in ODD_VALUES),
        *ODD_VALUES,
        {"per_image": "0.03"},
        {"per_million": {"output_image": "30"}},
    ]
    usages: list[Any] = [*({"images": value, "output_image": value} for value in ODD_VALUES), *ODD_VALUES]
    for rule, usage in itertools.product(rules, usages):
        cost = pricing.cost(rule, usage)
        assert cost is None or Decimal(0) <= cost <= pricing.MAX_COST, (rule, usage)
    qualities: list[Any] = ["", "medium", None, 5, []]
    for rule, quality in itertools.product(rules, qualities):
        estimate = pricing.estimate(rule, quality=quality)
        assert estimate is None or Decimal(0) <= estimate <= pricing.MAX_COST, (rule, quality)


@pytest.mark.parametrize(
    ("rule", "usage"),
    [
        ({"per_image": "1e30"}, {"images": 1}),
        ({"per_image": "999999"}, {"images": 1}),
        ({"per_image": "0.03"}, {"images": 10**15}),
        ({"per_image": "0.03"}, {"images": -1}),
        ({"per_image": "0.03"}, {"images": "1"}),
        ({"per_million": {"output_image": "30"}}, {"output_image": 10**12}),
        ({"per_million": {"output_image": "30"}}, {"output_image": 10**30}),
        ({"per_million": {"output_image": "30", "input_text": "5"}}, {"output_image": 100, "input_text": -5}),
    ],
)
def test_an_absurd_amount_is_not_known(rule: Any, usage: Any) -> None:
    assert pricing.cost(rule, usage) is None
