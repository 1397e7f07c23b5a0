"""What the built-in provider does like the vendors' adapters, as far as it applies without a network."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from workers import image_check
from workers.providers.base import ImageAnswer, ImageRequest, Provider, ProviderError
from workers.providers.clipart import ClipartProvider

PROMPT = "A friendly dragon playing in a garden"


def asked(**more: Any) -> ImageRequest:
    usual: dict[str, Any] = {
        "request_id": "vga_1",
        "type": "cover",
        "subject": PROMPT,
        "prompt": PROMPT,
        "width": 512,
        "height": 512,
    }
    return ImageRequest(**usual | more)


def draw(**more: Any) -> ImageAnswer:
    return asyncio.run(ClipartProvider().generate(asked(**more)))


def test_a_sound_image_has_its_details_and_costs_nothing() -> None:
    answer = draw()
    checked = image_check.check(answer.data)
    assert isinstance(ClipartProvider(), Provider)
    assert not ClipartProvider.billable
    assert (answer.content_type, checked.content_type) == ("image/png", "image/png")
    assert (checked.width, checked.height) == (512, 512)
    assert (answer.model, answer.usage, answer.provider_request_id) == ("openmoji-17", {}, "")


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
def test_the_format_is_the_one_that_was_asked_for(name: str) -> None:
    answer = draw(output_format=name)
    assert answer.content_type == image_check.check(answer.data).content_type == f"image/{name}"


@pytest.mark.parametrize("seed", [0, 7])
def test_the_seed_is_used_and_said(seed: int) -> None:
    assert draw(seed=seed).seed == seed
    assert draw(seed=seed).data == draw(seed=seed).data != draw(seed=seed + 1).data


def test_unwanted_objects_are_not_drawn() -> None:
    assert draw(negative_prompt="dragon").data != draw().data


@pytest.mark.parametrize("option", [{"output_format": "gif"}, {"width": 9000}, {"height": 1}])
def test_an_unsupported_option_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ProviderError) as caught:
        draw(**option)
    assert caught.value.code == "invalid_request"


def test_a_cancel_ends_it_at_once() -> None:
    async def cancelled() -> float:
        call = asyncio.create_task(ClipartProvider().generate(asked(width=4096, height=4096)))
        await asyncio.sleep(0)  # it has begun
        call.cancel()
        started = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await call
        return time.monotonic() - started

    assert asyncio.run(cancelled()) < 1


def test_prompts_are_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    draw()
    assert PROMPT not in caplog.text
