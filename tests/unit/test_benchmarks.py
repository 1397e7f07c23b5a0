"""What a run of the benchmarks says of itself and of an older one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.report import Figure
from benchmarks.turns import Measured, in_turns, middle

pytestmark = pytest.mark.unit


def figure(case="submit", **values) -> Figure:
    return Figure(case, **values)


def slower(old: Figure, new: Figure) -> list[str]:
    return report.slower([old], [new])


def test_a_case_is_slower_if_its_ratio_to_the_same_floor_fell() -> None:
    view = Figure("floor: empty view", rate=1000.0)
    busy = Figure("floor: empty view", rate=100.0)
    before = figure(rate=500.0).beside(view, "empty view")
    assert slower(before, figure(rate=50.0).beside(busy, "empty view")) == []
    assert slower(before, figure(rate=400.0).beside(view, "empty view")) == [
        "submit: 0.5 → 0.4 × empty view (+25%)",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (figure(rate=100.0), figure(rate=50.0), "submit: 0.01 → 0.02 s for each (+100%)"),
        (figure(p50=10.0), figure(p50=15.0), "submit: 10 → 15 ms (+50%)"),
        (figure(memory=100.0), figure(memory=150.0), "submit: 100 → 150 MB (+50%)"),
        # Another floor says nothing, the peer does.
        (
            figure(floor=0.5, on="INSERT", peer=2.0),
            figure(floor=0.1, on="empty view", peer=1.0),
            "submit: 2 → 1 × the peer (+100%)",
        ),
    ],
)
def test_without_a_common_floor_the_next_best_is_compared(old: Figure, new: Figure, said: str) -> None:
    assert slower(old, new) == [said]
    assert slower(new, old) == []


def test_a_fifth_is_noise_and_a_new_case_has_nothing_to_be_slower_than() -> None:
    assert slower(figure(p50=10.0), figure(p50=11.9)) == []
    assert slower(figure("another", p50=1.0), figure(p50=99.0)) == []


def test_a_stored_run_of_an_older_format_is_read_as_far_as_known(tmp_path: Path) -> None:
    figures = [figure(p50=1.0, floor=0.5, on="INSERT").hoping(p50=2)]
    path = tmp_path / "new" / "run.json"
    report.write(path, figures, requests=10)
    assert report.read(path) == figures
    run = json.loads(path.read_text())
    assert run["requests"] == 10
    run["figures"][0] |= {"floors": 3.0}
    path.write_text(json.dumps(run))
    assert report.read(path) == figures


def test_the_table_says_of_each_goal_whether_it_was_met() -> None:
    floor = Figure("floor: empty view", rate=1000.0)
    judged = figure(p50=3.0, p99=70.0, rate=700.0).beside(floor, "empty view")
    judged = judged.hoping(p50=5, p99=60).at_least(0.6, floor, "empty view")
    assert judged.met is False
    assert judged.goal == "met: p50 ≤ 5 ms; MISSED: p99 ≤ 60 ms; met: ≥ 0.6 × empty view"
    head, *lines, note, verdict = report.table([floor, judged]).splitlines()
    assert head.startswith("case")
    assert lines[1].endswith(judged.goal)
    assert note.startswith("×")
    assert verdict == "0 of 1 goals met"


def test_the_middle_of_each_column_counts_and_cases_take_turns() -> None:
    order: list[str] = []

    def case(name: str, times: list[float]) -> Measured:
        order.append(name)
        p50 = times.pop()
        return Measured(calls=1000 / p50, seconds=1, p50=p50, p99=10 * p50, slowest=20 * p50)

    first, second = [1.0, 9.0, 2.0], [5.0, 5.0, 5.0]
    taken = in_turns({"first": lambda: case("first", first), "second": lambda: case("second", second)}, slices=3)
    assert order == ["first", "second"] * 3
    found = middle(taken["first"])
    assert (found.p50, found.p99, found.slowest, found.rate) == (2.0, 20.0, 40.0, 500.0)
