"""Errors below ``/v1`` have OpenAI's format, whatever is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.api.openai.conftest import PROMPT, OpenAIStack
from tests.support.stack import wait_until


def error_of(answer: httpx2.Response, status: int, code: str, param: str | None = None) -> dict[str, Any]:
    """Assert that it is an error in OpenAI's format, and return the error."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-request-id"]
    assert int(answer.headers["openai-processing-ms"]) >= 0
    body = answer.json()
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    assert 0 < len(error["message"]) < 500
    assert (error["code"], error["param"]) == (code, param)
    return error


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n\t"}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": "x" * 32_001}, "prompt"),
        ({"prompt": "nul \0"}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"n": 10**30}, "n"),
        ({"n": "2"}, "n"),
        ({"n": True}, "n"),
        ({"n": 1.5}, "n"),
        ({"n": 2, "stream": True}, "n"),
        ({"size": "large"}, "size"),
        ({"size": "0x0"}, "size"),
        ({"size": "1024x"}, "size"),
        ({"size": "999999x999999"}, "size"),
        ({"size": "٣x٣"}, "size"),
        ({"size": [1024, 1024]}, "size"),
        ({"quality": "best"}, "quality"),
        ({"output_format": "svg"}, "output_format"),
        ({"response_format": "file"}, "response_format"),
        ({"stream": "yes"}, "stream"),
        ({"partial_images": 4}, "partial_images"),
        ({"background": "transparent"}, "background"),
        ({"user": "x" * 256}, "user"),
        ({"model": 2}, "model"),
        ({"vga": []}, "vga"),
        ({"vga": {"type": "poster"}}, "vga.type"),
        ({"vga": {"priority": "now"}}, "vga.priority"),
        ({"vga": {"metadata": {"seed": -1}}}, "vga.metadata.seed"),
        ({"vga": {"metadata": {"seed": 1}}}, "vga.metadata.seed"),
        ({"vga": {"metadata": {"attempts": 1}}}, "vga.metadata.attempts"),
        ({"vga": {"references": [{}]}}, "vga.references[0]"),
    ],
)
def test_a_wrong_value_is_named(vendor: OpenAIStack, body: dict[str, Any], param: str) -> None:
    answer = vendor.generate(({} if not body else {"prompt": PROMPT}) | body or {"n": 1})
    assert answer.status_code == 400
    error = answer.json()["error"]
    error_of(answer, 400, error["code"], param)
    assert error["type"] == "invalid_request_error"
    assert vendor.new_requests() == []


def test_a_prompt_may_be_as_long_as_the_model_takes(vendor: OpenAIStack) -> None:
    assert vendor.generate({"prompt": "x" * 32_000}).status_code == 200
    assert len(vendor.fake.journal()[0].prompt) == 32_000
    vendor.database.execute("UPDATE generation_provider_models SET max_prompt = 100")
    try:

        def refused() -> bool:
            return vendor.generate({"prompt": "x" * 101}).status_code == 400

        wait_until(refused, what="the end of the cached catalogue")
        error_of(vendor.generate({"prompt": "x" * 101}), 400, "unsupported", "prompt")
    finally:
        vendor.database.execute("UPDATE generation_provider_models SET max_prompt = 32000 WHERE provider = 'openai'")
        wait_until(lambda: not refused(), what="the end of the cached catalogue")


def test_an_unknown_model_is_not_found(vendor: OpenAIStack) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        vendor.sdk().images.generate(prompt=PROMPT, model="imagen-9")
    assert raised.value.code == "model_not_found"
    assert raised.value.param == "model"


@pytest.mark.parametrize("key", ["", "sk-123", "vgsk_12345678_x", "Bearer"])
def test_a_wrong_key_is_unauthorized(vendor: OpenAIStack, key: str) -> None:
    answer = vendor.generate(Authorization=f"Bearer {key}".strip())
    error_of(answer, 401, "invalid_api_key")
    assert answer.headers["www-authenticate"]


def test_a_key_without_the_scope_is_forbidden(vendor: OpenAIStack) -> None:
    with vendor.stack.client() as alice:
        made = alice.post("/keys", json={"name": "reader", "scopes": ["requests:read"]}).raise_for_status().json()
    reader = vendor.sdk(api_key=made["key"])
    with pytest.raises(openai.PermissionDeniedError) as raised:
        reader.images.generate(prompt=PROMPT)
    assert raised.value.code == "insufficient_permissions"
    assert list(reader.models.list())


def test_a_key_is_limited_to_its_models_and_projects(vendor: OpenAIStack) -> None:
    limits = {"models": ["gpt-image-2.5-flare"], "projectIds": ["book"], "maxPriority": "normal"}
    body = {"name": "limited", "scopes": ["requests:write"]} | limits
    with vendor.stack.client() as alice:
        made = alice.post("/keys", json=body).raise_for_status().json()
    sdk = vendor.sdk(api_key=made["key"])
    assert [model.id for model in sdk.models.list()] == ["gpt-image-2.5-flare"]
    in_book = {"vga": {"projectId": "book"}}
    wrong_calls: list[tuple[dict[str, Any], str]] = [
        ({"model": "gpt-image-2", "extra_body": in_book}, "model"),
        ({"extra_body": {}}, "vga.projectId"),
        ({"extra_body": {"vga": {"projectId": "book", "priority": "high"}}, "n": 2}, "vga.priority"),
    ]
    for wrong, param in wrong_calls:
        with pytest.raises(openai.PermissionDeniedError) as raised:
            sdk.images.generate(prompt=PROMPT, **wrong)
        assert (raised.value.code, raised.value.param) == ("not_allowed", param)
    assert sdk.images.generate(prompt=PROMPT, extra_body=in_book).data
    assert [call.options["model"] for call in vendor.fake.journal()] == ["gpt-image-2.5-flare"]


