"""The first vendor is down, the second asks to wait, the third answers: one call is paid for and no client notices."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.house import House, built
from tests.support.stack import ROOT, closed_port
from workers.providers.registry import PROVIDER_CLASSES

#: The provider that answers in the end: another vendor, or the free one.
THIRDS = [name for name in ("google", "clipart") if name in PROVIDER_CLASSES]


@pytest.fixture(scope="module", params=THIRDS)
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("fallback")
    order = f"openai,stability,{request.param}"
    unreachable = f"http://127.0.0.1:{closed_port()}/v1"
    # No lease may end here, also where three vendors' libraries are imported slowly.
    with built(folder, PROVIDERS=order, OPENAI_BASE_URL=unreachable, LEASE_MS="30000") as house:
        house.stack.start("web", "dispatcher", "worker")
        house.wait_until_up(workers=1)
        yield house
        house.wait_all_ended()
        house.assert_whole()


@pytest.fixture
def third(house: House) -> str:
    return house.stack.env["PROVIDERS"].rpartition(",")[2]


def attempts(house: House, request_id: str) -> list[tuple[Any, ...]]:
    query = (
        "SELECT provider, number, error_code, outcome, cost FROM generation_attempts WHERE request_id = %s"
        " ORDER BY claim"
    )
    return [tuple(row.values()) for row in house.rows(query, request_id)]


def doctor(house: House) -> str:
    command = [sys.executable, "manage.py", "doctor"]
    return subprocess.run(command, cwd=ROOT, env=house.stack.env, capture_output=True, text=True, check=False).stdout


def test_a_third_provider_takes_over_from_two_in_the_same_attempt(house: House, third: str) -> None:
    house.provider.script("status=429;retry-after=300")
    request_id = house.submit(1)
    house.wait_for(request_id, "completed")
    *failed, succeeded = attempts(house, request_id)
    assert failed == [
        ("openai", 1, "unavailable", "failed", None),
        ("stability", 1, "rate_limited", "failed", None),
    ]
    assert succeeded[:4] == (third, 1, "", "succeeded")
    vendors = [call.vendor for call in house.provider.journal()]
    assert vendors == ["stability", *([third] if third != "clipart" else [])]
    shown = house.alice.get(f"/status/{request_id}?imageData=false").json()
    assert shown["metadata"]["attempts"] == 1
    assert shown["result"]["provider"] == third
    assert "cost" in shown["result"]


def test_a_rate_limit_opens_the_breaker_at_once_and_downtime_after_five(house: House, third: str) -> None:
    before = house.provider.stats().count
    for number in range(2, 8):
        house.wait_for(house.submit(number), "completed")
    last = house.submit(8)
    house.wait_for(last, "completed")
    assert [attempt[0] for attempt in attempts(house, last)] == [third]
    assert {call.vendor for call in house.provider.journal()[before:]} <= {third}
    down = "SELECT count(*) AS n FROM generation_attempts WHERE provider = 'openai'"
    assert house.rows(down)[0]["n"] == 5


def test_the_doctor_tells_and_its_command_brings_one_back(house: House, third: str) -> None:
    page = doctor(house)
    assert "openai is suspended until" in page
    assert "manage.py resume_provider stability" in page
    house.stack.manage("resume_provider", "stability")
    request_id = house.submit(9)
    house.wait_for(request_id, "completed")
    *_, attempt = attempts(house, request_id)  # a slow machine may probe openai first, 30 s after its failures
    assert (attempt[0], str(attempt[-1])) == ("stability", "0.030000")
    assert sum(day["cost"] for day in house.alice.get("/metrics").json()["byDay"]) >= 0.03
