"""OpenAI's answers in events against the fake, over real HTTP."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

from tests.fakes.control import FakeProvider
from tests.support.callers import PROMPT, Caller, calling
from workers.providers import openai_stream, support
from workers.providers.base import ImageAnswer, ProviderError, track_progress
from workers.providers.openai import OpenAIProvider


@pytest.fixture(scope="module")
def vendor() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def fake(vendor: FakeProvider) -> FakeProvider:
    vendor.reset()
    return vendor


@pytest.fixture
def caller(fake: FakeProvider) -> Iterator[Caller]:
    provider = OpenAIProvider(api_key="sk-only-for-tests", base_url=fake.openai_url, timeout=20.0)
    with calling(provider, model="gpt-image-2") as caller:
        yield caller


Watched = tuple[ImageAnswer | ProviderError, list[bytes]]
Watch = Callable[..., Watched]


@pytest.fixture
def watch(caller: Caller) -> Watch:
    """Return a function that makes a call with previews, and returns its outcome and the previews."""

    def watch(behavior: str = "", previews: int = 2) -> Watched:
        shown: list[bytes] = []

        async def call() -> ImageAnswer:
            track_progress(shown.append)
            prompt = f"{PROMPT} [[{behavior}]]" if behavior else PROMPT
            answer: ImageAnswer = await caller.provider.generate(caller.asked(prompt, previews=previews))
            return answer

        try:
            return caller.run(call()), shown
        except ProviderError as error:
            return error, shown

    return watch


def comment(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as image:
        return image.info["Comment"]


def test_previews_come_before_the_image(watch: Watch, fake: FakeProvider) -> None:
    answer, shown = watch()
    assert isinstance(answer, ImageAnswer)
    assert [comment(data) for data in shown] == ["vga_1 0", "vga_1 1"]
    assert comment(answer.data) == "vga_1"
    assert answer.usage == {"images": 1, "input_text": 20, "output_image": 200}
    assert answer.provider_request_id == "req_fake_1"
    options = fake.journal()[0].options
    assert (options["stream"], options["partial_images"]) == (True, 2)


def test_a_call_without_previews_is_no_stream(watch: Watch, fake: FakeProvider) -> None:
    answer, shown = watch(previews=0)
    assert isinstance(answer, ImageAnswer)
    assert shown == []
    assert "stream" not in fake.journal()[0].options


@pytest.mark.parametrize(
    ("behavior", "count"),
    [
        ("stream=json", 0),
        ("stream=early", 0),
        ("stream=garbage", 2),
        ("stream=json;content-type=text/event-stream", 0),
        ("other", 0),
        ("url=own", 2),
    ],
)
def test_an_unusual_answer_gives_its_image(watch: Watch, behavior: str, count: int) -> None:
    answer, shown = watch(behavior)
    assert isinstance(answer, ImageAnswer), answer
    assert answer.data.startswith(b"\x89PNG")
    assert len(shown) == count


@pytest.mark.parametrize(
    ("behavior", "code"),
    [
        ("stream=cut", "unknown_outcome"),
        ("stream=reset", "unknown_outcome"),
        ("stream=error", "unavailable"),
        ("stream=refusal", "refused_output"),
        ("stream=endless", "invalid_image"),
        ("status=500", "unavailable"),
        ("moderation=input", "refused_input"),
        ("reset=before", "unknown_outcome"),
    ],
)
def test_a_stream_without_an_image_has_its_code(watch: Watch, fake: FakeProvider, behavior: str, code: str) -> None:
    error, _ = watch(behavior)
    assert isinstance(error, ProviderError)
    assert error.code == code
    assert fake.stats().count == 1


def test_a_partial_image_that_is_none_is_passed_on_unchecked(watch: Watch) -> None:
    answer, shown = watch("stream=spoilt")
    assert isinstance(answer, ImageAnswer)
    assert all(data.startswith(b"<svg") for data in shown)


# --- The parser -------------------------------------------------------------------------------------------------------


def events(*chunks: bytes) -> list[tuple[str, bytes]]:
    parser = openai_stream.EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


STREAM = (
    b"\xef\xbb\xbfevent: a\r\ndata: one\r\ndata:two\r\n\r\n: x\rid: 1\rdata: three\r\r"
    b"event: lost\n\ndata\n\ndata: 4\n\n"
)
EVENTS = [("a", b"one\ntwo"), ("", b"three"), ("", b"4")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(STREAM)])
def test_pieces_of_any_size_give_the_same_events(size: int) -> None:
    assert events(*(STREAM[start : start + size] for start in range(0, len(STREAM), size))) == EVENTS


def test_a_long_event_in_small_pieces_is_read_in_linear_time() -> None:
    data = b"A" * 8_000_000
    # With a copy of the whole for each piece this would copy 500 GB.
    pieces = [data[start : start + 64] for start in range(0, len(data), 64)]
    assert events(b"data: ", *pieces, b"\n\n") == [("", data)]


def test_an_event_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_stream, "MAX_ANSWER_BYTES", 1000)
    with pytest.raises(ProviderError):
        events(*[b"data: " + b"A" * 100 + b"\n"] * 20)
    assert len(events(*[b"data: " + b"A" * 100 + b"\n\n"] * 20)) == 20


def test_four_events_of_the_largest_size_fit_into_a_stream() -> None:
    assert support.MAX_STREAM_BYTES == 4 * support.MAX_ANSWER_BYTES


async def _chunks(*chunks: bytes) -> Any:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize("kind", ["text/event-stream", "application/octet-stream", ""])
def test_a_plain_answer_as_an_event_is_an_answer(caller: Caller, kind: str) -> None:
    answer = {"data": [{"b64_json": base64.b64encode(b"x").decode()}]}
    chunks = _chunks(b"  ", b"\n", b"data: " + json.dumps(answer).encode())
    assert caller.run(openai_stream.read(chunks, {"content-type": kind}, model="m")) == answer


def test_a_stream_that_is_empty_has_an_unknown_outcome(caller: Caller) -> None:
    with pytest.raises(ProviderError) as caught:
        caller.run(openai_stream.read(_chunks(b": hello there\n\n"), {}, model="m"))
    assert caught.value.code == "unknown_outcome"
