"""Parts of calls that wait: the preference in a header, and answers that are not read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from generation.api.errors import InvalidValue
from generation.api.waiting import cancel_after, preferred_wait
from generation.realtime import waiting
from generation.requests.events import Preview
from generation.requests.waits import Answer, Wait


def request(**headers: str) -> Request:
    return Request(
        APIRequestFactory().get("/", headers={name.replace("_", "-"): text for name, text in headers.items()})
    )


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait", 60),
        ("wait=0", 0),
        ("wait=5", 5),
        ("wait=61", 60),
        ("Wait = 5 ", 5),
        ('wait="5"', 5),
        ("handling=lenient, wait=5; x=1, wait=9", 5),
        ("waiting=5", 0),
        ("wait=5s", 0),
        ("wait=٥", 0),
        ("wait=-5", 0),
        (",,;=", 0),
        ("wait=" + "9" * 5_000, 0),
        ("wait=" + " " * 50_000 + '"""', 0),
    ],
)
def test_the_preference_is_read_as_rfc_7240_writes_it(prefer: str, seconds: int) -> None:
    assert preferred_wait(request(Prefer=prefer)) == seconds


@pytest.mark.parametrize(("header", "seconds"), [("5s", 5), ("90s", 90), (" 5m ", 300), ("24h", 86_400)])
def test_a_deadline_is_a_number_with_a_unit(header: str, seconds: int) -> None:
    after = cancel_after(request(Cancel_After=header))
    assert after is not None
    assert after.total_seconds() == seconds


@pytest.mark.parametrize("header", ["", "4s", "25h", "5", "5d", "-5m", "1.5h", "5m 3s", "٥m", "9" * 7 + "s"])
def test_a_deadline_that_cannot_be_kept_is_refused(header: str) -> None:
    with pytest.raises(InvalidValue):
        cancel_after(request(Cancel_After=header))


def test_an_answer_that_is_not_read_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SEND_TIMEOUT", 0.05)
    made: list[int] = []

    def parts() -> Any:
        for number in range(1_000):
            made.append(number)
            yield b"x" * 65_536

    async def full(_: Any) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(waiting._HeldResponse(full, []).send_body(Answer(body=parts())))
    assert made == [0]


def test_calls_with_images_leave_turns_to_others() -> None:
    async def calls() -> list[str]:
        begun: list[str] = []
        decoded = asyncio.Event()

        async def with_images(*_: Any) -> None:
            begun.append("images")
            await decoded.wait()

        async def without(*_: Any) -> None:
            begun.append("none")

        slow = waiting.waiting(with_images, with_images=True)
        tasks = [asyncio.ensure_future(slow({}, None, None)) for _ in range(10)]
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await waiting.waiting(without)({}, None, None)
        before = list(begun)
        decoded.set()
        await asyncio.gather(*tasks)
        return [*before, str(len(begun))]

    assert asyncio.run(calls()) == ["images", "images", "images", "none", "11"]


def preview(number: int) -> Preview:
    return Preview("vga_1", None, 1, "", number, f"previews/{number}.png", 8, 8, "")


def test_a_slow_reader_gets_only_the_newest_preview() -> None:
    waiter = waiting._Waiter(["vga_1"])

    async def look() -> list[Any]:
        for number in range(3):
            waiter.show(preview(number))
        return [await waiter.next_preview(1), await waiter.next_preview(0.01)]

    newest, nothing = asyncio.run(look())
    assert newest.number == 2
    assert nothing is None


def streamed(parts: Callable[[Preview], Any]) -> list[bytes]:
    """Return what is sent of one preview, if the wait ends as soon as its first part is sent."""
    sent: list[bytes] = []
    over = asyncio.Event()
    waiter = waiting._Waiter(["vga_1"])

    async def send(message: Any) -> None:
        sent.append(message["body"])
        over.set()
        waiter.news.set()

    async def stream() -> None:
        waiter.show(preview(0))
        held = waiting._HeldResponse(send, [])
        wait = Wait(request_ids=["vga_1"], user_id=1, seconds=9, finish=lambda _: Answer(), preview=parts, events=True)
        streaming = asyncio.create_task(waiting._stream(wait, held, waiter, over))
        await asyncio.wait([streaming], timeout=0.2 if not sent else None)
        over.set()
        waiter.news.set()
        await streaming

    asyncio.run(stream())
    return sent


def test_an_event_that_has_begun_is_sent_to_its_end() -> None:
    assert streamed(lambda _: iter([b"a", b"b", b"c"])) == [b"a", b"b", b"c"]


def test_a_preview_that_is_gone_is_skipped() -> None:
    def gone(preview: Preview) -> Any:
        yield Path(preview.key).read_bytes()

    assert streamed(gone) == []
