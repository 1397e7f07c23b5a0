"""What OpenAI's answers mean: status, headers and body → our code, whether it is tried again, what the client reads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from generation.error_policy import is_retryable
from workers.providers.base import ProviderError
from workers.providers.http import connection_error, retry_after
from workers.providers.openai import size_for, status_error

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


def error(status: int, headers: dict[str, str] | None = None, **said: Any) -> ProviderError:
    return status_error(status, headers or {}, said, model="gpt-image-2")


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
        (404, {}, "invalid_request"),
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
    assert is_retryable(error(status, {"x-should-retry": advice}).code, "") is retried


@pytest.mark.parametrize("said", [{"code": "moderation_blocked"}, {"code": "insufficient_quota"}])
def test_no_advice_makes_a_refusal_or_an_empty_account_worth_another_try(said: dict[str, Any]) -> None:
    assert not is_retryable(error(400, {"x-should-retry": "true"}, **said).code, "")


@pytest.mark.parametrize(
    ("stage", "code", "what"), [("input", "refused_input", "prompt"), ("output", "refused_output", "picture")]
)
def test_a_refusal_says_what_was_refused_and_why(stage: str, code: str, what: str) -> None:
    details = {"moderation_stage": stage, "categories": ["violence", "self-harm/intent"]}
    refusal = error(400, code="moderation_blocked", moderation_details=details)
    assert refusal.code == code
    assert refusal.message == f"OpenAI's safety system refused the {what} (violence, self-harm/intent)"
    assert refusal.detail["stage"] == stage
    assert refusal.detail["categories"] == ["violence", "self-harm/intent"]


@pytest.mark.parametrize("details", [None, "x", [], {"categories": "x"}, {"categories": [None, {}, "a sentence"]}])
def test_a_refusal_without_proper_details_is_still_one(details: Any) -> None:
    refusal = error(400, code="moderation_blocked", moderation_details=details)
    assert (refusal.code, refusal.detail["categories"]) == ("refused_input", [])


@pytest.mark.parametrize("body", [None, "", "<html>502</html>", [], 7, {"code": ["x"], "param": {}, "type": 1}])
def test_a_body_of_any_kind_is_an_error_and_nothing_of_it_is_repeated(body: object) -> None:
    found = status_error(502, {}, body, model="gpt-image-2")
    assert (found.code, found.message) == ("unavailable", "OpenAI is not available at the moment (status 502)")
    assert found.detail == {"status": 502}


def test_the_words_of_the_vendor_are_not_repeated_but_the_name_of_the_parameter_is() -> None:
    found = error(400, message="Bearer sk-secret said: …", param="size", code="invalid_value")
    assert found.message == "OpenAI does not accept the request (status 400: size)"
    assert "sk-secret" not in repr(found.detail)


def test_the_vendors_id_of_the_request_is_kept() -> None:
    assert error(500, {"x-request-id": "req_12"}).provider_request_id == "req_12"
    assert error(500, {"x-request-id": "x" * 500}).provider_request_id == ""


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "abc", "retry-after": "7"}, 7.0),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:31 GMT"}, 31.0),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:31 -0000"}, 31.0),
        ({"retry-after": "Fri, 20 Nov 2026 11:00:00 GMT"}, None),
        ({"retry-after": "Fri, 99 Nov 2026 12:00:31 GMT"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "abc"}, None),
        ({"retry-after": "6m0s"}, None),
        ({"retry-after": "1e9"}, 1e9),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
    ],
)
def test_a_time_to_wait_is_read_in_each_of_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=NOW) == seconds


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (httpx2.ConnectError("x"), "unavailable"),
        (httpx2.ConnectTimeout("x"), "unavailable"),
        (httpx2.PoolTimeout("x"), "unavailable"),
        (httpx2.ProxyError("x"), "unavailable"),
        (httpx2.LocalProtocolError("Illegal header value b'Bearer sk-secret'"), "unavailable"),
        (httpx2.ReadError("x"), "unknown_outcome"),
        (httpx2.WriteError("x"), "unknown_outcome"),
        (httpx2.ReadTimeout("x"), "unknown_outcome"),
        (httpx2.RemoteProtocolError("x"), "unknown_outcome"),
        (None, "unknown_outcome"),
    ],
)
def test_the_outcome_is_unknown_once_something_may_have_been_sent(cause: Exception | None, code: str) -> None:
    found = connection_error("OpenAI", cause)
    assert found.code == code
    assert "sk-secret" not in str(found)


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
        ("somebody-elses", 4096, 1024, "1536x1024"),
    ],
)
def test_the_size_is_the_nearest_that_the_model_can_make(model: str, width: int, height: int, size: str) -> None:
    assert size_for(model, width, height) == size
