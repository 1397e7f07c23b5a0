"""Figures that are made anew behind the back of those who ask."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from generation import remembered as module
from generation.remembered import Remembered, briefly
from tests.support.stack import wait_until


class Slow:
    """Counts how often it was made, and takes as long as it is held."""

    def __init__(self) -> None:
        self.count = 0
        self.free = threading.Event()
        self.free.set()
        self.fails = False

    def __call__(self) -> int:
        if self.fails:
            raise RuntimeError("no database")
        self.count += 1
        made = self.count
        self.free.wait(5)
        time.sleep(0.002)
        return made

    __name__ = "slow"


@pytest.fixture
def slow() -> Iterator[Slow]:
    slow = Slow()
    yield slow
    slow.free.set()


def age(figure: Remembered[int], times: float) -> None:
    """As if it had been made so many times its life ago."""
    made = figure._made
    assert made is not None
    at = made.at - times * max(figure._seconds, module._REST * made.took)
    figure._made = module._Made(made.value, at, made.took)


def test_what_is_quick_is_never_older_than_it_may_be(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUICK", 60)  # however busy the machine is
    figure = Remembered(slow, seconds=60)
    assert [figure(), figure()] == [1, 1]
    age(figure, 1)
    assert [figure(), figure()] == [2, 2]
    figure.cache_clear()
    assert figure() == 3


def test_what_takes_long_is_made_anew_while_those_who_ask_get_what_was(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_QUICK", 0.001)
    figure = Remembered(slow, seconds=60)
    assert figure() == 1
    age(figure, 1)
    slow.free.clear()
    assert [figure() for _ in range(20)] == [1] * 20
    wait_until(lambda: slow.count == 2, what="the one who makes it anew")
    assert figure() == 1
    slow.free.set()
    wait_until(lambda: figure() == 2, what="the new figure")
    assert slow.count == 2


def test_what_nobody_asked_for_in_a_long_time_is_not_shown(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUICK", 0.001)
    figure = Remembered(slow, seconds=60)
    assert figure() == 1
    age(figure, module._TOO_OLD)
    assert figure() == 2


def test_one_time_that_took_long_is_not_taken_for_how_long_it_takes(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_QUICK", 60)
    figure = Remembered(slow, seconds=60)
    figure()
    usual = figure._made.took if figure._made else 0
    age(figure, 1)
    slow.free.clear()
    threading.Timer(usual * 10, slow.free.set).start()
    assert figure() == 2
    assert figure._made
    assert figure._made.took == module._MOST_GROWTH * usual


def test_many_who_ask_at_once_have_it_made_once(slow: Slow) -> None:
    figure = Remembered(slow, seconds=60)
    slow.free.clear()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(figure) for _ in range(8)]
        wait_until(lambda: slow.count, what="the first")
        slow.free.set()
        assert {one.result(5) for one in asked} == {1}
    assert slow.count == 1


def test_a_fault_in_the_background_is_heard_of_when_the_figure_is_too_old(
    slow: Slow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_QUICK", 0.001)
    figure = Remembered(slow, seconds=60)
    assert figure() == 1
    slow.fails = True
    age(figure, 1)
    assert figure() == 1
    wait_until(lambda: "slow could not be made anew: no database" in caplog.text, what="the warning")
    wait_until(lambda: not figure._lock.locked(), what="the end of the try")
    age(figure, module._TOO_OLD)
    with pytest.raises(RuntimeError, match="no database"):
        figure()
    slow.fails = False
    assert figure() == 2


def test_of_those_who_ask_for_what_is_brief_nobody_waits_for_another() -> None:
    both = threading.Barrier(2)

    @briefly(seconds=60)
    def name() -> str:
        both.wait(5)  # one alone would not come beyond it
        return "dragon"

    with ThreadPoolExecutor(2) as pool:
        assert [one.result(10) for one in [pool.submit(name), pool.submit(name)]] == ["dragon"] * 2
    assert name() == "dragon"


def test_what_is_brief_is_read_again_when_it_is_over_or_forgotten() -> None:
    read: list[str] = []

    def name(of: str) -> int:
        read.append(of)
        return len(read)

    lasting, over = briefly(seconds=60, most=2)(name), briefly(seconds=0)(name)
    assert [lasting("a"), lasting("a"), lasting("b")] == [1, 1, 2]
    assert [over("a"), over("a")] == [3, 4]
    lasting.cache_clear()
    assert lasting("a") == 5
