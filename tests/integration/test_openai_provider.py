"""OpenAI's adapter against the fake, over real HTTP."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from tests.fakes.control import FakeProvider
from tests.support.callers import PROMPT, Caller, calling
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


def test_quality_is_left_to_the_vendor_unless_it_is_asked_for(caller: Caller, fake: FakeProvider) -> None:
    caller.generate()
    assert "quality" not in fake.journal()[0].options


# --- What works -------------------------------------------------------------------------------------------------------


def test_images_of_different_requests_differ(caller: Caller) -> None:
    first, second = (caller.generate(request_id=name).data for name in ("vga_1", "vga_2"))
    with Image.open(io.BytesIO(first)) as one, Image.open(io.BytesIO(second)) as two:
        assert (one.info["Comment"], two.info["Comment"]) == ("vga_1", "vga_2")
        assert one.convert("RGB").getpixel((1, 1)) != two.convert("RGB").getpixel((1, 1))


def test_the_requested_options_are_sent(caller: Caller, fake: FakeProvider) -> None:
    answer = caller.generate(width=1824, quality="high", output_format="webp", model="gpt-image-2.5-flare")
    assert (answer.model, answer.seed) == ("gpt-image-2.5-flare", None)
    call = fake.journal()[0]
    assert (call.prompt, call.request_id) == (PROMPT, "vga_1")
    assert call.options == {
        "model": "gpt-image-2.5-flare",
        "size": "1824x1024",
        "quality": "high",
        "output_format": "webp",
        "authorized": True,
    }


# --- What the vendor refuses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marker", "code"),
    [
        ("status=409", "unavailable"),
        ("status=503;should-retry=false", "invalid_request"),
        ("malformed", "invalid_image"),
    ],
)
def test_each_answer_without_an_image_has_its_code_and_is_not_repeated(
    caller: Caller, fake: FakeProvider, marker: str, code: str
) -> None:
    error = caller.fail(f"{PROMPT} [[{marker}]]")
    assert error.code == code
    assert fake.stats().count == 1
    assert error.provider_request_id.startswith("req_fake_")


def test_a_refusal_names_stage_and_category(caller: Caller) -> None:
    error = caller.fail(f"{PROMPT} [[moderation=output]]")
    assert (error.detail["stage"], error.detail["categories"]) == ("output", ["violence"])
    assert "violence" in error.message


def test_milliseconds_come_before_seconds(caller: Caller) -> None:
    assert caller.fail(f"{PROMPT} [[status=429;retry-after=7;retry-after-ms=1500]]").retry_after == 1.5


@pytest.mark.parametrize(
    ("option", "name"), [({"seed": 0}, "seed"), ({"negative_prompt": "no cats"}, "negativePrompt")]
)
def test_an_option_the_vendor_lacks_is_refused_before_the_call(
    caller: Caller, fake: FakeProvider, option: dict[str, Any], name: str
) -> None:
    error = caller.fail(PROMPT, **option)
    assert (error.code, error.message) == ("invalid_request", f"OpenAI does not support {name}")
    assert fake.stats().count == 0
