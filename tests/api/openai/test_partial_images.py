"""Partial images in a stream, by the official Python SDK, and previews of the same request by the API."""

from __future__ import annotations

import base64
import io
import json
import threading
from typing import Any

import httpx2
from PIL import Image

from tests.api.openai.conftest import PROMPT, OpenAIStack
from tests.support.stack import wait_until


def comment(encoded: str) -> Any:
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        return image.info["Comment"]


def has_preview(vendor: OpenAIStack, number: int) -> bool:
    """Return whether the preview of this number is noted."""
    rows = vendor.database.rows("SELECT preview FROM generation_attempts WHERE preview LIKE %s", f"%-{number}-%")
    return any(row["preview"].startswith(f"previews/{one['id']}") for row in rows for one in vendor.new_requests())


def test_the_sdk_gets_every_partial_image_and_the_last(vendor: OpenAIStack) -> None:
    vendor.fake.script(default="stream=steps")
    events: list[Any] = []
    for event in vendor.sdk().images.generate(prompt=PROMPT, stream=True, partial_images=2):
        events.append(event)
        vendor.fake.release()
    [row] = vendor.new_requests()
    assert [event.type for event in events] == [*["image_generation.partial_image"] * 2, "image_generation.completed"]
    assert [comment(event.b64_json) for event in events] == [f"{row['id']} 0", f"{row['id']} 1", row["id"]]
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    first = events[0].to_dict()
    assert first["created_at"] > 1_700_000_000
    assert {name: first[name] for name in ("size", "quality", "background", "output_format")} == {
        "size": "64x64",
        "quality": "auto",
        "background": "opaque",
        "output_format": "png",
    }
    assert events[2].usage.total_tokens == 220
    assert row["metadata"]["previews"] == 2
    assert vendor.calls == 1


def test_a_stream_without_partial_images_asks_for_none(vendor: OpenAIStack) -> None:
    [event] = vendor.sdk().images.generate(prompt=PROMPT, stream=True)
    assert event.type == "image_generation.completed"
    [row] = vendor.new_requests()
    assert "previews" not in row["metadata"]


def test_partial_images_without_a_stream_have_no_effect(vendor: OpenAIStack) -> None:
    assert vendor.sdk().images.generate(prompt=PROMPT, partial_images=2).data
    [row] = vendor.new_requests()
    assert "previews" not in row["metadata"]


def test_without_a_capable_model_the_stream_goes_on(vendor: OpenAIStack) -> None:
    body = {"prompt": PROMPT, "stream": True, "partial_images": 2, "model": "chatgpt-image-latest"}
    answer = vendor.generate(body)
    assert "image_generation.completed" in answer.text
    assert answer.headers["x-vga-ignored"] == "partial_images"


def test_a_refusal_after_a_partial_image_is_an_error_event(vendor: OpenAIStack) -> None:
    vendor.fake.script(default="stream=refusal")
    answer = vendor.generate({"prompt": PROMPT, "stream": True, "partial_images": 1})
    last = json.loads(answer.text.rpartition("data: ")[2])
    assert last["error"]["code"] == "moderation_blocked"
    assert last["error"]["moderation_details"]["moderation_stage"] == "output"
    assert vendor.calls == 1


def test_a_joined_call_gets_partial_images_too(vendor: OpenAIStack) -> None:
    vendor.fake.script(default="hold;stream=steps")
    body = {"prompt": PROMPT, "stream": True, "partial_images": 1}
    texts: list[str] = []

    def call(**headers: str) -> None:
        texts.append(vendor.generate(body, **headers).text)

    calls = [threading.Thread(target=call), threading.Thread(target=call, kwargs={"x_stainless_retry_count": "1"})]
    calls[0].start()
    wait_until(lambda: vendor.calls == 1, what="the call")
    calls[1].start()
    wait_until(lambda: _waiting(vendor) == 2, what="the second call")
    vendor.fake.release()
    wait_until(lambda: has_preview(vendor, 0), what="the preview")
    vendor.fake.release()
    for thread in calls:
        thread.join(20)
    assert len(texts) == 2
    assert all("event: image_generation.completed" in text for text in texts)
    assert len(vendor.new_requests()) == 1


def _waiting(vendor: OpenAIStack) -> int:
    rows = vendor.database.rows("SELECT answer FROM generation_idempotency_keys")
    return sum(len(json.loads(row["answer"])["waiting"]) for row in rows)


def test_the_status_has_the_address_of_the_newest_preview(vendor: OpenAIStack) -> None:
    vendor.fake.script(default="stream=steps")
    body = {"type": "illustration", "prompt": PROMPT, "metadata": {"previews": 2}}
    with vendor.stack.client() as alice:
        request_id = alice.post("/submit", json=body).raise_for_status().json()["requestId"]

        def status(**headers: str) -> httpx2.Response:
            return alice.get(f"/status/{request_id}", headers=headers)

        wait_until(lambda: has_preview(vendor, 0), what="the first preview")
        answer = status()
        first = answer.json()["previewUrl"]
        assert status(**{"If-None-Match": answer.headers["ETag"]}).status_code == 304
        vendor.fake.release()
        wait_until(lambda: has_preview(vendor, 1), what="the second preview")
        second = status(**{"If-None-Match": answer.headers["ETag"]}).json()["previewUrl"]
        assert second != first
        got = httpx2.get(second)
        with Image.open(io.BytesIO(got.content)) as image:
            assert image.info["Comment"] == f"{request_id} 1"
        assert alice.delete(f"/cancel/{request_id}").status_code == 200
        assert httpx2.get(second).status_code == 404
        assert status().json()["previewUrl"] is None


def test_previews_of_a_model_without_them_are_refused(vendor: OpenAIStack) -> None:
    metadata = {"previews": 1, "model": "chatgpt-image-latest"}
    body = {"type": "illustration", "prompt": PROMPT, "metadata": metadata}
    with vendor.stack.client() as alice:
        answer = alice.post("/submit", json=body)
    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert (error["path"], error["code"]) == ("metadata.previews", "unsupported")
