"""What Stability's answers over REST mean: status, headers and body → our code, and what the client reads."""

from __future__ import annotations

import json

import pytest

from workers.providers.base import ProviderError
from workers.providers.stability import bearer, endpoint, status_error

ID = "0123456789abcdef0123456789abcdef"


def error(status: int, name: str = "", *errors: object, **headers: str) -> ProviderError:
    body = json.dumps({"id": ID, "name": name, "errors": errors}).encode()
    return status_error(status, headers, body, model="core")


@pytest.mark.parametrize(
    ("status", "name", "errors", "code"),
    [
        (400, "bad_request", ["aspect_ratio: must be one of 1:1"], "invalid_request:model"),
        (400, "bad_request", ["prompt: is required"], "invalid_request"),
        (400, "invalid_prompts", ["One or more prompts contains filtered words."], "refused_input"),
        (400, "content_filtered", [], "refused_input"),
        (422, "unprocessable_entity", ["prompt: violates our acceptable use policy"], "refused_input"),
        (400, "bad_request", ["model: must be one of sd3.5-large"], "model_retired"),
        (400, "bad_request", [], "invalid_request"),
        (401, "unauthorized", [], "auth"),
        (402, "payment_required", [], "quota_exhausted"),
        (403, "content_moderation", ["Your request was flagged"], "refused_input"),
        (403, "permission_denied", [], "auth:provider"),
        (403, "", [], "auth:provider"),
        (403, "permission_denied", ["You do not have access to the model sd3.5-large"], "auth:model"),
        (404, "not_found", [], "model_retired:model"),
        (410, "gone", [], "model_retired:model"),
        (408, "", [], "unavailable"),
        (413, "content_too_large", [], "invalid_request:model"),
        (422, "unprocessable_entity", ["model: of no use"], "invalid_request:model"),
        (429, "rate_limit_exceeded", [], "rate_limited"),
        (500, "internal_error", [], "unavailable"),
        (502, "", [], "unavailable"),
        (503, "", [], "unavailable"),
        (520, "", [], "unavailable"),
        (504, "", [], "unknown_outcome"),
        (524, "", [], "unknown_outcome"),
        (500, "internal_error", ["the call timed out"], "unknown_outcome"),
        (405, "method_not_allowed", [], "unavailable:request"),
        (301, "", [], "invalid_request"),
        (204, "", [], "invalid_request"),
    ],
)
def test_a_status_and_the_name_in_the_body_become_our_code(
    status: int, name: str, errors: list[str], code: str
) -> None:
    found = error(status, name, *errors)
    assert f"{found.code}:{found.scope}".startswith(code)
    assert found.detail["status"] == status
    assert found.detail.get("name", "") == name


@pytest.mark.parametrize("errors", [["Sorry, sk-secret"], [{"sk-secret": 1}], ["sk-secret: is wrong"], ["SEED: x"]])
def test_of_the_vendors_words_nothing_is_repeated_but_the_name_of_a_field(errors: list[object]) -> None:
    found = error(400, "a sentence with sk-secret", *errors)
    assert found.message == "Stability does not accept the request (status 400)"
    assert found.detail == {"status": 400}


def test_a_refusal_says_what_was_refused() -> None:
    found = error(403, "content_moderation")
    assert (found.detail["stage"], found.detail["categories"]) == ("input", [])
    assert found.message == "Stability's safety system refused the prompt"


def test_the_id_of_the_error_stands_in_for_that_of_the_request() -> None:
    assert error(500).provider_request_id == ID
    assert error(500, **{"x-request-id": "req-1"}).provider_request_id == "req-1"


def test_a_time_to_wait_is_kept_where_a_proxy_adds_one() -> None:
    assert error(429).retry_after is None
    assert error(429, **{"retry-after": "10"}).retry_after == 10


def test_every_model_of_the_sd3_family_shares_one_address() -> None:
    assert [endpoint(model) for model in ("core", "ultra", "sd3.5-large", "sd3.6-next")] == [
        "core",
        "ultra",
        "sd3",
        "sd3",
    ]


def test_a_key_that_no_header_can_carry_is_not_repeated() -> None:
    with pytest.raises(ProviderError) as caught:
        bearer("sk-secret\r\nx: y")
    assert (caught.value.code, "sk-secret" in str(caught.value)) == ("auth", False)
