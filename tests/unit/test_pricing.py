"""What a call costs, by the price rule of its model."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from generation.providers import pricing

TOKENS = {
    "per_million": {"input_text": "5", "input_image": "8", "output_image": "30"},
    "estimate": {"low": "0.006", "medium": "0.053", "high": "0.211"},
}


@pytest.mark.parametrize(
    ("rule", "usage", "cost"),
    [
        ({"per_image": "0.03"}, {"images": 1}, "0.03"),
        ({"per_image": "0.03"}, {"images": 2}, "0.06"),
        ({"per_image": "0.03"}, {}, "0.03"),
        ({"per_image": 0.065}, {"images": 1}, "0.065"),
        ({"per_image": "0"}, {"images": 1}, "0"),
        (TOKENS, {"input_text": 50, "output_image": 1056}, "0.03193"),
        (TOKENS, {"input_text": 1_000_000, "input_image": 1_000_000, "output_image": 1_000_000}, "43"),
        (TOKENS, {"output_image": 1, "something_new": 10_000}, "0.00003"),
        (TOKENS, {"input_text": 0, "output_image": 0}, "0"),
    ],
)
def test_a_call_costs_what_its_rule_says_of_what_was_counted(rule: Any, usage: dict[str, int], cost: str) -> None:
    assert pricing.cost(rule, usage) == Decimal(cost)


@pytest.mark.parametrize(
    ("rule", "usage"),
    [
        ({}, {"images": 1}),
        (TOKENS, {}),
        (TOKENS, {"images": 1}),
        ({"per_million": {}}, {"output_image": 100}),
    ],
)
def test_an_unknown_price_is_not_free(rule: Any, usage: dict[str, int]) -> None:
    assert pricing.cost(rule, usage) is None


@pytest.mark.parametrize(
    ("rule", "quality", "estimate"),
    [
        ({"per_image": "0.08"}, "high", "0.08"),
        ({"per_image": "0"}, "", "0"),
        (TOKENS, "low", "0.006"),
        (TOKENS, "high", "0.211"),
        (TOKENS, "", "0.053"),
        ({"estimate": {"medium": "0.134"}}, "high", "0.134"),
        ({"estimate": {"low": "0"}}, "low", "0"),
    ],
)
def test_an_estimate_is_for_one_image_of_the_given_or_medium_quality(rule: Any, quality: str, estimate: str) -> None:
    assert pricing.estimate(rule, quality=quality) == Decimal(estimate)


def test_a_larger_image_has_prices_of_its_own() -> None:
    rule = TOKENS | {"4K": {"estimate": {"medium": "0.424"}}}
    assert pricing.estimate(pricing.rule_for(rule, "1K")) == Decimal("0.053")
    assert pricing.estimate(pricing.rule_for(rule, "4K")) == Decimal("0.424")
    assert pricing.cost(pricing.rule_for(rule, "4K"), {"output_image": 1_000_000}) == Decimal(30)
    assert pricing.estimate(pricing.rule_for({"per_image": "0.03", "2K": {"per_image": "0.05"}}, "2K")) == Decimal(
        "0.05"
    )


@pytest.mark.parametrize("rule", [{}, {"per_million": {"output_image": "30"}}, {"estimate": {"high": "1"}}])
def test_without_a_rule_there_is_no_estimate(rule: Any) -> None:
    assert pricing.estimate(rule) is None


@pytest.mark.parametrize("amount", ["cheap", "", None, [], {}, "NaN", "Infinity", "-1", True])
def test_an_invalid_amount_is_an_unknown_price(amount: Any) -> None:
    assert pricing.cost({"per_image": amount}, {"images": 1}) is None
    assert pricing.cost({"per_million": {"output_image": amount}}, {"output_image": 100}) is None
    assert pricing.estimate({"per_image": amount}) is None
    assert pricing.estimate({"estimate": {"medium": amount}}) is None


@pytest.mark.parametrize("prices", [None, [], "30", 30])
def test_prices_that_are_no_table_are_not_known(prices: Any) -> None:
    assert pricing.cost({"per_million": prices}, {"output_image": 100}) is None
    assert pricing.estimate({"estimate": prices}) is None


def test_an_amount_is_exact_to_a_ten_thousandth_of_a_cent() -> None:
    assert str(pricing.cost(TOKENS, {"input_text": 1})) == "0.000005"
    assert str(pricing.cost({"per_image": "0.0000004"}, {})) == "0.000000"
