"""Pages that wait for the image of a sheet, while processes die and the sheet fails."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.house import House, built
from tests.support.stack import wait_until

PAGES = 12


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with built(tmp_path, MAX_CONCURRENT_REQUESTS="8") as house:
        house.stack.start("web", "dispatcher")
        yield house
        house.assert_whole(media=tmp_path / "var" / "media")


def submit_book(house: House, *, pages: int = PAGES, **more: Any) -> tuple[str, list[str]]:
    """Submit a sheet and pages that refer to it, in one batch."""

    def item(number: int) -> dict[str, Any]:
        return {"type": "illustration", "prompt": f"Dragon number {number:06d} in a garden"}

    of_sheet = {"references": [{"item": 0, "name": "Pip"}], **more}
    body = {"requests": [item(0), *(item(number) | of_sheet for number in range(1, pages + 1))]}
    answer = house.alice.post("/batch", json=body)
    assert answer.status_code == 200, answer.text
    sheet, *ids = [str(one["requestId"]) for one in answer.json()["requests"]]
    house.accepted.update([sheet, *ids])
    return sheet, ids


def parked(house: House) -> int:
    return int(house.rows("SELECT count(*) AS n FROM generation_queue WHERE priority_weight = 0")[0]["n"])


def assert_pages_came_after(house: House, sheet: str) -> None:
    """Each page was called once, with the sheet's image, and after the sheet was completed."""
    [row] = house.rows("SELECT result, completed_at FROM generation_requests WHERE id = %s", sheet)
    for number in range(1, PAGES + 1):
        calls = [call for call in house.provider.journal() if f"number {number:06d} " in call.prompt]
        assert len(calls) == 1, number
        assert [one["sha256"] for one in calls[0].options["images"]] == [row["result"]["sha256"]]
        assert calls[0].started >= row["completed_at"].timestamp() - 0.1


def test_a_book_is_made_although_the_worker_of_its_sheet_dies(house: House) -> None:
    house.provider.script("delay=30", default="delay=0.2")
    with house.stack.supervised("worker"):
        house.wait_until_up(workers=1)
        sheet, pages = submit_book(house)
        house.wait_for_active_calls(1)
        house.stack.signal("worker", signal.SIGKILL)
        house.wait_all_ended(seconds=60)
    assert {house.status(one) for one in (sheet, *pages)} == {"completed"}
    assert_pages_came_after(house, sheet)


def test_a_worker_that_dies_before_it_starts_the_pages_delays_them(house: House) -> None:
    house.stack.start("worker")
    house.wait_until_up(workers=1)
    house.stack.stop("dispatcher", by=signal.SIGKILL)
    house.provider.script("hold", default="delay=0.1")
    sheet, pages = submit_book(house)
    house.wait_for_active_calls(1)
    with house.holding("LOCK TABLE generation_references IN ACCESS EXCLUSIVE MODE"):
        # The end of the sheet cannot be committed meanwhile, and the worker dies.
        house.provider.release()
        house.wait_for_blocked()
        house.stack.stop("worker", by=signal.SIGKILL)
    house.stack.start("worker:2", "dispatcher")
    house.wait_all_ended(seconds=60)
    assert {house.status(one) for one in (sheet, *pages)} == {"completed"}
    assert_pages_came_after(house, sheet)
    assert len(house.calls(0)) == 1  # its image was stored before


def test_pages_resume_when_their_failed_sheet_is_retried(house: House) -> None:
    house.stack.start("worker")
    house.wait_until_up(workers=1)
    house.provider.script("moderation=input", default="delay=0.1")
    sheet, pages = submit_book(house)
    house.wait_for(sheet, "failed")
    wait_until(lambda: parked(house) == PAGES, what="waiting pages")
    waiting = house.alice.get(f"/status/{pages[0]}").json()["waitingFor"]
    assert waiting == {"reason": "reference", "requestId": sheet, "status": "failed"}
    assert house.alice.post(f"/retry/{sheet}").status_code == 200
    house.wait_all_ended()
    assert {house.status(one) for one in (sheet, *pages)} == {"completed"}
    assert_pages_came_after(house, sheet)


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_pages_end_with_their_sheet_if_they_are_to(house: House, how: str) -> None:
    house.stack.start("worker")
    house.wait_until_up(workers=1)
    house.provider.script("moderation=input" if how == "fails" else "hold", default="delay=0.1")
    sheet, pages = submit_book(house, onReferenceFailure="cancel")
    if how == "is cancelled":
        house.wait_for_active_calls(1)
        assert house.cancel(sheet)
    house.wait_all_ended()
    shown = [house.alice.get(f"/status/{one}").json() for one in pages]
    assert {(one["status"], one["cancelReason"]) for one in shown} == {("cancelled", "reference_failed")}
    assert house.provider.stats().count == 1
    refused = house.alice.post(f"/retry/{pages[0]}")
    assert (refused.status_code, refused.json()["code"]) == (409, "reference_failed")
