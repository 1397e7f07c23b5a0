"""A prompt needs visible characters. Only these count for its length, and the text is stored as sent."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from tests.api.helpers import BATCH, address, answer, assert_refused_field, body, post_json

INVISIBLE: dict[str, str] = {
    "zero-width spaces": "\u200b",
    "word joiners": "\u2060",
    "byte order marks": "\ufeff",
    "soft hyphens": "\u00ad",
    "Hangul fillers": "\u3164",
    "half-width Hangul fillers": "\uffa0",
    "blank Braille patterns": "\u2800",
    "combining accents": "\u0301",
    "enclosing marks": "\u20dd",
    "variation selectors": "\ufe0f",
    "more variation selectors": "\U000e0100",
    "tags": "\U000e0061",
    "joiners": "\u200d",
    "direction marks": "\u200f",
    "overrides": "\u202e\u202c",
    "isolates": "\u2066\u2069",
    "Mongolian vowel separators": "\u180e",
    "control characters": "\x01\x7f\x9f",
    "noncharacters": "\ufdd0\uffff\U0010fffe",
    "a mixture": " \u200b\u3000\u2060\t\u0301",
}


@pytest.mark.parametrize("character", INVISIBLE.values(), ids=INVISIBLE.keys())
def test_a_text_without_visible_characters_is_blank(api: APIClient, character: str) -> None:
    for prompt in (character * 10, character * 900, f" {character * 5}\n{character * 5} "):
        assert_refused_field(post_json(api, body(prompt=prompt[:1000])), "prompt", "blank")
    assert_refused_field(post_json(api, body(metadata={"imageStyle": character * 3})), "metadata.imageStyle", "blank")
    batch = {"requests": [body(), body(prompt=character * 10)]}
    assert_refused_field(post_json(api, batch, at=BATCH), "requests[1].prompt", "blank")


@pytest.mark.parametrize("character", ["\u200b", "\u3164", "\u2800", "\u200d", "\U000e0061", "\u202e"])
def test_invisible_characters_do_not_make_a_prompt_longer(api: APIClient, character: str) -> None:
    for prompt in ("a dragon" + character * 10, character * 10 + "a dragon", character.join("a dragon")):
        assert_refused_field(post_json(api, body(prompt=prompt)), "prompt", "min_length")


@pytest.mark.parametrize(
    "prompt",
    [
        "👩\u200d🎨 draws a dragon ❤\ufe0f",
        "می\u200cخواهم یک اژدها ببینم",
        "एक ड्रैगन बगीचे में",
        "cafe\u0301 with a dragon",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f over a castle",
        "\u200bten letters of text\u200b",
        "한국어 용이 있는 정원",
    ],
    ids=["emoji", "Persian", "Hindi", "an accent", "a flag of tags", "invisible ends", "Korean"],
)
def test_a_text_with_visible_characters_is_stored_unchanged(api: APIClient, prompt: str) -> None:
    request_id = answer(post_json(api, body(prompt=prompt)))["requestId"]
    assert answer(api.get(address("status", request_id)))["prompt"] == prompt
