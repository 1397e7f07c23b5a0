"""Refusals in the spellings of vendors, their SDKs and gateways, and errors that only sound like one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from workers.providers import google_errors, openai_errors, stability
from workers.providers.base import ProviderError

MODEL: Final = "gpt-image-2"
BY_SAFETY: Final = (
    "Your request was rejected as a result of our safety system. Your prompt may contain text that's not allowed."
)
BY_AZURE: Final = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. "
    "Please modify your prompt and retry."
)
BY_VERTEX: Final = (
    "The prompt could not be submitted. This prompt contains sensitive words that violate Google's Responsible AI "
    "practices. Try rephrasing the prompt."
)


def openai(status: int, body: object) -> ProviderError:
    return openai_errors.status_error(status, {}, json.dumps(body).encode(), model=MODEL)


def stability_rest(status: int, body: object) -> ProviderError:
    return stability.status_error(status, {}, json.dumps(body).encode(), model="core")


def google(status: int, body: object) -> ProviderError:
    return google_errors.status_error(status, {}, json.dumps(body).encode())


def azure(**inner: Any) -> dict[str, Any]:
    ratings = {"hate": {"filtered": False, "severity": "safe"}, "violence": {"filtered": True, "severity": "medium"}}
    return {"code": "ResponsibleAIPolicyViolation", "content_filter_result": ratings, **inner}


def google_body(message: str = "x", *details: dict[str, Any], kind: str = "INVALID_ARGUMENT") -> dict[str, Any]:
    return {"error": {"code": 400, "status": kind, "message": message, "details": list(details)}}


OPENAI: Final[list[tuple[int, object]]] = [
    *(
        (400, {"error": {"message": "x", "code": code, "type": "invalid_request_error"}})
        for code in (
            *("content_policy_violation", "moderation_blocked", "content_filter", "contentFilter", "safety_violation"),
            *("image_content_policy_violation", "ContentPolicyViolation", "prompt_blocked", "PROHIBITED_CONTENT"),
            *(
                "DataInspectionFailed",
                "InputTextSensitiveContentDetected",
                "unsafe_content",
                "GUARDRAIL_INTERVENED",
                "PromptModerationError",
            ),
        )
    ),
    (400, {"error": {"message": "x", "type": "image_generation_user_error"}}),
    (400, {"error": {"message": "x", "type": "image_generation_user_error", "code": None, "param": None}}),
    (400, {"error": {"message": BY_SAFETY, "type": "invalid_request_error", "code": None}}),
    (400, {"error": {"message": "Your request was rejected by the safety system. safety_violations=[sexual]."}}),
    (400, {"error": {"message": BY_AZURE, "code": "content_filter", "param": "prompt", "innererror": azure()}}),
    (400, {"error": {"message": "x", "code": "BadRequest", "inner_error": azure()}}),
    (400, {"error": {"error": {"code": "content_policy_violation", "message": "x"}}}),
    (400, [{"error": {"code": "content_policy_violation", "message": "x"}}]),
    (400, {"error": BY_SAFETY}),
    (400, {"error": {"message": json.dumps({"error": {"code": "moderation_blocked", "message": "x"}})}}),
    (400, {"detail": BY_SAFETY}),
    (400, {"detail": {"code": "content_policy_violation", "message": "x"}}),
    (400, {"code": "content_policy_violation", "message": "x", "type": "invalid_request_error"}),
    (403, {"message": BY_SAFETY}),
    (400, BY_SAFETY),
    (422, {"error": {"message": "The prompt was flagged as potentially violating our usage policy."}}),
    (
        400,
        {
            "error": {
                "message": "litellm.BadRequestError: litellm.ContentPolicyViolationError: AzureException",
                "code": 400,
            }
        },
    ),
    (500, {"error": {"message": "litellm.ContentPolicyViolationError: OpenAIException", "type": None, "code": "500"}}),
    (
        403,
        {
            "error": {
                "code": 403,
                "message": "Input flagged",
                "metadata": {"reasons": ["violence"], "flagged_input": "a dragon", "provider_name": "x"},
            }
        },
    ),
    (
        400,
        {
            "error": {
                "code": 400,
                "message": "Provider returned error",
                "metadata": {"raw": json.dumps({"error": {"code": "moderation_blocked", "message": "x"}})},
            }
        },
    ),
]
STABILITY: Final[list[tuple[int, object]]] = [
    (403, {"id": "1", "name": "content_moderation", "errors": ["Your request was flagged by our content moderation"]}),
    (403, {"id": "1", "name": "forbidden", "errors": ["Your request was flagged by our content moderation system"]}),
    (400, {"id": "1", "name": "invalid_prompts", "message": "One or more prompts contains filtered words."}),
    (400, {"id": "1", "name": "bad_request", "errors": ["prompt: contains disallowed content"]}),
    (422, {"id": "1", "name": "CONTENT_FILTERED", "errors": []}),
    (400, {"name": "content-moderation"}),
    (403, {"error": {"code": "content_policy_violation"}}),
]
GOOGLE: Final[list[tuple[int, object]]] = [
    *(
        (400, google_body("x", {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}))
        for reason in (
            "UNSAFE_GENERATION",
            "IMAGE_SAFETY",
            "PROMPT_BLOCKED",
            "CONTENT_POLICY",
            "PROHIBITED_CONTENT",
            "SAFETY",
        )
    ),
    (400, google_body(BY_VERTEX)),
    (400, google_body("The prompt violates our generative AI policies")),
    (400, google_body("Your current safety filter threshold prohibited one or more words in this prompt.")),
    (400, google_body("All images were filtered out because they violated Vertex AI's usage guidelines.")),
    (400, google_body("x", kind="SAFETY")),
    (400, google_body("x", {"fieldViolations": [{"field": "contents", "description": "contains unsafe content"}]})),
    (400, [google_body(BY_VERTEX)]),
    (
        403,
        {
            "error": {
                "code": 403,
                "status": "PERMISSION_DENIED",
                "message": "The prompt was blocked by the safety filter",
            }
        },
    ),
]


@pytest.mark.parametrize(
    ("judge", "status", "body"),
    [
        *((openai, *case) for case in OPENAI),
        *((stability_rest, *case) for case in STABILITY),
        *((google, *case) for case in GOOGLE),
    ],
)
def test_a_refusal_is_known_in_every_spelling(
    judge: Callable[[int, object], ProviderError], status: int, body: object
) -> None:
    error = judge(status, body)
    assert error.code in {"refused_input", "refused_output"}
    assert error.detail["stage"] in {"input", "output"}
    assert error.detail["status"] == status


@pytest.mark.parametrize("status", [400, 403, 500])
def test_a_refusal_in_plain_text_is_known(status: int) -> None:
    errors = [
        openai_errors.status_error(status, {}, BY_SAFETY.encode(), model=MODEL),
        stability.status_error(status, {"content-type": "text/plain"}, BY_SAFETY.encode(), model="core"),
        google_errors.status_error(status, {}, BY_SAFETY.encode()),
    ]
    assert {error.code for error in errors} == {"refused_input"}


@pytest.mark.parametrize("case", OPENAI)
def test_a_refusal_is_known_whichever_vendor_is_behind_the_gateway(case: tuple[int, object]) -> None:
    status, body = case
    assert google(status, body).code == stability_rest(status, body).code == "refused_input"


@pytest.mark.parametrize(
    ("judge", "status", "body"),
    [
        (openai, 400, {"error": {"message": "Invalid value", "param": "safety_identifier", "code": "invalid_value"}}),
        (openai, 400, {"error": {"message": "Unknown parameter: 'moderation'.", "code": "unknown_parameter"}}),
        (openai, 400, {"error": {"message": "Unknown parameter: 'content_filter'.", "param": "content_filter"}}),
        (openai, 400, {"error": {"message": "x", "type": "image_generation_user_error", "code": "invalid_image_file"}}),
        (openai, 400, {"error": {"message": "Your request was malformed", "type": "invalid_request_error"}}),
        (openai, 401, {"error": {"message": "Your account was flagged for violating our usage policies"}}),
        (openai, 403, {"error": {"message": "Your access was terminated due to violation of our policies"}}),
        (openai, 429, {"error": {"message": "Requests per minute by our usage policy", "code": "rate_limit_exceeded"}}),
        (openai, 503, {"error": {"message": "The content moderation service is temporarily unavailable"}}),
        (openai, 500, {"error": {"message": "x", "code": "moderation_unavailable"}}),
        (openai, 400, {"error": {"message": "x", "flagged": "no", "prompt": "a poster about content policy"}}),
        (google, 400, google_body("x", {"reason": "API_KEY_SERVICE_BLOCKED"})),
        (google, 403, google_body("Requests from referer <empty> are blocked.", kind="PERMISSION_DENIED")),
        (google, 403, google_body("Image requests were blocked.", {"reason": "API_KEY_IP_ADDRESS_BLOCKED"})),
        (openai, 400, {"error": {"message": "The input is case sensitive", "type": "invalid_request_error"}}),
        (google, 403, google_body("x", {"reason": "SECURITY_POLICY_VIOLATED"}, kind="PERMISSION_DENIED")),
        (google, 400, google_body("Invalid value at 'safety_settings[0].category'")),
        (google, 403, google_body("Denied by your organization's policy", kind="PERMISSION_DENIED")),
        (stability_rest, 400, {"name": "bad_request", "errors": ["style_preset: is not allowed"]}),
        (stability_rest, 403, {"name": "permission_denied", "errors": ["Your account is suspended"]}),
        (openai, 502, {"message": "Connection refused by upstream", "code": "ConnectionRefusedError"}),
    ],
)
def test_an_error_that_only_sounds_like_a_refusal_is_none(
    judge: Callable[[int, object], ProviderError], status: int, body: object
) -> None:
    assert not judge(status, body).code.startswith("refused")


@pytest.mark.parametrize(
    ("body", "stage", "categories"),
    [
        ({"error": {"code": "content_filter", "message": BY_AZURE, "innererror": azure()}}, "input", ["violence"]),
        ({"error": {"code": "contentFilter", "message": "Generated image was filtered"}}, "output", []),
        ({"error": {"code": "moderation_blocked", "moderation_details": {"moderation_stage": "output"}}}, "output", []),
        ({"error": {"message": f"{BY_SAFETY} safety_violations=[sexual, violence]"}}, "input", ["sexual", "violence"]),
        ({"error": {"code": "content_policy_violation", "metadata": {"reasons": ["hate"]}}}, "input", ["hate"]),
        ({"error": {"code": "OUTPUT_BLOCKED"}}, "output", []),
    ],
)
def test_a_refusal_says_its_stage_and_categories(body: object, stage: str, categories: list[str]) -> None:
    error = openai(400, body)
    assert (error.code, error.detail["stage"]) == (f"refused_{stage}", stage)
    assert error.detail["categories"] == categories


@pytest.mark.parametrize(
    "body", [[[[]]] * 3, {"a": "x" * 1_000_000}, {"error": {"a": [{"b": i} for i in range(10_000)]}}]
)
def test_the_search_for_a_refusal_is_bounded(body: object) -> None:
    assert openai(400, body).code == "invalid_request"
