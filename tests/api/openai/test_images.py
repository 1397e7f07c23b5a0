"""Images by the official Python SDK."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io

import httpx2
import openai
import pytest
from PIL import Image

from tests.api.openai.conftest import PROMPT, OpenAIStack


def image_of(text: str | None) -> Image.Image:
    assert text
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True)))


def test_the_sdk_gets_an_image_with_its_facts(vendor: OpenAIStack) -> None:
    raw = vendor.sdk().images.with_raw_response.generate(prompt=PROMPT, model="gpt-image-2", size="1536x1024")
    answer, headers = raw.parse(), raw.headers
    assert answer.data
    assert image_of(answer.data[0].b64_json).format == "PNG"
    assert answer.output_format == "png"
    assert str(answer.quality) == "auto"
    assert answer.background == "opaque"
    [row] = vendor.new_requests()
    assert answer.size == f"{row['result']['width']}x{row['result']['height']}"
    assert answer.created == int(row["completed_at"].timestamp())
    assert answer.usage
    assert answer.usage.model_dump(exclude_none=True) == {
        "input_tokens": 20,
        "input_tokens_details": {"text_tokens": 20, "image_tokens": 0},
        "output_tokens": 200,
        "total_tokens": 220,
    }
    assert headers["x-vga-request-ids"] == row["id"]
    assert headers["x-vga-cost-usd"] == "0.0061"
    assert headers["x-request-id"]
    assert int(headers["openai-processing-ms"]) > 0
    assert headers["x-ratelimit-limit-requests"] == "1000000"
    assert headers["x-ratelimit-remaining-requests"]
    assert headers["x-ratelimit-reset-requests"].endswith("s")
    assert "x-vga-ignored" not in headers


def test_the_prompt_is_sent_as_it_is_unless_a_type_is_given(vendor: OpenAIStack) -> None:
    sdk = vendor.sdk()
    sdk.images.generate(prompt="  A cat\n", extra_body={"vga": {"metadata": {"imageStyle": "cartoon"}}})
    sdk.images.generate(prompt="A cat", extra_body={"vga": {"type": "cover"}})
    assert [call.prompt for call in vendor.fake.journal()] == [
        "  A cat\n",
        "A cat, book cover design, professional, eye-catching",
    ]
    assert [row["type"] for row in vendor.new_requests()] == ["illustration", "cover"]


def test_each_of_several_images_is_a_request_with_its_seed(vendor: OpenAIStack) -> None:
    answer = vendor.sdk().images.generate(prompt=PROMPT, n=3, quality="max", output_format="webp")
    assert answer.data
    assert len({hashlib.sha256((one.b64_json or "").encode()).digest() for one in answer.data}) == 3
    assert {image_of(one.b64_json).format for one in answer.data} == {"WEBP"}
    assert answer.quality == "max"
    assert answer.usage
    assert answer.usage.total_tokens == 660
    rows = vendor.new_requests()
    assert len(rows) == 3
    assert len({row["batch_id"] for row in rows}) == 1
    assert {row["metadata"]["quality"] for row in rows} == {"high"}


def test_images_that_came_are_answered_and_the_others_counted(vendor: OpenAIStack) -> None:
    vendor.fake.script("status=400;says=no", "")
    raw = vendor.sdk().images.with_raw_response.generate(prompt=PROMPT, n=2)
    assert len(raw.parse().data or []) == 1
    assert raw.headers["x-vga-failed"] == "1"


def test_an_image_may_be_answered_as_a_signed_address(vendor: OpenAIStack) -> None:
    answer = vendor.sdk().images.generate(prompt=PROMPT, response_format="url")
    assert answer.data
    assert answer.data[0].b64_json is None
    assert answer.data[0].url
    assert Image.open(io.BytesIO(httpx2.get(answer.data[0].url).raise_for_status().content)).format == "PNG"


def test_a_stream_ends_with_the_image(vendor: OpenAIStack) -> None:
    with vendor.sdk().images.generate(prompt=PROMPT, stream=True, partial_images=2) as stream:
        [event] = list(stream)
    assert event.type == "image_generation.completed"
    assert image_of(event.b64_json).format == "PNG"
    assert event.usage.total_tokens == 220
    assert event.output_format == "png"
    assert event.created_at


def test_a_refusal_after_a_stream_began_is_an_error_event(vendor: OpenAIStack) -> None:
    vendor.fake.script(default="moderation=input")
    with (
        pytest.raises(openai.APIError, match="refused") as raised,
        vendor.sdk().images.generate(prompt=PROMPT, stream=True) as stream,
    ):
        list(stream)
    assert raised.value.code == "moderation_blocked"
    assert vendor.calls == 1


def test_the_asynchronous_sdk_gets_many_images_at_once(vendor: OpenAIStack) -> None:
    async def generate_all() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=vendor.base_url, api_key=vendor.key) as sdk:
            calls = [sdk.images.generate(prompt=PROMPT) for _ in range(6)]
            return [(answer.data or [])[0].b64_json for answer in await asyncio.gather(*calls)]

    assert len(set(asyncio.run(generate_all()))) == 6
    assert vendor.calls == 6


def test_fields_without_an_effect_are_named(vendor: OpenAIStack) -> None:
    body = {"prompt": PROMPT, "style": "vivid", "moderation": "low", "zoom": 3, "bad\nname": 1, "vga": {"shape": "x"}}
    answer = vendor.generate(body)
    assert answer.status_code == 200
    assert answer.headers["x-vga-ignored"] == "style,moderation,zoom,vga.shape"


def test_the_size_becomes_the_nearest_that_can_be_made(vendor: OpenAIStack) -> None:
    sdk = vendor.sdk()
    sizes = {"1792x1024": "1792x1024", "512x512": "1024x1024", "10000x100": "1536x1024", "auto": "1024x1024"}
    for asked in sizes:
        sdk.images.generate(prompt=PROMPT, size=asked)
    assert [call.options["size"] for call in vendor.fake.journal()] == list(sizes.values())


def test_the_models_are_those_of_the_catalogue(vendor: OpenAIStack) -> None:
    sdk = vendor.sdk()
    models = {model.id: model for model in sdk.models.list()}
    assert "gpt-image-2" in models
    assert models["gpt-image-2"].owned_by == "openai"
    assert sdk.models.retrieve("gpt-image-2") == models["gpt-image-2"]
    assert "dall-e-3" not in models, "it is retired"
    with pytest.raises(openai.NotFoundError) as raised:
        sdk.models.retrieve("no-such-model")
    assert raised.value.code == "model_not_found"
    on_web = sdk.with_options(base_url=f"{vendor.stack.base_url}/v1")
    assert {model.id for model in on_web.models.list()} == set(models)
    with pytest.raises(openai.NotFoundError, match="Images are served at http://") as refused:
        on_web.images.generate(prompt=PROMPT)
    assert refused.value.code == "not_served_here"
