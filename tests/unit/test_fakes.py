"""The fakes' script: a slip in it must not pass for a success."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes.google import GoogleWire
from tests.fakes.images import png, spoilt
from tests.fakes.script import Behavior, Script, parse
from tests.fakes.wire import Request
from workers.image_check import check
from workers.providers.base import ProviderError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("delay=2", {"delay": 2.0}),
        ("status=429; retry-after=7", {"status": 429, "retry_after": "7"}),
        ("hang", {"hang": True}),
        ("drip", {"drip": 0.2}),
        ("once=status=429;retry-after=7", {"times": 1, "status": 429, "retry_after": "7"}),
        ("times=2;reset=before", {"times": 2, "reset": "before"}),
    ],
)
def test_a_script_is_read(text: str, found: dict[str, object]) -> None:
    assert parse(text) == found


@pytest.mark.parametrize("text", ["nonsense", "status=abc", "delay=soon", "status"])
def test_a_slip_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(text)


def test_the_prompt_wins_over_the_next_and_the_next_over_the_default() -> None:
    script = Script()
    script.set(default="delay=1;status=500", following=["status=503"])
    assert script.behavior("x [[status=429]]") == Behavior(delay=1, status=429)
    assert script.behavior("x") == Behavior(delay=1, status=500)
    script.set(default="", following=["", "status=503"])
    assert [script.behavior("x").status for _ in range(3)] == [200, 503, 200]


def test_a_scripted_limit_ends_after_its_number_of_calls() -> None:
    script = Script()
    assert [script.behavior("x [[times=2;status=500]]").status for _ in range(3)] == [500, 500, 200]
    assert script.behavior("y [[times=2;status=500]]").status == 500


def test_images_are_sound_and_differ() -> None:
    assert check(png("vga_1")).sha256 != check(png("vga_2")).sha256
    assert png("vga_1") == png("vga_1")


@pytest.mark.parametrize(("output_format", "kind"), [("jpeg", ""), ("webp", ""), ("png", "jpeg")])
def test_images_have_the_requested_or_scripted_type(output_format: str, kind: str) -> None:
    assert check(spoilt("vga_1", output_format, kind)).content_type == f"image/{kind or output_format}"


@pytest.mark.parametrize("kind", ["truncated", "svg", "bomb"])
def test_broken_images_are_broken(kind: str) -> None:
    with pytest.raises(ProviderError) as caught:
        check(spoilt("vga_1", "png", kind))
    assert caught.value.code == "invalid_image"


def gemini(config: Any, *, path: str = "/v1beta/models/gemini-3-pro-image:generateContent", **more: Any) -> Request:
    body = {"contents": [{"parts": [{"text": "A dragon"}], "role": "user"}], "generationConfig": config} | more
    return Request(method="POST", path=path, headers={"x-goog-api-key": "AIza"}, body=json.dumps(body).encode())


@pytest.mark.parametrize(
    ("config", "more"),
    [
        ({"responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": "7:1"}}, {}),
        ({"responseModalities": ["IMAGE"], "imageConfig": {"imageSize": "2k"}}, {}),
        ({"responseModalities": ["IMAGE"], "imageConfig": {"imageOutputOptions": {"mimeType": "image/jpeg"}}}, {}),
        ({"responseModalities": ["IMAGE"], "imageConfig": []}, {}),
        ({"responseModalities": ["IMAGE"], "negativePrompt": "cats"}, {}),
        ({"responseModalities": ["IMAGE"], "seed": 2**31}, {}),
        ({"responseModalities": ["IMAGE"], "seed": "7"}, {}),
        ({"responseModalities": ["TEXT"]}, {}),
        ({}, {}),
        ({"responseModalities": ["IMAGE"]}, {"contents": []}),
        ({"responseModalities": ["IMAGE"]}, {"contents": [{"parts": [{"text": ""}]}]}),
        ({"responseModalities": ["IMAGE"]}, {"prompt": "A dragon"}),
    ],
)
def test_googles_wire_is_as_strict_as_google(config: Any, more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        GoogleWire().read(gemini(config, **more))


def test_the_google_fake_accepts_googles_fields_and_no_key_in_an_address() -> None:
    proper = gemini({"responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": "16:9"}, "seed": 7})
    assert GoogleWire().read(proper).options["seed"] == 7
    path = "/v1beta/models/gemini-3-pro-image:generateContent"
    assert GoogleWire().serves(gemini({}, path=path))
    assert not GoogleWire().serves(gemini({}, path=f"{path}?key=AIza"))
