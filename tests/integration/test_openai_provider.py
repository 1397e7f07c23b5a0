"""OpenAI's adapter against the fake, over real HTTP."""

from __future__ import annotations

import asyncio
import io
import logging
import traceback
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from PIL import Image

from tests.fakes.control import FakeProvider
from tests.support.callers import PROMPT, Caller, asked, calling, gone, with_nobody_there
from tests.support.stack import wait_until
from workers.image_check import check
from workers.providers import support
from workers.providers.base import Provider, ProviderError
from workers.providers.openai import OpenAIProvider

KEY = "sk-proj-very-secret-0123456789"


@pytest.fixture(scope="module")
def vendor() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def fake(vendor: FakeProvider) -> FakeProvider:
    vendor.reset()
    return vendor


def provider(base_url: str, **options: Any) -> OpenAIProvider:
    usual: dict[str, Any] = {"api_key": KEY, "base_url": base_url, "timeout": 20.0}
    return OpenAIProvider(**usual | options)


@pytest.fixture
def caller(fake: FakeProvider) -> Iterator[Caller]:
    with calling(provider(fake.openai_url), model="gpt-image-2") as caller:
        yield caller


# --- What works -------------------------------------------------------------------------------------------------------


def test_the_answer_is_an_image_that_passes_the_image_check(caller: Caller) -> None:
    answer = caller.generate()
    assert isinstance(caller.provider, Provider)
    assert (answer.model, answer.content_type, answer.seed) == ("gpt-image-2", "image/png", None)
    assert answer.provider_request_id.startswith("req_fake_")
    assert (check(answer.data).width, check(answer.data).height) == (64, 64)


def test_images_of_different_requests_differ(caller: Caller) -> None:
    first, second = (caller.generate(request_id=name).data for name in ("vga_1", "vga_2"))
    with Image.open(io.BytesIO(first)) as one, Image.open(io.BytesIO(second)) as two:
        assert (one.info["Comment"], two.info["Comment"]) == ("vga_1", "vga_2")
        assert one.convert("RGB").getpixel((1, 1)) != two.convert("RGB").getpixel((1, 1))


def test_the_requested_options_are_sent(caller: Caller, fake: FakeProvider) -> None:
    caller.generate(width=1824, quality="high", output_format="webp", model="gpt-image-2.5-flare")
    call = fake.journal()[0]
    assert (call.prompt, call.request_id) == (PROMPT, "vga_1")
    assert call.options == {
        "model": "gpt-image-2.5-flare",
        "size": "1824x1024",
        "quality": "high",
        "output_format": "webp",
        "authorized": True,
    }


def test_options_not_given_are_left_to_the_vendor(caller: Caller, fake: FakeProvider) -> None:
    caller.generate()
    assert "quality" not in fake.journal()[0].options


def test_calls_in_a_row_share_one_connection(caller: Caller, fake: FakeProvider) -> None:
    for _ in range(5):
        caller.generate()
    assert (fake.stats().count, fake.stats().connections) == (5, 1)


def test_calls_at_once_have_a_connection_each_and_the_next_ones_reuse_them(caller: Caller, fake: FakeProvider) -> None:
    fake.script(default="hold")
    caller.at_once(fake, 20)
    caller.at_once(fake, 20)
    assert (fake.stats().max_concurrent, fake.stats().connections) == (20, 20)


def test_each_event_loop_has_a_client_of_its_own(caller: Caller, fake: FakeProvider) -> None:
    async def once() -> None:
        await caller.provider.generate(asked(model="gpt-image-2"))
        await caller.provider.aclose()

    asyncio.run(once())
    caller.generate()
    assert fake.stats().connections == 2


# --- What the vendor refuses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marker", "code"),
    [
        ("moderation=input", "refused_input"),
        ("moderation=output", "refused_output"),
        ("quota", "quota_exhausted"),
        ("status=400", "invalid_request"),
        ("status=401", "auth"),
        ("status=403", "auth"),
        ("status=404", "model_retired"),
        ("status=422", "invalid_request"),
        ("status=429", "rate_limited"),
        ("status=408", "unavailable"),
        ("status=409", "unavailable"),
        ("status=500", "unavailable"),
        ("status=503;should-retry=false", "invalid_request"),
        ("status=502;html", "unavailable"),
        ("html", "unavailable"),
        ("empty", "empty_result"),
        ("malformed", "invalid_image"),
    ],
)
def test_each_answer_without_an_image_has_its_code_and_is_not_repeated(
    caller: Caller, fake: FakeProvider, marker: str, code: str
) -> None:
    error = caller.fail(f"{PROMPT} [[{marker}]]")
    assert error.code == code
    assert fake.stats().count == 1
    if "html" not in marker:
        assert error.provider_request_id.startswith("req_fake_")


def test_a_refusal_names_stage_and_category(caller: Caller) -> None:
    error = caller.fail(f"{PROMPT} [[moderation=output]]")
    assert (error.detail["stage"], error.detail["categories"]) == ("output", ["violence"])
    assert "violence" in error.message


def test_a_truncated_image_does_not_pass_the_image_check(caller: Caller) -> None:
    with pytest.raises(ProviderError) as caught:
        check(caller.generate(f"{PROMPT} [[picture=truncated]]").data)
    assert caught.value.code == "invalid_image"


