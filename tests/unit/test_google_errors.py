"""What Google's answers mean: status and body → our code, how long to wait, what the client reads, what was counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from workers.providers.base import ImageAnswer, ImageRequest, ProviderError
from workers.providers.google import answer_of, usage_of
from workers.providers.google_errors import status_error

IMAGE = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
REQUEST = ImageRequest(request_id="vga_1", type="cover", subject="x", prompt="x", model="gemini-3.1-flash-image")


NO_MODEL = "models/gemini-9 is not found for API version v1beta, or is not supported for generateContent."


def error(status: int, kind: str = "", *details: dict[str, Any], message: str = "x") -> ProviderError:
    said = {"error": {"code": status, "status": kind, "message": message, "details": list(details)}}
    return status_error(status, {}, json.dumps(said).encode())


def reason(name: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": name}


def quota(*names: str) -> dict[str, Any]:
    violations = [{"quotaMetric": "requests", "quotaId": name} for name in names]
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations}


PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel"
PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"


@pytest.mark.parametrize(
    ("status", "kind", "details", "code"),
    [
        (400, "INVALID_ARGUMENT", [], "invalid_request"),
        (400, "INVALID_ARGUMENT", [reason("API_KEY_INVALID")], "auth"),
        (400, "FAILED_PRECONDITION", [], "auth"),
        (401, "UNAUTHENTICATED", [], "auth"),
        (403, "PERMISSION_DENIED", [], "auth"),
        (403, "PERMISSION_DENIED", [reason("BILLING_DISABLED")], "quota_exhausted"),
        (404, "NOT_FOUND", [], "unavailable"),
        (404, "", [], "unavailable"),
        (408, "", [], "unavailable"),
        (409, "ABORTED", [], "unavailable"),
        (429, "RESOURCE_EXHAUSTED", [], "rate_limited"),
        (429, "RESOURCE_EXHAUSTED", [quota(PER_MINUTE)], "rate_limited"),
        (429, "RESOURCE_EXHAUSTED", [quota(PER_DAY)], "quota_exhausted"),
        (429, "RESOURCE_EXHAUSTED", [quota(PER_MINUTE, PER_DAY)], "quota_exhausted"),
        (429, "RESOURCE_EXHAUSTED", [{"metadata": {"quota_limit": "RequestsPerDay"}}], "quota_exhausted"),
        (499, "CANCELLED", [], "unknown_outcome"),
        (500, "INTERNAL", [], "unavailable"),
        (503, "UNAVAILABLE", [], "unavailable"),
        (504, "DEADLINE_EXCEEDED", [], "unknown_outcome"),
        (504, "", [], "unknown_outcome"),
        (524, "", [], "unknown_outcome"),
        (301, "", [], "invalid_request"),
    ],
)
def test_a_status_and_its_details_become_our_code(
    status: int, kind: str, details: list[dict[str, Any]], code: str
) -> None:
    assert error(status, kind, *details).code == code


@pytest.mark.parametrize(
    ("status", "kind", "details", "message", "code", "scope"),
    [
        (404, "NOT_FOUND", [], NO_MODEL, "model_retired", "model"),
        (404, "NOT_FOUND", [], "Publisher Model `projects/p/models/gemini-9` was not found", "model_retired", "model"),
        (404, "NOT_FOUND", [], "Requested entity was not found.", "unavailable", "request"),
        (403, "PERMISSION_DENIED", [], "Project p is not allowed to use models/gemini-9", "auth", "model"),
        (
            403,
            "PERMISSION_DENIED",
            [reason("IAM_PERMISSION_DENIED")],
            "Permission denied on resource publishers/google/models/gemini-9",
            "auth",
            "provider",
        ),
        (403, "PERMISSION_DENIED", [reason("SECURITY_POLICY_VIOLATED")], "prohibited by policy", "auth", "provider"),
        (403, "", [], "Forbidden", "invalid_request", "request"),
        (400, "INVALID_ARGUMENT", [], "Invalid value at 'generation_config.seed'", "invalid_request", "model"),
        (400, "INVALID_ARGUMENT", [], "Unable to process input", "invalid_request", "request"),
        (400, "INVALID_ARGUMENT", [], "Model does not support image output", "invalid_request", "model"),
        (429, "RESOURCE_EXHAUSTED", [quota(PER_DAY)], "", "quota_exhausted", "model"),
        (429, "RESOURCE_EXHAUSTED", [], "Your prepayment credits are depleted.", "quota_exhausted", "provider"),
    ],
)
def test_an_error_is_about_the_model_only_where_it_says_so(
    status: int, kind: str, details: list[dict[str, Any]], message: str, code: str, scope: str
) -> None:
    found = error(status, kind, *details, message=message)
    assert (found.code, found.scope) == (code, scope)


def test_credit_that_is_used_up_is_known_by_its_sentence_alone() -> None:
    message = "Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing."
    found = error(429, "RESOURCE_EXHAUSTED", message=message)
    assert (found.code, found.message) == ("quota_exhausted", "The quota or credit at Google is used up")


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("31s", 31.0),
        ("0.5s", 0.5),
        ("26.123456789s", 26.123456789),
        ("0s", None),
        ("-3s", None),
        ("31", None),
        ("6m0s", None),
        ("1e9s", None),
        ("soon", None),
        (31, None),
        (None, None),
    ],
)
def test_the_time_to_wait_is_in_the_details(said: object, seconds: float | None) -> None:
    assert error(429, "RESOURCE_EXHAUSTED", {"retryDelay": said}).retry_after == seconds


def test_a_header_says_how_long_to_wait_where_the_details_do_not() -> None:
    assert status_error(503, {"retry-after": "7"}, b"").retry_after == 7.0


def test_errors_that_come_in_a_list_are_read_as_well() -> None:
    said = [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [quota(PER_DAY)]}}]
    assert status_error(429, {}, json.dumps(said).encode()).code == "quota_exhausted"


def test_the_vendors_words_are_not_repeated_except_the_field_name() -> None:
    field = {"fieldViolations": [{"field": "generation_config.image_config.aspect_ratio", "description": "secret"}]}
    found = error(400, "INVALID_ARGUMENT", field, message="Bearer secret said: …")
    assert found.message.endswith("(status 400: generation_config.image_config.aspect_ratio)")
    assert "secret" not in repr(vars(found))


# --- Answers with status 200 ------------------------------------------------------------------------------------------


def refusal(said: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        answer_of(said, REQUEST, {})
    return caught.value


@pytest.mark.parametrize(
    "finish",
    [
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "SAFETY", "PROHIBITED_CONTENT"),
        *("RECITATION", "BLOCKLIST", "SPII", "MODEL_ARMOR"),
    ],
)
def test_a_safety_finish_refuses_the_image_even_if_there_is_one(finish: str) -> None:
    found = refusal({"candidates": [{"finishReason": finish, "content": {"parts": [IMAGE]}}]})
    assert (found.code, found.detail["stage"], found.detail["categories"]) == ("refused_output", "output", [finish])
    assert finish in found.message


@pytest.mark.parametrize("blocked", ["SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "IMAGE_SAFETY", "OTHER", "NEW_ONE"])
def test_a_blocked_prompt_is_a_refusal_of_the_input(blocked: str) -> None:
    found = refusal({"promptFeedback": {"blockReason": blocked}})
    assert (found.code, found.detail["stage"], found.detail["categories"]) == ("refused_input", "input", [blocked])


def test_the_categories_are_those_that_were_to_blame() -> None:
    ratings = [
        {"category": "HARM_CATEGORY_HARASSMENT", "blocked": False},
        {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "blocked": True},
        {"category": "a sentence of theirs", "blocked": True},
        {"blocked": True},
        None,
    ]
    found = refusal({"promptFeedback": {"blockReason": "SAFETY", "safetyRatings": ratings}})
    assert found.detail["categories"] == ["HARM_CATEGORY_DANGEROUS_CONTENT"]
    assert found.detail["reason"] == "SAFETY"


@pytest.mark.parametrize(
    ("finish", "code"),
    [
        *((name, "empty_result") for name in ("NO_IMAGE", "IMAGE_OTHER", "OTHER", "STOP", "MAX_TOKENS", "NEW_ONE")),
        ("LANGUAGE", "invalid_request"),
        ("PUP_LIMITED_DISABLED", "auth"),
    ],
)
def test_any_other_finish_without_an_image_is_no_refusal(finish: str, code: str) -> None:
    found = refusal({"candidates": [{"finishReason": finish, "content": {"parts": [{"text": "I cannot draw"}]}}]})
    assert (found.code, found.detail) == (code, {"reason": finish})
    assert "I cannot" not in found.message


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"candidates": [{"finish_reason": "IMAGE_SAFETY"}]}, "refused_output"),
        ({"candidates": [{"finishReason": "IMAGE_UNSAFE"}]}, "refused_output"),
        (
            {"candidates": [{"finishReason": "IMAGE_OTHER", "finishMessage": "It violates our policies"}]},
            "refused_input",
        ),
        ({"candidates": [{"content": {"parts": [{"text": "This goes against content policies."}]}}]}, "refused_input"),
        ({"prompt_feedback": {"block_reason": "SAFETY"}}, "refused_input"),
        ([{"promptFeedback": {"blockReason": "SAFETY"}}], "refused_input"),
        ({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "unsafe content"}}, "refused_input"),
        ({"candidates": [{"content": {"parts": [{"fileData": {"fileUri": "gs://x"}}]}}]}, "invalid_image"),
        ({"error": {"code": 429, "message": "x"}}, "rate_limited"),
        ({"error": {"status": "RESOURCE_EXHAUSTED", "message": "x"}}, "rate_limited"),
        ({"error": {"status": "UNAVAILABLE", "message": "x"}}, "unavailable"),
        ({"error": {"status": "CANCELLED", "message": "x"}}, "unknown_outcome"),
        ({"error": {"message": "x"}}, "invalid_request"),
        ({"error": "x"}, "invalid_request"),
    ],
)
def test_a_200_without_an_image_says_why(said: Any, code: str) -> None:
    assert refusal(said).code == code


@pytest.mark.parametrize(
    "said",
    [
        *({}, {"candidates": []}, {"candidates": None}, {"candidates": [None]}, {"candidates": [{"content": 1}]}),
        {"candidates": [{"content": {"parts": [None, {"inlineData": 1}, {"inlineData": {"data": ""}}]}}]},
        {"candidates": [{"content": {"parts": [IMAGE | {"thought": True}]}}]},
        {"promptFeedback": {"blockReason": None}},
    ],
)
def test_an_answer_of_any_shape_without_an_image_is_empty(said: dict[str, Any]) -> None:
    assert refusal(said).code == "empty_result"


@pytest.mark.parametrize("data", ["%%%", 7, ["AAAA"], "ÄÖÜ"])
def test_an_image_that_is_not_base64_is_invalid(data: object) -> None:
    part = {"inlineData": {"mimeType": "image/png", "data": data}}
    assert refusal({"candidates": [{"content": {"parts": [part]}}]}).code == "invalid_image"


def test_the_final_image_is_taken_and_not_the_draft() -> None:
    sketch = {"inlineData": {"mimeType": "image/png", "data": "BBBB"}, "thought": True}
    parts = [sketch, {"text": "Here it is"}, IMAGE]
    answer = answer_of({"candidates": [{"content": {"parts": parts}}], "responseId": "r1"}, REQUEST, {})
    assert isinstance(answer, ImageAnswer)
    assert (answer.data, answer.content_type, answer.provider_request_id) == (b"\0\0\0", "image/png", "r1")


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({}, {}),
        (None, {}),
        (
            {"promptTokenCount": 9, "candidatesTokenCount": 1290, "totalTokenCount": 1299},
            {"input_text": 9, "output_image": 1290},
        ),
        (
            {
                "promptTokenCount": 267,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 9},
                    {"modality": "IMAGE", "tokenCount": 258},
                ],
                "candidatesTokenCount": 1300,
                "candidatesTokensDetails": [
                    {"modality": "IMAGE", "tokenCount": 1290},
                    {"modality": "TEXT", "tokenCount": 10},
                ],
                "thoughtsTokenCount": 5,
            },
            {"input_text": 9, "input_image": 258, "output_text": 15, "output_image": 1290},
        ),
        ({"promptTokenCount": -1, "candidatesTokenCount": "many", "thoughtsTokenCount": True}, {}),
    ],
)
def test_calls_are_recorded_by_kind(usage: object, counted: dict[str, int]) -> None:
    assert usage_of({"usageMetadata": usage}) == {"images": 1} | counted