@pytest.mark.parametrize("at", ["/images/variations", "/chat/completions", "/", "/images/generations/x", "//"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH"])
def test_an_unknown_address_is_not_found(vendor: OpenAIStack, at: str, method: str) -> None:
    for base in (vendor.base_url, f"{vendor.stack.base_url}/v1"):
        error_of(vendor.raw.request(method, f"{base}{at}"), 404, "unknown_url")


def test_another_method_is_not_allowed(vendor: OpenAIStack) -> None:
    answer = vendor.raw.get("/images/generations")
    error_of(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST, OPTIONS"
    error_of(vendor.raw.delete("/models"), 405, "method_not_allowed")


def test_a_body_that_is_too_large_is_refused(vendor: OpenAIStack) -> None:
    answer = vendor.raw.post("/images/generations", content=b'{"prompt":"' + b"x" * 1_100_000 + b'"}', headers=JSON)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"


def test_a_body_of_another_type_is_refused(vendor: OpenAIStack) -> None:
    error_of(vendor.raw.post("/images/generations", data={"prompt": PROMPT}), 415, "unsupported_media_type")
    error_of(vendor.raw.post("/images/generations", content=b"{", headers=JSON), 400, "parse_error")
    error_of(vendor.raw.post("/images/generations", content=b"[]", headers=JSON), 400, "invalid", None)


JSON = {"content-type": "application/json"}


def test_a_refusal_says_what_was_refused(vendor: OpenAIStack) -> None:
    vendor.fake.script(default="moderation=output")
    with pytest.raises(openai.BadRequestError) as raised:
        vendor.sdk().images.generate(prompt=PROMPT)
    assert raised.value.type == "image_generation_user_error"
    assert raised.value.code == "moderation_blocked"
    body: Any = raised.value.body
    assert body["moderation_details"] == {"moderation_stage": "output", "categories": ["violence"]}
    assert vendor.calls == 1


def test_a_budget_that_is_used_up_is_an_insufficient_quota(vendor: OpenAIStack) -> None:
    poor = {"name": "poor", "scopes": ["requests:write"], "dailyBudgetUsd": 0.1}
    with vendor.stack.client() as alice:
        made = alice.post("/keys", json=poor).raise_for_status().json()
    sdk = vendor.sdk(api_key=made["key"])

    with pytest.raises(openai.RateLimitError) as refused:
        sdk.images.generate(prompt=PROMPT, quality="high")
    assert refused.value.code == "insufficient_quota"
    assert refused.value.response.headers["x-should-retry"] == "false"


def test_a_rate_that_is_exceeded_says_when_it_is_reset(vendor: OpenAIStack) -> None:
    slow = {"name": "slow", "scopes": ["requests:write"], "rate": "2/h"}
    with vendor.stack.client() as alice:
        made = alice.post("/keys", json=slow).raise_for_status().json()
    named = {"Authorization": f"Bearer {made['key']}"}
    first = vendor.generate({"prompt": PROMPT, "n": 2}, **named)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    again = vendor.generate({"prompt": PROMPT, "n": 2}, **named, x_stainless_retry_count="1")
    assert again.status_code == 200, "what joins another call is not counted"
    answer = vendor.generate(**named)
    error_of(answer, 429, "rate_limit_exceeded")
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
    assert vendor.calls == 2


def test_an_image_that_is_gone_is_410_and_is_not_asked_again(vendor: OpenAIStack) -> None:
    assert vendor.generate().status_code == 200
    media = Path(vendor.stack.env["VAR_DIR"]) / "media" / "results"
    for file in media.rglob("*.png"):
        file.unlink()
    answer = vendor.generate(x_stainless_retry_count="1")
    error_of(answer, 410, "picture_gone")
    assert answer.headers["x-should-retry"] == "false"
    streamed = vendor.generate({"prompt": PROMPT, "stream": True})
    assert streamed.status_code == 200
    assert vendor.calls == 2


def test_a_storage_that_cannot_be_read_is_500(vendor: OpenAIStack) -> None:
    [row] = vendor.new_requests() if vendor.generate().status_code == 200 else []
    folder = (Path(vendor.stack.env["VAR_DIR"]) / "media" / row["result"]["image_key"]).parent
    aside = folder.rename(folder.with_name("aside"))
    folder.touch()
    try:
        error_of(vendor.generate(x_stainless_retry_count="1"), 500, "internal")
        again = {"x-stainless-retry-count": "2"}
        with pytest.raises(openai.InternalServerError):
            vendor.sdk(max_retries=0).images.generate(prompt=PROMPT, extra_headers=again)
    finally:
        folder.unlink()
        aside.rename(folder)
    assert vendor.generate(x_stainless_retry_count="3").status_code == 200
    assert vendor.calls == 1


def test_a_stream_says_errors_before_it_begins_as_usual(vendor: OpenAIStack) -> None:
    error_of(vendor.generate({"prompt": PROMPT, "stream": True, "size": "?"}), 400, "invalid_choice", "size")
    events = vendor.generate({"prompt": PROMPT, "stream": True}).text.split("\n\n")
    assert events[0].startswith("event: image_generation.completed\ndata: {")
    assert json.loads(events[0].partition("data: ")[2])["b64_json"]
