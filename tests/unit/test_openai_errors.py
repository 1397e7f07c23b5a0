"""What OpenAI's answers mean: status, headers and body → our code, whether it is tried again, what the client reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from workers.providers.base import ProviderError
from workers.providers.openai import size_for
from workers.providers.openai_errors import error_in, refusal_in, status_error


def error(status: int, headers: dict[str, str] | None = None, **said: Any) -> ProviderError:
    return judged(status, {"error": said or {"type": "x"}}, headers)


def judged(status: int, body: object, headers: dict[str, str] | None = None) -> ProviderError:
    return status_error(status, headers or {}, json.dumps(body).encode(), model="gpt-image-2")


@pytest.mark.parametrize(
    ("status", "said", "code"),
    [
        (400, {"code": "invalid_value", "param": "size"}, "invalid_request"),
        (422, {}, "invalid_request"),
        (413, {}, "invalid_request"),
        (301, {}, "invalid_request"),
        (401, {"code": "invalid_api_key"}, "auth"),
        (403, {"code": "unsupported_country_region_territory"}, "auth"),
        (404, {"code": "model_not_found"}, "model_retired"),
        (404, {"param": "model"}, "model_retired"),
        (400, {"code": "invalid_value", "param": "model"}, "model_retired"),
        (404, {}, "unavailable"),
        (408, {}, "unavailable"),
        (409, {}, "unavailable"),
        (429, {"code": "rate_limit_exceeded"}, "rate_limited"),
        (429, {"code": "insufficient_quota"}, "quota_exhausted"),
        (429, {"type": "insufficient_quota"}, "quota_exhausted"),
        (400, {"code": "billing_hard_limit_reached"}, "quota_exhausted"),
        (500, {"type": "server_error"}, "unavailable"),
        (502, {}, "unavailable"),
        (503, {}, "unavailable"),
        (520, {}, "unavailable"),
        (504, {}, "unknown_outcome"),
        (524, {}, "unknown_outcome"),
        (499, {}, "unknown_outcome"),
        (408, {"message": "litellm.Timeout: APITimeoutError - Request timed out."}, "unknown_outcome"),
        (503, {"message": "upstream connect error: connection timeout"}, "unavailable"),
        (402, {"message": "Insufficient credits"}, "quota_exhausted"),
    ],
)
def test_a_status_and_the_code_in_the_body_become_our_code(status: int, said: dict[str, Any], code: str) -> None:
    assert error(status, **said).code == code


@pytest.mark.parametrize(
    ("status", "advice", "retried"),
    [
        (500, "false", False),
        (409, "false", False),
        (429, "false", False),
        (500, "true", True),
        (400, "true", True),
        (400, "maybe", False),
    ],
)
def test_its_advice_on_trying_again_counts_for_more_than_the_status(status: int, advice: str, retried: bool) -> None:
    assert error(status, {"x-should-retry": advice}).retryable is retried


@pytest.mark.parametrize("said", [{"code": "moderation_blocked"}, {"code": "insufficient_quota"}])
def test_no_advice_makes_a_refusal_or_an_empty_account_worth_another_try(said: dict[str, Any]) -> None:
    assert not error(400, {"x-should-retry": "true"}, **said).retryable


@pytest.mark.parametrize(
    ("stage", "code", "what"), [("input", "refused_input", "prompt"), ("output", "refused_output", "image")]
)
def test_a_refusal_says_what_was_refused_and_why(stage: str, code: str, what: str) -> None:
    details = {"moderation_stage": stage, "categories": ["violence", "self-harm/intent"]}
    refusal = error(400, code="moderation_blocked", moderation_details=details)
    assert refusal.code == code
    assert refusal.message == f"OpenAI's safety system refused the {what} (violence, self-harm/intent)"
    assert refusal.detail["stage"] == stage
    assert refusal.detail["categories"] == ["violence", "self-harm/intent"]


@pytest.mark.parametrize("details", [None, "x", [], {"categories": 7}, {"categories": [None, {}, "a sentence"]}])
def test_a_refusal_without_proper_details_is_still_one(details: Any) -> None:
    refusal = error(400, code="moderation_blocked", moderation_details=details)
    assert (refusal.code, refusal.detail["categories"]) == ("refused_input", [])


def test_the_vendors_words_are_not_repeated_except_the_parameter_name() -> None:
    found = error(400, message="Bearer sk-secret said: …", param="size", code="invalid_value")
    assert found.message == "OpenAI does not accept the request (status 400: size)"
    assert "sk-secret" not in repr(found.detail)


def test_the_vendors_id_of_the_request_is_kept() -> None:
    assert error(500, {"x-request-id": "req_12"}).provider_request_id == "req_12"
    assert error(500, {"x-request-id": "x" * 500}).provider_request_id == ""


# --- Whose word it is, and what it is about ---------------------------------------------------------------------------

VERIFY = "Your organization must be verified to use the model `gpt-image-2`. Please go to: https://platform.openai.com/"
NO_ACCESS = "Project `proj_1` does not have access to model `gpt-image-2`"


@pytest.mark.parametrize(
    ("status", "body", "code", "scope"),
    [
        (403, {"error": {"message": VERIFY, "type": "invalid_request_error"}}, "auth", "model"),
        (403, {"error": {"message": NO_ACCESS, "code": "model_not_found"}}, "auth", "model"),
        (403, {"error": {"error": {"message": VERIFY, "type": "invalid_request_error"}}}, "auth", "model"),
        (403, {"error": {"message": "x", "code": "unsupported_country_region_territory"}}, "auth", "provider"),
        (
            403,
            {"error": {"message": "Your access was terminated due to violation of our policies"}},
            "auth",
            "provider",
        ),
        (401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}, "auth", "provider"),
        (401, {"error": "Invalid API key"}, "auth", "provider"),
        (401, {"error": {"error": {"message": "No such key"}}}, "auth", "provider"),
        (401, {"detail": "Not authenticated"}, "auth", "provider"),
        (
            401,
            {"message": "Invalid key", "type": "invalid_request_error", "code": "invalid_api_key"},
            "auth",
            "provider",
        ),
        (401, {"message": "Unauthorized"}, "invalid_request", "request"),
        (403, {"message": "Forbidden"}, "invalid_request", "request"),
        (403, {"error": "Forbidden"}, "invalid_request", "request"),
        (403, {"error": {"message": "Forbidden", "code": 403}}, "invalid_request", "request"),
        (403, {"error": {"message": "Access denied", "code": "ACCESS_DENIED"}}, "invalid_request", "request"),
        (401, {"title": "Unauthorized", "status": 401, "detail": "x"}, "invalid_request", "request"),
        (402, {"message": "Payment Required"}, "invalid_request", "request"),
        (404, {"message": "Not Found"}, "unavailable", "request"),
        (405, {"detail": "Method Not Allowed"}, "unavailable", "request"),
        (404, {"error": {"message": "Invalid URL", "type": "invalid_request_error"}}, "unavailable", "request"),
        (404, {"error": {"code": "DeploymentNotFound", "message": "x"}}, "model_retired", "model"),
        (400, {"error": {"message": "This size is not supported", "code": 400}}, "invalid_request", "model"),
        (404, {"error": "model 'x' not found, try pulling it first"}, "model_retired", "model"),
        (404, {"error": {"message": "The model `x` does not exist", "code": 404}}, "model_retired", "model"),
        (400, {"error": {"message": "x", "code": "invalid_value", "param": "size"}}, "invalid_request", "model"),
        (422, {"detail": [{"loc": ["body", "quality"], "msg": "x", "type": "enum"}]}, "invalid_request", "model"),
        (
            400,
            {"error": {"message": "x", "code": "string_above_max_length", "param": "prompt"}},
            "invalid_request",
            "model",
        ),
        (400, {"error": {"message": "Bad request", "type": "invalid_request_error"}}, "invalid_request", "request"),
        (400, {"error": {"message": "x", "param": "prompt"}}, "invalid_request", "request"),
        (422, {"detail": "cannot be processed"}, "invalid_request", "request"),
        (429, {"message": "Too many requests"}, "rate_limited", "provider"),
        (503, {"message": "no healthy upstream"}, "unavailable", "provider"),
    ],
)
def test_an_error_says_no_more_than_its_shape_and_words_do(status: int, body: object, code: str, scope: str) -> None:
    found = judged(status, body)
    assert (found.code, found.scope) == (code, scope)


def test_a_fault_that_is_not_to_be_repeated_may_go_to_another_provider() -> None:
    found = error(503, {"x-should-retry": "false"})
    assert (found.code, found.scope) == ("invalid_request", "model")


# --- Errors in an answer with status 200 ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"error": {"code": 429}}, "rate_limited"),
        ({"error": {"code": "429", "message": "x"}}, "rate_limited"),
        ({"error": {"code": "rate_limit_exceeded"}}, "rate_limited"),
        ({"error": {"type": "RateLimitError", "message": "x"}}, "rate_limited"),
        ({"error": "Rate limit exceeded"}, "rate_limited"),
        ({"code": 429, "message": "slow down"}, "rate_limited"),
        ({"data": [{"error": {"code": 429, "message": "x"}}]}, "rate_limited"),
        ({"error": {"error": {"code": 503, "message": "x"}}}, "unavailable"),
        ({"error": {"code": "insufficient_quota", "message": "x"}}, "quota_exhausted"),
        ({"error": {"code": "invalid_api_key", "message": "x"}}, "auth"),
        ({"error": {"code": "model_not_found", "message": "x"}}, "model_retired"),
        ({"error": {"type": "server_error", "message": "x"}}, "unavailable"),
        ({"error": {"message": "The request timed out"}}, "unknown_outcome"),
        ({"error": {"status": 504, "message": "x"}}, "unknown_outcome"),
        ({"error": {"code": "content_policy_violation"}}, "refused_input"),
        ({"error": {"code": "moderation_blocked"}, "data": []}, "refused_input"),
        ({"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}, "invalid_request"),
        ({"error": {"message": "something went wrong"}}, "invalid_request"),
        ({"error": "nope", "data": None}, "invalid_request"),
        ({"detail": "nope"}, "invalid_request"),
    ],
)
def test_an_error_in_a_200_is_judged_by_the_status_that_it_means(answer: dict[str, Any], code: str) -> None:
    refusal = refusal_in(answer)
    found = error_in(answer, {}, model="gpt-image-2")
    assert found is not None
    assert found.code == code
    assert bool(refusal) == code.startswith("refused")


@pytest.mark.parametrize(
    "answer", [{}, {"data": []}, {"error": None, "data": []}, {"created": 1, "data": [{"revised_prompt": "x"}]}]
)
def test_an_answer_without_an_error_has_none(answer: dict[str, Any]) -> None:
    assert error_in(answer, {}, model="gpt-image-2") is None
    assert refusal_in(answer) is None


def test_an_entry_that_was_held_back_is_a_refusal() -> None:
    assert refusal_in({"data": [{"b64_json": "", "finish_reason": "CONTENT_FILTERED"}]})
    assert refusal_in({"data": [{"b64_json": "AAAA", "finish_reason": "stop"}]}) is None
    ratings = {"violence": {"filtered": True, "severity": "high"}, "hate": {"filtered": False, "severity": "safe"}}
    found = refusal_in({"data": [{"content_filter_results": ratings}]})
    assert found is not None
    assert list(found.categories) == ["violence"]
    assert refusal_in({"data": [{"content_filter_results": {"hate": {"filtered": False}}}]}) is None
    # The filter itself was out of order, and let the image pass.
    failed = {"error": {"code": "content_filter_error", "message": "The contents are not filtered"}}
    assert refusal_in({"data": [{"b64_json": "AAAA", "content_filter_results": failed}]}) is None


# --- What else the adapter decides -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "width", "height", "size"),
    [
        ("gpt-image-2", 1824, 1024, "1824x1024"),
        ("gpt-image-2-2026-04-21", 1024, 1536, "1024x1536"),
        ("gpt-image-2.5-flare", 1824, 1024, "1824x1024"),
        ("gpt-image-2", 4096, 1024, "3072x1024"),
        ("gpt-image-2", 1024, 4096, "1024x3072"),
        ("gpt-image-2.6-flare", 1824, 1024, "1536x1024"),
        ("gpt-image-1.5", 1024, 1024, "1024x1024"),
        ("gpt-image-1.5", 1152, 1024, "1024x1024"),
        ("gpt-image-1.5", 1360, 1024, "1536x1024"),
        ("gpt-image-1.5", 1024, 1824, "1024x1536"),
        ("another-servers", 4096, 1024, "1536x1024"),
    ],
)
def test_the_size_is_the_nearest_that_the_model_can_make(model: str, width: int, height: int, size: str) -> None:
    assert size_for(model, width, height) == size
