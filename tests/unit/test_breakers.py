"""The circuit breakers of webhooks' targets."""

from __future__ import annotations

from typing import Any

from generation.webhooks.breakers import Breakers
from generation.webhooks.leases import Result

TARGET = "vgw_1"


class Clock:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def result(*, status: int | None) -> Result:
    leased: Any = type("Leased", (), {"error": ""})
    at: Any = None
    return Result(leased=leased, at=at, status=status)


def test_a_target_is_probed_by_one_even_if_earlier_deliveries_hang() -> None:
    clock = Clock()
    breakers = Breakers(clock)
    breakers.begin(TARGET)  # before any failure, and it hangs
    for _ in range(3):
        breakers.begin(TARGET)
        breakers.end(TARGET, result(status=500))
    assert breakers.lists() == ([TARGET], [], [TARGET])
    clock.now += 6
    assert breakers.is_blocked(TARGET)
    assert breakers.lists() == ([TARGET], [], [TARGET])
    breakers.end(TARGET, result(status=500))  # the pause is 10 s now
    clock.now += 11
    assert not breakers.is_blocked(TARGET)
    assert breakers.lists() == ([TARGET], [TARGET], [])
    breakers.begin(TARGET)
    assert breakers.is_blocked(TARGET)
    breakers.end(TARGET, result(status=204))
    assert breakers.lists() == ([], [], [])


def test_a_target_below_three_failures_is_suspect_and_not_blocked() -> None:
    breakers = Breakers(Clock())
    for _ in range(2):
        breakers.begin(TARGET)
        breakers.end(TARGET, result(status=500))
    assert breakers.is_suspect(TARGET)
    assert not breakers.is_blocked(TARGET)
    assert breakers.lists() == ([TARGET], [], [])
