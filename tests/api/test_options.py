"""Options that no configured model can honour: refused before anything is queued, with the option's path."""

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
        (["google"], "negativePrompt", "no cats"),
        (["google"], "outputFormat", "webp"),
        (["openai", "google"], "negativePrompt", "no cats"),
        (["clipart"], "model", "gpt-image-2"),
        (["openai"], "model", "gpt-image-99"),
        (["openai", "stability"], "model", "openmoji-17"),
    ],
)
def test_what_nobody_can_honour_is_refused_before_anything_is_queued(
    api: APIClient, settings: Any, providers: list[str], option: str, value: Any
) -> None:
    configured(settings, *providers)
    assert_refused_field(post_json(api, body(metadata={option: value})), f"metadata.{option}", UNSUPPORTED)


def test_it_is_enough_that_one_of_them_can(api: APIClient, settings: Any) -> None:
    configured(settings, "openai", "stability")
    assert post_json(api, body(metadata={"seed": 7})).status_code == 200
    assert stored_rows() == (1, 1, 1)


def test_who_is_named_has_to_be_able_himself(api: APIClient, settings: Any) -> None:
    configured(settings, "openai", "clipart")
    assert_refused_field(
        post_json(api, body(metadata={"seed": 7, "model": "gpt-image-2"})), "metadata.seed", UNSUPPORTED
    )


@pytest.mark.parametrize("provider", ["nobody", "openai", "stability-grpc"])
def test_a_provider_that_is_not_configured_is_refused(api: APIClient, provider: str) -> None:
    assert_refused_field(post_json(api, body(metadata={"provider": provider})), "metadata.provider", "invalid_choice")


def test_the_answer_says_who_does_not_honour_what(api: APIClient, settings: Any) -> None:
    configured(settings, "openai")
    error = assert_error(post_json(api, body(metadata={"seed": 7})), 400, "validation_error")
    assert error["errors"][0]["msg"] == "openai gpt-image-2 does not honour seed."


def test_one_request_of_a_batch_is_named_by_its_place_and_none_is_stored(api: APIClient, settings: Any) -> None:
    configured(settings, "openai")
    data = batch_body(5)
    data["requests"][3]["metadata"] = {"seed": 7}
    error = assert_error(post_json(api, data, at=BATCH), 400, "validation_error")
    assert [(fault["path"], fault["code"]) for fault in error["errors"]] == [("requests[3].metadata.seed", UNSUPPORTED)]
    assert stored_rows() == NOTHING
    assert not GenerationBatch.objects.exists()


def test_a_prompt_and_an_option_that_are_both_refused_are_named_at_once(api: APIClient, settings: Any) -> None:
    configured(settings, "openai")
    error = assert_error(post_json(api, body(prompt="short", metadata={"seed": 7})), 400, "validation_error")
    assert {fault["path"]: fault["code"] for fault in error["errors"]} == {
        "prompt": "min_length",
        "metadata.seed": UNSUPPORTED,
    }


@pytest.mark.parametrize("data", [body(), body(metadata={}), body(metadata={"mine": 1})])
def test_a_submit_is_refused_where_no_model_is_left_and_not_a_fault_of_ours(api: APIClient, data: Any) -> None:
    ProviderModel.objects.update(enabled=False)
    caching.clear_all()
    assert_refused_field(post_json(api, data), "metadata.provider", UNSUPPORTED)


def test_what_the_picture_will_cost_is_kept_with_the_request(api: APIClient, settings: Any) -> None:
    configured(settings, "openai")
    assert post_json(api, body(metadata={"quality": "high"})).status_code == 200
    assert GenerationRequest.objects.get().estimated_cost == Decimal("0.211")
