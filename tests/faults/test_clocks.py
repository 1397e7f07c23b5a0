"""Clocks that are an hour wrong: when something is due, late or lost is told by the database's clock alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.faults.house import LEASE_SECONDS, House, built
from tests.support.stack import ROOT

HOUR = 3600


def wrong_by(seconds: int) -> dict[str, str]:
    """Settings of a process whose clock is so wrong."""
    folder = ROOT / "tests" / "support" / "clock"
    return {"CLOCK_SHIFT": str(seconds), "PYTHONPATH": str(folder)}


@pytest.fixture(params=[HOUR, -HOUR], ids=["dispatcher-ahead", "dispatcher-behind"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    """One worker is ahead and one behind."""
    with built(tmp_path) as house:
        house.stack.start("web")
        house.stack.start("dispatcher", **wrong_by(request.param))
        house.stack.start("worker", **wrong_by(HOUR))
        house.stack.start("worker:2", **wrong_by(-HOUR))
        house.wait_until_up(workers=2)
        yield house
        house.assert_whole(media=tmp_path / "var" / "media")


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_the_clocks_of_these_tests_are_wrong(seconds: int) -> None:
    script = "import datetime, time; print(time.time(), datetime.datetime.now().timestamp())"
    command = [sys.executable, "-c", script]
    output = subprocess.run(command, env=wrong_by(seconds), capture_output=True, text=True, check=True).stdout
    for found in output.split():
        assert float(found) - time.time() == pytest.approx(seconds, abs=60)


def test_leases_hold_and_run_out_as_with_right_clocks(house: House) -> None:
    # Work for every slot of both, for longer than a lease: no process is taken for dead.
    house.provider.script(default=f"delay={3 * LEASE_SECONDS}")
    for number in range(10):
        house.submit(number)
    house.wait_for_calls(10, seconds=60)
    assert len(house.rows("SELECT DISTINCT worker FROM generation_attempts")) == 2
    house.wait_all_ended()
    rows = house.rows("SELECT status, attempts FROM generation_requests")
    assert {(row["status"], row["attempts"]) for row in rows} == {("completed", 1)}
    assert house.counts_of_calls() == dict.fromkeys(range(10), 1)
    # Who is dead is taken for dead.
    house.provider.script(*["hang"] * 10)
    for number in range(10, 20):
        house.submit(number)
    house.wait_for_calls(20, seconds=60)
    house.stack.stop("worker", by=signal.SIGKILL)
    house.stack.stop("worker:2", by=signal.SIGKILL)
    house.stack.start("worker", **wrong_by(HOUR))
    house.wait_all_ended()
    assert house.counts_of_calls() == dict.fromkeys(range(10), 1) | dict.fromkeys(range(10, 20), 2)


def test_retries_wait_until_the_time_that_the_provider_names_by_its_clock(house: House) -> None:
    at = int(time.time()) + 15
    by_date = f"hold;status=429;retry-after={formatdate(at, usegmt=True)}"
    house.provider.script(*["hold;status=429;retry-after=3"] * 2, by_date, by_date)
    for number in range(4):
        house.submit(number)
    house.wait_for_active_calls(4)  # each has an answer of its own, however slowly the others come
    house.provider.release()
    house.wait_all_ended()
    for told, again in map(house.calls, range(4)):
        assert told.ended is not None
        assert again.started >= (told.ended + 3 if told.number <= 2 else at)
