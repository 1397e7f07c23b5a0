"""Options that no configured model supports: rejected before queueing, with the path of the option."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from rest_framework.test import APIClient

from generation import caching
from generation.models import GenerationBatch, GenerationRequest, ProviderModel
from tests.api.helpers import (
    BATCH,
    NOTHING,
    assert_error,
    assert_refused_field,
    batch_body,
    body,
    post_json,
    stored_rows,
)

UNSUPPORTED = "unsupported"


def configured(settings: Any, *providers: str) -> None:
    settings.PROVIDERS = list(providers)
    caching.clear_all()


@pytest.mark.parametrize(
    ("providers", "option", "value"),
    [
        (["openai"], "seed", 7),
        (["openai"], "seed", 0),
        (["openai"], "negativePrompt", "no cats"),
        (["stability"], "aspectRatio", "3:4"),
        (["stability"], "resolution", "2K"),
        (["google"], "negativePrompt", "no cats"),
        (["google"], "outputFormat", "webp"),
        (["openai", "google"], "negativePrompt", "no cats"),
        (["clipart"], "model", "gpt-image-2"),
        (["openai"], "model", "gpt-image-99"),
        (["openai", "stability"], "model", "openmoji-17"),
    ],
)
def test_an_unsupported_option_is_rejected_before_queueing(
    api: APIClient, settings: Any, providers: list[str], option: str, value: Any
) -> None:
    configured(settings, *providers)
    assert_refused_field(post_json(api, body(metadata={option: value})), f"metadata.{option}", UNSUPPORTED)


def test_it_is_enough_that_one_provider_supports_the_option(api: APIClient, settings: Any) -> None:
    configured(settings, "openai", "stability")
    assert post_json(api, body(metadata={"seed": 7})).status_code == 200
    assert stored_rows() == (1, 1, 1)


def test_a_named_provider_must_support_the_option_itself(api: APIClient, settings: Any) -> None:
    configured(settings, "openai", "clipart")
    assert_refused_field(
        post_json(api, body(metadata={"seed": 7, "model": "gpt-image-2"})), "metadata.seed", UNSUPPORTED
    )


@pytest.mark.parametrize("provider", ["unknown", "openai", "stability-grpc"])
def test_a_provider_that_is_not_configured_is_rejected(api: APIClient, provider: str) -> None:
    assert_refused_field(post_json(api, body(metadata={"provider": provider})), "metadata.provider", "invalid_choice")


def test_the_error_names_the_provider_and_the_unsupported_option(api: APIClient, settings: Any) -> None:
    configured(settings, "openai")
    error = assert_error(post_json(api, body(metadata={"seed": 7})), 400, "validation_error")
    assert error["errors"][0]["msg"] == "openai gpt-image-2 does not support seed."


def test_an_unsupported_request_of_a_batch_is_named_by_its_index(api: APIClient, settings: Any) -> None:
    configured(settings, "openai")
    data = batch_body(5)
    data["requests"][3]["metadata"] = {"seed": 7}
    error = assert_error(post_json(api, data, at=BATCH), 400, "validation_error")
    assert [(fault["path"], fault["code"]) for fault in error["errors"]] == [("requests[3].metadata.seed", UNSUPPORTED)]
    assert stored_rows() == NOTHING
    assert not GenerationBatch.objects.exists()


def test_an_invalid_prompt_and_an_unsupported_option_are_both_named(api: APIClient, settings: Any) -> None:
    configured(settings, "openai")
    error = assert_error(post_json(api, body(prompt="short", metadata={"seed": 7})), 400, "validation_error")
    assert {fault["path"]: fault["code"] for fault in error["errors"]} == {
        "prompt": "min_length",
        "metadata.seed": UNSUPPORTED,
    }


@pytest.mark.parametrize("data", [body(), body(metadata={}), body(metadata={"mine": 1})])
def test_a_submit_without_a_usable_model_is_rejected_not_a_server_error(api: APIClient, data: Any) -> None:
    ProviderModel.objects.update(enabled=False)
    caching.clear_all()
    assert_refused_field(post_json(api, data), "metadata.provider", UNSUPPORTED)


def test_the_estimated_cost_is_stored_with_the_request(api: APIClient, settings: Any) -> None:
    configured(settings, "openai")
    assert post_json(api, body(metadata={"quality": "high"})).status_code == 200
    assert GenerationRequest.objects.get().estimated_cost == Decimal("0.211")
