"""The model of docs/scaling.md: two ways that know nothing of each other come to the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.scaling import Costs, Shape, analyse, simulate, table

COSTS = Costs(provider=5.0)


@pytest.mark.parametrize("workers", [2, 40, 150, 400])
def test_the_simulation_agrees_with_the_model(workers: int) -> None:
    shape = Shape(workers=workers, processors=2)
    model, played = analyse(shape, COSTS), simulate(shape, COSTS, seconds=20_000 / workers + 90)
    assert played.rate == pytest.approx(model.rate, rel=0.08)
    assert played.database == pytest.approx(model.database, rel=0.1)
    assert played.broker == pytest.approx(model.broker, rel=0.1)


def test_no_server_is_busier_than_always_and_none_is_got_past() -> None:
    for workers in (1, 100, 5000):
        shape = Shape(workers=workers, processors=2)
        found = analyse(shape, COSTS)
        assert found.database <= 1.0001
        assert found.rate <= workers * shape.slots / COSTS.provider
    assert found.database > 0.99


def test_more_processors_help_until_the_broker_is_the_limit() -> None:
    rates = [analyse(Shape(workers=10_000, processors=count), COSTS).rate for count in (2, 8, 64)]
    assert rates == sorted(rates)
    assert rates[1] > 2 * rates[0]


def test_the_table_on_the_page_is_the_programs() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "scaling.md").read_text()
    assert [row for row in table(Costs()) if row not in page] == []
