"""Bodies that are not JSON, cannot be stored or are too large: rejected with a JSON error, and nothing is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generation.models import GenerationRequest
from tests.api.helpers import (
    BATCH,
    NOTHING,
    PREFIX,
    SUBMIT,
    address,
    assert_error,
    assert_refused_field,
    body,
    post_bytes,
    post_json,
    stored_rows,
)
from tests.support.requests import PROMPT, queued

GOOD = json.dumps(body()).encode()


def _with_metadata(text: str) -> bytes:
    """Return a valid body whose metadata contains this JSON text."""
    return json.dumps(body(metadata={"x": "HERE"})).replace('"HERE"', text).encode()


def _padded_to(size: int) -> bytes:
    return GOOD + b" " * (size - len(GOOD))


# --- Bodies that are not JSON -----------------------------------------------------------------------------------------

NOT_JSON: dict[str, bytes] = {
    "cut off": GOOD[:-1],
    "two values": GOOD + GOOD,
    "single quotes": GOOD.replace(b'"', b"'"),
    "a trailing comma": GOOD[:-1] + b",}",
    "a comment": b"/* hello */" + GOOD,
    "not UTF-8": GOOD.replace(b"dragon", b"drag\xf3n"),
    "an encoded surrogate": GOOD.replace(b"dragon", b"\xed\xa0\x80"),
    "overlong": GOOD.replace(b"dragon", b"\xc0\xaf"),
    "two byte order marks": b"\xef\xbb\xbf" * 2 + GOOD,
    "a byte order mark alone": b"\xef\xbb\xbf",
    "UTF-16 in the other order": b"\xfe\xff" + GOOD.decode().encode("utf-16-be"),
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-16 without a mark": GOOD.decode().encode("utf-16-le"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "zeros": b"\0" * 100,
    "a raw NUL": GOOD.replace(b"dragon", b"dra\0gon"),
    "a raw line's end": GOOD.replace(b"dragon", b"dra\ngon"),
    "only spaces": b"   ",
    "20,000 open lists": b"[" * 20_000,
    "20,000 open objects": b'{"a":' * 20_000,
    "20,000 lists": b"[" * 20_000 + b"]" * 20_000,
    "20,000 objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "20,000 lists in metadata": _with_metadata("[" * 20_000 + "]" * 20_000),
    "20,000 objects in metadata": _with_metadata('{"a":' * 20_000 + "1" + "}" * 20_000),
    "half a million open lists": b"[" * 500_000,
    "a name twice": GOOD[:-1] + b', "type": "cover"}',
    "a name twice in metadata": _with_metadata('{"a": 1, "a": 2}'),
    "a name twice, once escaped": _with_metadata(r'{"a": 1, "\u0061": 2}'),
    **{
        f"{literal} in {where}": text
        for literal in ("NaN", "Infinity", "-Infinity")
        for where, text in {
            "metadata": _with_metadata(literal),
            "place of everything": literal.encode(),
            "place of the prompt": b'{"type": "cover", "prompt": %s}' % literal.encode(),
        }.items()
    },
    "a number with a leading zero": _with_metadata("01"),
    "a hexadecimal number": _with_metadata("0x1F"),
}


@pytest.mark.parametrize("data", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_a_body_that_is_not_json_is_rejected(api: APIClient, data: bytes) -> None:
    error = assert_error(post_bytes(api, data), 400, "parse_error")
    assert "python" not in error["error"].lower()
    assert "sys." not in error["error"]
    assert stored_rows() == NOTHING


@pytest.mark.parametrize("at", [SUBMIT, BATCH, "/api/token"])
def test_a_byte_order_mark_is_skipped(api: APIClient, at: str) -> None:
    bodies = {SUBMIT: body(), BATCH: {"requests": [body()]}, "/api/token": {"username": "dora", "password": "wrong"}}
    plain = post_json(api, bodies[at], at=at)
    marked = post_bytes(api, b"\xef\xbb\xbf" + json.dumps(bodies[at]).encode(), at=at)
    assert marked.status_code == plain.status_code != 400


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_another_encoding_is_named(api: APIClient, encoding: str) -> None:
    error = assert_error(post_bytes(api, GOOD.decode().encode(encoding)), 400, "parse_error")
    assert error["error"] == "The body is UTF-16 or UTF-32; send UTF-8"


@pytest.mark.parametrize("data", [b"[]", b"[{}]", b'"submit"', b"7", b"1.5", b"true", b"false", b"null"])
def test_json_that_is_not_an_object_is_rejected(api: APIClient, data: bytes) -> None:
    assert_refused_field(post_bytes(api, data), "")


@pytest.mark.parametrize("data", [b"", b"{}"])
def test_an_empty_body_lacks_the_required_fields(api: APIClient, data: bytes) -> None:
    error = assert_error(post_bytes(api, data), 400, "validation_error")
    assert [(fault["path"], fault["code"]) for fault in error["errors"]] == [
        ("type", "required"),
        ("prompt", "required"),
    ]
    assert stored_rows() == NOTHING


# --- JSON values that the database cannot store -----------------------------------------------------------------------

NUL, SURROGATE = "null_characters_not_allowed", "surrogate_characters_not_allowed"
UNSTORABLE: dict[str, tuple[dict[str, Any], str, str]] = {
    f"{name} in {where}": ({field: value}, path, code)
    for name, bad, code in [
        ("NUL", "a dragon\0in a garden", NUL),
        ("the first half of a pair", "a dragon\ud800in a garden", SURROGATE),
        ("the second half of a pair", "a dragon\udfffin a garden", SURROGATE),
        ("a pair the wrong way round", "a dragon\udc00\ud800in a garden", SURROGATE),
    ]
    for where, field, value, path in [
        ("prompt", "prompt", bad, "prompt"),
        ("type", "type", bad, "type"),
        ("priority", "priority", bad, "priority"),
        ("projectId", "projectId", bad, "projectId"),
        ("pageId", "pageId", bad, "pageId"),
        ("a known key", "metadata", {"imageStyle": bad}, "metadata.imageStyle"),
        ("an unknown key", "metadata", {"mine": bad}, "metadata.mine"),
        ("a name", "metadata", {bad: 1}, "metadata"),
        ("a list", "metadata", {"mine": [1, [bad]]}, "metadata.mine[1][0]"),
        ("a name deep down", "metadata", {"mine": [{"x": {bad: 1}}]}, "metadata.mine[0].x"),
        ("an unknown field", "unknown", bad, "unknown"),
    ]
}


@pytest.mark.parametrize(("more", "path", "code"), UNSTORABLE.values(), ids=UNSTORABLE.keys())
def test_text_that_cannot_be_stored_is_rejected(api: APIClient, more: dict[str, Any], path: str, code: str) -> None:
    assert_refused_field(post_json(api, body() | more), path, code)


def test_a_top_level_name_that_cannot_be_stored_is_rejected(api: APIClient) -> None:
    for name in ("a\0b", "\ud800"):
        assert_refused_field(post_json(api, body() | {name: 1}), "")


def test_a_pair_of_escaped_surrogates_is_one_character(api: APIClient) -> None:
    assert post_bytes(api, GOOD.replace(b"dragon", rb"\ud83d\udc09")).status_code == 200
    assert GenerationRequest.objects.get().prompt == PROMPT.replace("dragon", "🐉")


NUMBERS: dict[str, bool] = {
    **dict.fromkeys(("0", "-0", "-0.0", "1.5", "1e-400", "1e15", "123456789.125"), True),
    **dict.fromkeys((str(2**63 - 1), str(-(2**63) + 1), "9e18", "5e-324"), True),
    **dict.fromkeys(
        (str(2**63), str(-(2**63)), str(10**400), "9" * 5_000, "-" + "9" * 500_000, "1e19", "1e309", "-1e999"),
        False,
    ),
}


@pytest.mark.parametrize(("number", "accepted"), NUMBERS.items(), ids=[number[:24] for number in NUMBERS])
def test_a_number_is_stored_if_it_fits_64_bits(api: APIClient, number: str, accepted: bool) -> None:
    response = post_bytes(api, _with_metadata(number))
    if accepted:
        assert response.status_code == 200
        shown = api.get(address("status", response.json()["requestId"])).json()
        assert float(shown["metadata"]["x"]) == float(number)
    else:
        assert_refused_field(response, "metadata.x", "max_value")


def test_a_prompt_of_five_thousand_digits_is_rejected(api: APIClient) -> None:
    data = b'{"type": "cover", "prompt": %s}' % (b"9" * 5_000)
    assert_refused_field(post_bytes(api, data), "prompt", "max_value")


@pytest.mark.parametrize("levels", [13, 100, 800])
def test_deep_nesting_is_rejected_although_the_json_parser_reads_it(api: APIClient, levels: int) -> None:
    error = assert_error(post_bytes(api, _with_metadata("[" * levels + "]" * levels)), 400, "validation_error")
    assert error["errors"][0]["code"] == "max_depth"
    assert stored_rows() == NOTHING


def test_a_long_name_does_not_make_a_long_response(api: APIClient) -> None:
    response = post_json(api, body(metadata={"x" * 900_000: "\0"}))
    assert_error(response, 400, "validation_error")
    assert len(response.content) < 1_000


# --- Size and content type of the body --------------------------------------------------------------------------------

MIB = 1024 * 1024


def test_a_body_of_one_mebibyte_is_read(api: APIClient) -> None:
    assert post_bytes(api, _padded_to(MIB)).status_code == 200


@pytest.mark.parametrize("size", [MIB + 1, 3 * MIB], ids=["one byte more", "three times as much"])
@pytest.mark.parametrize("at", [SUBMIT, "/api/token", "/api/token/refresh", "/api/token/verify"])
def test_a_body_larger_than_one_mebibyte_is_rejected(api: APIClient, at: str, size: int) -> None:
    assert_error(post_bytes(api, _padded_to(size), at=at), 413, "body_too_large")
    assert stored_rows() == NOTHING


@pytest.mark.parametrize("claimed", [b"0", b"-1", b"", b"many", b"1.5"], ids=lambda value: value.decode()[:9])
def test_a_wrong_content_length_causes_no_crash(api: APIClient, claimed: bytes) -> None:
    response = api.generic(
        "POST", SUBMIT, GOOD.decode(), content_type="application/json", CONTENT_LENGTH=claimed.decode()
    )
    if response.status_code == 200:
        assert stored_rows() == (1, 1, 1)
    else:
        assert_error(response, 400)
        assert stored_rows() == NOTHING


OTHER_KINDS = [
    *("", "text/plain", "text/json", "application/xml", "application/octet-stream", "image/png", "nonsense"),
    *("application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=x"),
    *("application/jsonx", "application/json-patch+json", "a" * 5_000, "\xe9/\xff", "a/b\0c"),
]


@pytest.mark.parametrize("kind", OTHER_KINDS, ids=lambda kind: repr(kind[:40]))
def test_a_body_of_another_content_type_is_rejected(api: APIClient, kind: str) -> None:
    assert_error(post_bytes(api, GOOD, kind), 415, "unsupported_media_type")
    assert stored_rows() == NOTHING


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=latin-1",
        "application/json; x",
    ],
)
def test_parameters_of_the_content_type_are_ignored(api: APIClient, kind: str) -> None:
    assert post_bytes(api, GOOD.replace(b"dragon", "drágón".encode()), kind).status_code == 200
    assert "drágón" in GenerationRequest.objects.get().prompt


def test_a_body_on_a_get_is_ignored(api: APIClient, alice: User) -> None:
    at = address("status", queued(alice).pk)
    assert api.generic("GET", at, "[" * 20_000, content_type="application/json").status_code == 200


def test_a_very_long_query_causes_no_error(api: APIClient) -> None:
    assert_error(api.get(f"{PREFIX}/nonsense?{'a=b&' * 5_000}"), 404, "not_found")
    assert_error(post_bytes(api, GOOD, at=f"{SUBMIT}?{'a=b&' * 5_000}"), 400, "bad_request")
