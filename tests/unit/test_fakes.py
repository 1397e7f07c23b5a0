"""The fakes' script: a slip in it must not pass for a success."""

from __future__ import annotations

import pytest

from tests.fakes.pictures import png
from tests.fakes.script import Behaviour, Script, parse
from workers.images import check


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("delay=2", {"delay": 2.0}),
        ("status=429; retry-after=7", {"status": 429, "retry_after": "7"}),
        ("hang", {"hang": True}),
        ("drip", {"drip": 0.2}),
        ("once=status=429;retry-after=7", {"times": 1, "status": 429, "retry_after": "7"}),
        ("times=2;reset=before", {"times": 2, "reset": "before"}),
    ],
)
def test_a_script_is_read(text: str, found: dict[str, object]) -> None:
    assert parse(text) == found


@pytest.mark.parametrize("text", ["nonsense", "status=abc", "delay=soon", "status"])
def test_a_slip_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(text)


def test_the_prompt_wins_over_the_next_and_the_next_over_the_default() -> None:
    script = Script()
    script.set(default="delay=1;status=500", following=["status=503"])
    assert script.behaviour("x [[status=429]]") == Behaviour(delay=1, status=429)
    assert script.behaviour("x") == Behaviour(delay=1, status=500)
    script.set(default="", following=["", "status=503"])
    assert [script.behaviour("x").status for _ in range(3)] == [200, 503, 200]


def test_what_is_limited_in_a_prompt_ends_after_so_many_calls_with_it() -> None:
    script = Script()
    assert [script.behaviour("x [[times=2;status=500]]").status for _ in range(3)] == [500, 500, 200]
    assert script.behaviour("y [[times=2;status=500]]").status == 500


def test_pictures_are_sound_and_differ() -> None:
    assert check(png("vga_1")).sha256 != check(png("vga_2")).sha256
    assert png("vga_1") == png("vga_1")
