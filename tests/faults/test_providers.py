"""A provider that is slow, asks to wait, hangs, refuses or sends garbage: what comes of it, and what it costs."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.faults.house import House, built
from tests.support.stack import wait_until

TIMEOUT_SECONDS = 8
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("providers")
    with built(folder, PROVIDER_TIMEOUT_MS=str(TIMEOUT_SECONDS * 1000)) as house:
        house.stack.start("web", "dispatcher", "worker")
        house.wait_until_up(workers=1)
        with never_left_alone(house):
            yield house
            house.wait_all_ended()
        house.assert_whole(media=folder / "var" / "media")


@contextmanager
def never_left_alone(house: House) -> Iterator[None]:
    """What the failures mean for the provider as a whole is tried elsewhere; here each is to be called."""
    over = threading.Event()

    def resume() -> None:
        while not over.wait(0.1):
            house.execute("UPDATE generation_providers SET failures = 0, open_until = NULL")
            house.execute("UPDATE generation_queue SET available_at = now(), waits_for = '' WHERE waits_for <> ''")

    thread = threading.Thread(target=resume, name="resume")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Dragon:
    """A request whose prompt tells the provider what to do."""

    def __init__(self, house: House, behavior: str = "", **metadata: Any) -> None:
        self._house = house
        self._number = next(_numbers)
        prompt = f"Dragon number {self._number:06d} in a garden {behavior}"
        self.id = house.submit(self._number, prompt=prompt, priority="urgent", metadata=metadata)

    @property
    def row(self) -> dict[str, Any]:
        return self._house.rows("SELECT * FROM generation_requests WHERE id = %s", self.id)[0]

    @property
    def calls(self) -> list[Any]:
        return self._house.calls(self._number)

    def claims(self) -> list[str]:
        """What came of each claim."""
        query = "SELECT outcome, error_code FROM generation_attempts WHERE request_id = %s ORDER BY claim"
        return [row["error_code"] or row["outcome"] for row in self._house.rows(query, self.id)]

    def wait_for(self, *statuses: str) -> None:
        self._house.wait_for(self.id, *statuses, seconds=60)

    def outcome(self) -> tuple[str, int]:
        """The code of its error, and how often the provider was called."""
        self.wait_for("failed")
        return self.row["error"]["code"], len(self.calls)


def outcomes(house: House, behaviors: dict[str, tuple[str, int]], **metadata: Any) -> dict[str, tuple[str, int]]:
    """What comes of a request with each of these behaviors."""
    dragons = {behavior: Dragon(house, f"[[{behavior}]]", **metadata) for behavior in behaviors}
    return {behavior: dragon.outcome() for behavior, dragon in dragons.items()}


def test_a_provider_that_is_slower_than_the_lease_costs_one_attempt(house: House) -> None:
    dragon = Dragon(house, "[[hold]]")
    dragon.wait_for("in-progress")
    leases: set[datetime] = set()

    def renewed_three_times() -> bool:
        leases.add(dragon.row["lease_expires_at"])
        return len(leases) > 3

    wait_until(renewed_three_times, what="three heartbeats")
    wait_until(lambda: dragon.calls, what="the call")
    house.provider.release()
    dragon.wait_for("completed")
    assert dragon.claims() == ["succeeded"]
    assert len(dragon.calls) == 1


def test_an_answer_that_does_not_end_is_asked_for_once_more_at_most(house: House) -> None:
    hanging = Dragon(house, "[[hang]]", maxAttempts=5)
    dripping = Dragon(house, "[[drip=0.5]]", maxAttempts=1)
    passing = Dragon(house, "[[once=hang]]")
    passing.wait_for("completed")
    assert passing.claims() == ["unknown_outcome", "succeeded"]
    assert hanging.outcome() == ("unknown_outcome", 2)
    assert dripping.outcome() == ("unknown_outcome", 1)
    for call in [*hanging.calls, *dripping.calls]:
        wait_until(lambda: house.provider.stats().active == 0, what="the end of the connection")
        assert call.disconnected
    # Some hundred bytes, one each half second, would have taken minutes.
    [call] = dripping.calls
    assert TIMEOUT_SECONDS - 1 < call.ended - call.started < 60


def test_an_answer_that_is_no_image_never_completes_or_fills_memory(house: House) -> None:
    Dragon(house).wait_for("completed")  # what is loaded on first use is not the answers'
    before = peak_memory(house)
    expected = {
        "image=truncated": ("invalid_image", 1),
        "malformed": ("invalid_image", 1),
        "image=bomb": ("invalid_image", 1),
        "huge=1000": ("invalid_image", 1),
        "huge=1000;declared": ("invalid_image", 1),
        "short": ("unknown_outcome", 2),
        "empty": ("empty_result", 3),
        "html": ("unavailable", 3),
    }
    assert outcomes(house, expected) == expected
    assert peak_memory(house) - before < 500


def peak_memory(house: House) -> int:
    """The most that the worker ever had, in MB."""
    status = Path(f"/proc/{house.stack.pid('worker')}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) // 1024


def test_a_refused_request_is_not_sent_again_and_the_key_stays_secret(house: House) -> None:
    expected = {
        "status=400": ("invalid_request", 1),
        "status=401": ("auth", 1),
        "status=403": ("auth", 1),
        "quota": ("quota_exhausted", 1),
        "moderation=input": ("refused_input", 1),
        "moderation=output": ("refused_output", 1),
    }
    assert outcomes(house, expected) == expected
    shown = house.alice.get("/requests?status=failed").text
    logs = "".join(path.read_text() for path in house.stack.logs.iterdir())
    told = "".join([shown, logs, *everything(house)])
    assert "Dragon number" in told
    assert "refused" in told
    assert not re.search("sk-only|sk-secret", told)


def everything(house: House) -> Iterator[str]:
    """Every row of every table of ours, as text."""
    tables = house.rows("SELECT relname AS name FROM pg_stat_user_tables WHERE starts_with(relname, 'generation_')")
    for table in tables:
        for row in house.rows(f"SELECT t::text AS text FROM {table['name']} t"):  # noqa: S608  our own names
            yield row["text"]


def test_provider_failures_are_retried_within_attempts_and_budget(house: House) -> None:
    faulty = Dragon(house, "[[status=500]]", maxAttempts=3)
    # A fault is free; an answer that breaks off may have been billed, and is repeated once.
    breaking = Dragon(house, "[[reset=after]] [[once=status=500;reset=]]", maxAttempts=10)
    assert faulty.outcome() == ("unavailable", 3)
    assert breaking.outcome() == ("unknown_outcome", 3)
    assert breaking.claims() == ["unavailable", "unknown_outcome", "unknown_outcome"]


@pytest.fixture
def one_slot(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """With one worker that does one thing at a time."""
    house.stack.stop("worker")
    monkeypatch.setitem(house.stack.env, "MAX_CONCURRENT_REQUESTS", "1")
    house.stack.start("worker")
    house.wait_until_up(workers=1)
    return house


def test_a_snoozed_request_waits_in_the_queue_and_blocks_no_worker(one_slot: House) -> None:
    house = one_slot
    named = datetime.now(UTC) + timedelta(seconds=10)
    told = {
        said: Dragon(house, f"[[once=status=429;retry-after={said}]]", maxAttempts=1)
        for said in ("7", format_datetime(named, usegmt=True), "-7", "abc", "1e9")
    }
    other = Dragon(house)
    other.wait_for("completed")
    longest = told.pop("1e9")
    query = """
        SELECT priority_weight, available_at - r.created_at AS wait FROM generation_queue q
        JOIN generation_requests r ON r.id = q.request_id WHERE r.id = %s AND waits = 1 AND attempts = 0
    """
    [entry] = wait_until(lambda: house.rows(query, longest.id), what="the wait")
    assert entry["priority_weight"] == 1
    assert timedelta(seconds=590) < entry["wait"] < timedelta(seconds=660)
    assert house.alice.delete(f"/cancel/{longest.id}").status_code == 200
    assert len(longest.calls) == 1
    for dragon in told.values():
        dragon.wait_for("completed")
        assert dragon.row["attempts"] == 1
        # Requests that came while the breaker was open were released.
        assert [said for said in dragon.claims() if said != "abandoned"] == ["rate_limited", "succeeded"]
    first, second = told["7"].calls
    assert second.started - first.ended >= 7
    # A date has whole seconds.
    assert told[format_datetime(named, usegmt=True)].calls[1].started >= named.timestamp() - 1