@pytest.mark.parametrize("said", ["7", "1e9"])
def test_how_long_to_wait_is_kept(caller: Caller, said: str) -> None:
    assert caller.fail(f"{PROMPT} [[status=429;retry-after={said}]]").retry_after == float(said)


def test_until_when_to_wait_is_kept(caller: Caller) -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
    wait = caller.fail(f"{PROMPT} [[status=429;retry-after={then}]]").retry_after
    assert wait is not None
    assert 500 < wait <= 600


@pytest.mark.parametrize("said", ["-7", "abc", "Fri, 20 Nov 2020 12:00:00 GMT"])
def test_a_time_to_wait_that_makes_no_sense_is_none(caller: Caller, said: str) -> None:
    assert caller.fail(f"{PROMPT} [[status=429;retry-after={said}]]").retry_after is None


def test_milliseconds_come_before_seconds(caller: Caller) -> None:
    assert caller.fail(f"{PROMPT} [[status=429;retry-after=7;retry-after-ms=1500]]").retry_after == 1.5


@pytest.mark.parametrize(
    ("option", "name"), [({"seed": 0}, "seed"), ({"negative_prompt": "no cats"}, "negativePrompt")]
)
def test_an_option_the_vendor_lacks_is_refused_before_the_call(
    caller: Caller, fake: FakeProvider, option: dict[str, Any], name: str
) -> None:
    error = caller.fail(PROMPT, **option)
    assert (error.code, error.message) == ("invalid_request", f"OpenAI knows no {name}")
    assert fake.stats().count == 0


# --- What goes wrong on the way ---------------------------------------------------------------------------------------


def test_an_address_without_a_server_is_unavailable() -> None:
    def call(address: str) -> None:
        with calling(provider(f"http://{address}/v1"), model="gpt-image-2") as caller:
            assert caller.fail().code == "unavailable"

    with_nobody_there(call)


@pytest.mark.parametrize("when", ["unread", "before", "after"])
def test_a_reset_leaves_the_outcome_unknown(caller: Caller, fake: FakeProvider, when: str) -> None:
    fake.script(f"reset={when}")
    assert caller.fail(PROMPT).code == "unknown_outcome"
    assert caller.generate().data


def test_an_answer_that_never_comes_leaves_the_outcome_unknown(
    caller: Caller, fake: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "SPARE_SECONDS", 0.0)
    with calling(provider(fake.openai_url, timeout=0.3), model="gpt-image-2") as impatient:
        assert impatient.fail(f"{PROMPT} [[hang]]").code == "unknown_outcome"
    wait_until(lambda: gone(fake), seconds=5, what="the end of the connection")


@pytest.mark.parametrize("marker", ["hang", "drip=0.05"])
def test_a_time_limit_around_the_call_ends_it_and_closes_the_connection(
    caller: Caller, fake: FakeProvider, marker: str
) -> None:
    caller.run_out_of_time(f"{PROMPT} [[{marker}]]")
    wait_until(lambda: gone(fake), seconds=5, what="the end of the connection")


def test_cancelling_closes_the_connection_and_leaves_the_others_alone(caller: Caller, fake: FakeProvider) -> None:
    assert caller.cancel_one_of_two(fake).data
    assert [(call.outcome, call.disconnected) for call in fake.journal()] == [("gone", True), ("200", False)]


@pytest.mark.parametrize(
    ("marker", "megabytes"),
    [
        ("huge=100", 100),
        ("huge=100;declared", 10),
    ],
)
def test_an_answer_of_100_mb_is_given_up_before_it_fills_the_memory(
    caller: Caller, fake: FakeProvider, marker: str, megabytes: int
) -> None:
    caller.generate()  # what is loaded on first use is not the answer's
    tracemalloc.start()
    try:
        error = caller.fail(f"{PROMPT} [[{marker}]]")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (error.code, error.message) == ("invalid_image", "The provider's answer has more than 60 MB")
    assert peak < megabytes * 1024 * 1024
    wait_until(lambda: gone(fake), seconds=5, what="the end of the connection")


# --- Secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "marker", ["", "status=401", "status=500", "moderation=input", "html", "malformed", "reset=after", "huge=100"]
)
def test_the_key_is_in_no_log_and_no_error(caller: Caller, caplog: pytest.LogCaptureFixture, marker: str) -> None:
    with caplog.at_level(logging.DEBUG):
        for name in ("openai", "httpx2", "httpcore2"):
            caplog.set_level(logging.DEBUG, logger=name)
        try:
            caller.generate(f"{PROMPT} [[{marker}]]" if marker else PROMPT)
        except ProviderError as error:
            told = "".join(traceback.format_exception(error)) + repr(error.detail) + error.message
            assert "sk-" not in told
            assert PROMPT not in told
    assert caplog.records
    assert KEY not in caplog.text


def test_neither_prompts_nor_addresses_are_logged_at_info(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        caller.generate()
        caller.fail(f"{PROMPT} [[status=500]]")
    assert caplog.records == []


def test_a_key_that_cannot_be_sent_is_not_shown_either(fake: FakeProvider) -> None:
    with calling(provider(fake.openai_url, api_key=f"{KEY}\nx"), model="gpt-image-2") as broken:
        error = broken.fail()
    assert KEY not in "".join(traceback.format_exception(error))
    assert fake.stats().count == 0
