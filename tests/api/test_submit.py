"""POST /submit: validation, response and stored rows."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generation.identifiers import new_request_id
from generation.models import GenerationQueue, GenerationRequest, StatusChange
from generation.requests.representations import RESERVED_METADATA
from generation.states import GenerationType, Priority
from tests.api.helpers import (
    BATCH,
    SUBMIT,
    address,
    answer,
    assert_refused_field,
    body,
    completed,
    post_json,
    stored_rows,
)
from tests.support.measured import worker
from tests.support.requests import PROMPT, queued

ID = re.compile(r"vga_\d+_[a-z0-9]{9,}")


def _nested(levels: int) -> dict[str, Any]:
    """Return an object with this many levels of nesting."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def _of_bytes(size: int, letter: str = "x") -> dict[str, str]:
    """Return metadata with this length in bytes as compact JSON."""
    frame = len('{"a":""}')
    return {"a": letter * ((size - frame) // len(letter.encode()))}


# --- The guide's own tests --------------------------------------------------------------------------------------------


def test_should_submit_generation_request(api: APIClient) -> None:
    response = api.post(SUBMIT, {"type": "coloring-page", "prompt": "A test prompt", "priority": "normal"}, "json")
    assert response.status_code == 200
    assert response.json()["success"] is True
    assert response.json()["requestId"].startswith("vga_")


def test_should_get_request_status(api: APIClient) -> None:
    submitted = api.post(SUBMIT, {"type": "coloring-page", "prompt": "A test prompt"}, "json").json()
    response = api.get(address("status", submitted["requestId"]))
    assert response.status_code == 200
    assert response.json()["requestId"] == submitted["requestId"]
    assert response.json()["status"] == "queued"


# --- Response and stored rows -----------------------------------------------------------------------------------------


def test_the_response_has_the_id_and_the_location(api: APIClient, settings: Any) -> None:
    settings.PUBLIC_BASE_URL = "https://images.example"
    worker("one", slots=1)
    response = post_json(api, body())
    answer = response.json()
    assert answer.keys() == {"success", "requestId", "status", "estimatedWaitTime"}
    assert answer["success"] is True
    assert answer["status"] == "queued"
    assert isinstance(answer["estimatedWaitTime"], int)
    assert answer["estimatedWaitTime"] > 0
    assert ID.fullmatch(answer["requestId"])
    assert response["Location"] == f"https://images.example{address('status', answer['requestId'])}"


def test_the_location_leads_to_the_status(api: APIClient) -> None:
    response = post_json(api, body())
    status = api.get(response["Location"].removeprefix("http://127.0.0.1:8000"))
    assert status.json()["requestId"] == response.json()["requestId"]


def test_a_minimal_body_gets_the_defaults(api: APIClient, alice: User) -> None:
    post_json(api, {"type": "cover", "prompt": PROMPT})
    stored = GenerationRequest.objects.get()
    assert (stored.owner, stored.type, stored.prompt) == (alice, "cover", PROMPT)
    assert (stored.priority, stored.project_id, stored.page_id, stored.metadata) == ("normal", "", "", {})
    assert (stored.status, stored.attempts, stored.max_attempts) == ("queued", 0, 3)
    assert GenerationQueue.objects.get().priority_weight == 10
    assert StatusChange.objects.get().actor == alice


def test_a_full_body_is_stored_as_it_was_sent(api: APIClient) -> None:
    metadata = {"imageStyle": "cartoon", "aspectRatio": "square", "maxAttempts": 5, "seed": 7, "useCache": True}
    sent = body(priority="urgent", projectId="proj_123", pageId="page_456", metadata=metadata)
    assert post_json(api, sent).status_code == 200
    stored = GenerationRequest.objects.get()
    assert (stored.priority, stored.project_id, stored.page_id) == ("urgent", "proj_123", "page_456")
    assert (stored.metadata, stored.max_attempts) == (metadata, 5)


def test_the_same_body_sent_twice_is_two_requests(api: APIClient) -> None:
    assert post_json(api, body()).json()["requestId"] != post_json(api, body()).json()["requestId"]
    assert stored_rows() == (2, 2, 2)


def test_the_estimate_grows_with_the_queue(api: APIClient, alice: User) -> None:
    worker("one", slots=1)
    first = post_json(api, body()).json()["estimatedWaitTime"]
    queued(alice, priority="high")
    assert post_json(api, body()).json()["estimatedWaitTime"] > first
    assert post_json(api, body(priority="urgent")).json()["estimatedWaitTime"] == first


def test_a_thousand_ids_differ_and_are_sorted_by_time() -> None:
    ids = [new_request_id() for _ in range(1_000)]
    assert all(ID.fullmatch(name) for name in ids)
    assert len(set(ids)) == 1_000
    assert ids == sorted(ids)


def test_a_submit_takes_eight_queries(api: APIClient, django_assert_max_num_queries: Any) -> None:
    """One for the user, begin and commit around three inserts, and two for the queue position.

    The data about workers and durations is cached.
    """
    post_json(api, body())
    with django_assert_max_num_queries(8):
        assert post_json(api, body()).status_code == 200


TEXTS = {
    "accents": "Ein Drache übt Flöte, façade, Ångström",
    "Chinese": "一条友好的龙在花园里快乐地玩耍着",
    "right to left": "תנין ידידותי משחק בגן של השכנים",
    "joined emoji": "👩‍👩‍👧‍👦🏳️‍🌈🐉🌻 dragon family",
    "combining marks": "e\u0301 is not \u00e9 in a long prompt",
    "control characters": "one\ttwo\nthree\x01four\x7ffive",
    "the last code point": "the end \U0010ffff\ufffe\uffff of it all",
    "markup": "<script>alert('x')</script> & \"quotes\"",
    "backslashes": "C:\\new\\u0000\\ud800 is only text",
    "directions": "left\u202eright\u2066and back\u2069",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_text_comes_back_unchanged(api: APIClient, text: str) -> None:
    sent = body(prompt=text, projectId=text, pageId=text, metadata={text: [text, {text: text}], "negativePrompt": text})
    shown = api.get(address("status", post_json(api, sent).json()["requestId"])).json()
    assert [shown["prompt"], shown["projectId"], shown["pageId"]] == [text, text, text]
    assert shown["metadata"].items() >= sent["metadata"].items()


def test_metadata_of_every_kind_of_value_comes_back(api: APIClient) -> None:
    metadata = {
        "numbers": [0, -1, 1.5, 1e-7, 2**63 - 1, -(2**63) + 1],
        "words": ["", "null", "true"],
        "nothing": None,
        "truth": [True, False],
        "empty": [{}, [], ""],
        "": "an empty name",
        "a.b": {"[0]": "names that look like paths"},
        "_id": 1,
        "non_field_errors": 2,
    }
    shown = api.get(address("status", post_json(api, body(metadata=metadata)).json()["requestId"])).json()
    assert {name: value for name, value in shown["metadata"].items() if name in metadata} == metadata


# --- Limits -----------------------------------------------------------------------------------------------------------

ACCEPTED: dict[str, dict[str, Any]] = {
    **{f"type {value}": {"type": value} for value in GenerationType.values},
    **{f"priority {value}": {"priority": value} for value in Priority.values},
    "prompt of 10": {"prompt": "x" * 10},
    "prompt of 1,000": {"prompt": "x" * 1_000},
    "prompt of 1,000 outside the BMP": {"prompt": "🐉" * 1_000},
    "prompt of 1,000 and spaces around": {"prompt": " \n" * 500 + "x" * 1_000 + "\t" * 500},
    "projectId of 255": {"projectId": "x" * 255},
    "projectId of 255 outside the BMP": {"projectId": "🐉" * 255},
    "projectId null": {"projectId": None},
    "projectId empty": {"projectId": ""},
    "pageId of 255": {"pageId": "x" * 255},
    "pageId null": {"pageId": None},
    "metadata empty": {"metadata": {}},
    "metadata of 16 KiB": {"metadata": _of_bytes(16_384)},
    "metadata of 16 KiB in long characters": {"metadata": _of_bytes(16_384, "é")},
    "metadata of 8 levels": {"metadata": _nested(8)},
    "an unknown field": {"callbackUrl": "https://client.example", "b": {"c": [1]}},
    "an unknown key of metadata": {"metadata": {"mine": {"deep": [1, None]}}},
}
KNOWN_KEYS: dict[str, list[Any]] = {
    "title": ["", "x" * 200],
    "imageStyle": ["cartoon", "x" * 100],
    "aspectRatio": ["square", "portrait", "landscape", "1:1", "16:9", "1:4", "4:1", "100:399"],
    "resolution": ["1K", "2K", "4K"],
    "maxAttempts": [1, 10],
    "provider": ["clipart"],
    "model": ["openmoji-17"],
    "quality": ["low", "medium", "high"],
    "seed": [0, 4_294_967_294],
    "negativePrompt": ["", "x" * 1_000],
    "outputFormat": ["png", "jpeg", "webp"],
    "useCache": [True, False],
    "onRefusal": ["fail", "fallback"],
}


@pytest.mark.parametrize("more", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_value_within_its_limits_is_accepted(api: APIClient, more: dict[str, Any]) -> None:
    response = post_json(api, body() | more)
    assert response.status_code == 200, response.content
    assert stored_rows() == (1, 1, 1)


@pytest.mark.parametrize("key", KNOWN_KEYS)
def test_a_known_key_is_accepted_and_comes_back(api: APIClient, key: str) -> None:
    for value in KNOWN_KEYS[key]:
        response = post_json(api, body(metadata={key: value}))
        assert response.status_code == 200, (value, response.content)
        shown = api.get(address("status", response.json()["requestId"])).json()
        assert shown["metadata"][key] == value


def test_spaces_around_a_prompt_are_removed(api: APIClient) -> None:
    post_json(api, body(prompt=f" \n\t{PROMPT}\u3000 "))
    assert GenerationRequest.objects.get().prompt == PROMPT


NOT_STRINGS: dict[str, Any] = {"a number": 7, "true": True, "a list": ["x" * 20], "an object": {"x" * 20: 1}}
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "prompt of 9": ({"prompt": "x" * 9}, "prompt", "min_length"),
    "prompt of 9 and spaces around": ({"prompt": "  " + "x" * 9 + "  "}, "prompt", "min_length"),
    "prompt of 1,001": ({"prompt": "x" * 1_001}, "prompt", "max_length"),
    "prompt of 500,000": ({"prompt": "x" * 500_000}, "prompt", "max_length"),
    "prompt empty": ({"prompt": ""}, "prompt", "blank"),
    "prompt of spaces": ({"prompt": " " * 20}, "prompt", "blank"),
    "prompt null": ({"prompt": None}, "prompt", "null"),
    "type unknown": ({"type": "sculpture"}, "type", "invalid_choice"),
    "type in capitals": ({"type": "Cover"}, "type", "invalid_choice"),
    "type without end": ({"type": "x" * 500_000}, "type", "invalid_choice"),
    "type empty": ({"type": ""}, "type", "invalid_choice"),
    "type null": ({"type": None}, "type", "null"),
    "priority unknown": ({"priority": "highest"}, "priority", "invalid_choice"),
    "priority empty": ({"priority": ""}, "priority", "invalid_choice"),
    "projectId of 256": ({"projectId": "x" * 256}, "projectId", "max_length"),
    "pageId of 256": ({"pageId": "x" * 256}, "pageId", "max_length"),
    "metadata a list": ({"metadata": []}, "metadata", "invalid"),
    "metadata a string": ({"metadata": "{}"}, "metadata", "invalid"),
    "metadata of 16 KiB and a byte": ({"metadata": _of_bytes(16_385)}, "metadata", "max_length"),
    "metadata of 16 KiB and a long character": ({"metadata": _of_bytes(16_386, "é")}, "metadata", "max_length"),
    "metadata of 9 levels": ({"metadata": _nested(9)}, "metadata.a.a.a.a.a.a.a.a", "max_depth"),
    "metadata of 9 levels of lists": ({"metadata": {"a": [[[[[[[[]]]]]]]]}}, f"metadata.a{'[0]' * 7}", "max_depth"),
    **{
        f"{field} {kind}": ({field: value}, field, code)
        for field, code in {
            "type": "invalid_choice",
            "priority": "invalid_choice",
            "prompt": "invalid",
            "projectId": "invalid",
            "pageId": "invalid",
        }.items()
        for kind, value in NOT_STRINGS.items()
    },
}
BAD_VALUES: dict[str, list[Any]] = {
    "title": [7, "x" * 201],
    "imageStyle": ["", 7, "x" * 101],
    "aspectRatio": [
        "",
        "Square",
        "0:1",
        "1:0",
        "1:5",
        "401:100",
        "1",
        "1:1:1",
        "-1:1",
        "1.5:1",
        "٣:٤",
        "1000:999",
    ],
    "resolution": ["", "8K", "1k", 2, "2048x2048", ["2K"]],
    "maxAttempts": [0, 11, -1, 3.5, "3", True, 2**62],
    "provider": ["", "unknown", ["clipart"]],
    "model": ["", 7, "x" * 255, "x" * 256],
    "quality": ["", "best", 1],
    "seed": [-1, 4_294_967_295, 1.5, "7", False],
    "negativePrompt": [7, "x" * 1_001],
    "outputFormat": ["", "gif", "PNG", "image/png"],
    "useCache": ["true", 1, 0, []],
    "onRefusal": ["", "ask again", True],
}


@pytest.mark.parametrize(("more", "path", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_a_value_beyond_its_limits_is_rejected(api: APIClient, more: dict[str, Any], path: str, code: str) -> None:
    assert_refused_field(post_json(api, body() | more), path, code)


@pytest.mark.parametrize("key", BAD_VALUES)
def test_a_known_key_with_an_invalid_value_is_rejected(api: APIClient, key: str) -> None:
    for value in BAD_VALUES[key]:
        assert_refused_field(post_json(api, body(metadata={key: value})), f"metadata.{key}")


@pytest.mark.parametrize("field", ["type", "prompt"])
def test_a_missing_field_is_named(api: APIClient, field: str) -> None:
    assert_refused_field(post_json(api, {name: value for name, value in body().items() if name != field}), field)


def test_all_invalid_values_are_named_at_once(api: APIClient) -> None:
    response = post_json(api, {"type": "sculpture", "prompt": "short", "metadata": {"seed": -1, "quality": "best"}})
    faults = {fault["path"]: fault["code"] for fault in response.json()["errors"]}
    assert faults == {
        "type": "invalid_choice",
        "prompt": "min_length",
        "metadata.seed": "min_value",
        "metadata.quality": "invalid_choice",
    }
    assert stored_rows() == (0, 0, 0)


@pytest.mark.parametrize("key", RESERVED_METADATA)
def test_a_key_that_the_server_writes_is_rejected(api: APIClient, key: str) -> None:
    values: list[Any] = ["mine", 7, None, {}]
    for value in values:
        assert_refused_field(post_json(api, body(metadata={key: value, "other": 1})), f"metadata.{key}", "reserved")
    batch = {"requests": [body(), body(metadata={key: "mine"})]}
    assert_refused_field(post_json(api, batch, at=BATCH), f"requests[1].metadata.{key}", "reserved")


def test_no_other_key_of_metadata_is_written_by_the_server(api: APIClient, alice: User) -> None:
    assert completed(alice).metadata == {}
    request_id = answer(post_json(api, body(metadata={"maxAttempts": 4, "Attempts": 7})))["requestId"]
    shown = answer(api.get(address("status", request_id)))["metadata"]
    assert (shown["Attempts"], shown["maxAttempts"]) == (7, 4)
    assert shown.keys() == {*RESERVED_METADATA, "maxAttempts", "Attempts"}
    assert shown["requestedAt"].endswith("Z")


# --- Null -------------------------------------------------------------------------------------------------------------

OPTIONAL = ["priority", "projectId", "pageId", "metadata"]


@pytest.mark.parametrize("field", [*OPTIONAL, *(f"metadata.{key}" for key in BAD_VALUES)])
def test_null_for_an_optional_field_means_that_it_is_absent(api: APIClient, field: str) -> None:
    def stored(**more: Any) -> dict[str, Any]:
        shown = answer(api.get(address("status", answer(post_json(api, body(**more)))["requestId"])))
        return {name: shown[name] for name in ("type", "prompt", "priority", "projectId", "pageId")} | {
            "metadata": {key: value for key, value in shown["metadata"].items() if key != "requestedAt"}
        }

    name, _, key = field.partition(".")
    given = {name: {key: None} if key else None}
    assert stored(**given) == stored()
    answer(post_json(api, {"requests": [body(**given)], "batchOptions": None}, at=BATCH))


def test_null_for_an_unknown_key_of_metadata_is_stored(api: APIClient) -> None:
    request_id = answer(post_json(api, body(metadata={"mine": None, "seed": None})))["requestId"]
    shown = answer(api.get(address("status", request_id)))["metadata"]
    assert shown["mine"] is None
    assert "seed" not in shown
