"""``?dryRun=true``: what a submit or a batch would cost and when it would be done, without storing anything."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generation.models import (
    Budget,
    GenerationBatch,
    GenerationQueue,
    GenerationReference,
    GenerationRequest,
    IdempotencyKey,
    ProviderModel,
    StatusChange,
)
from tests.api.helpers import BATCH, SUBMIT, answer, assert_error, body
from tests.support.keys import key_client
from tests.support.measured import worker
from tests.support.requests import completed, queued

OPENAI: dict[str, Any] = {"metadata": {"provider": "openai", "model": "gpt-image-2"}}


@pytest.fixture(autouse=True)
def two_providers(settings: Any) -> None:
    """One with prices and one without."""
    settings.PROVIDERS = ["openai", "clipart"]


def dry_submit(client: APIClient, *, query: Any = "?dryRun=true", **fields: Any) -> Any:
    return client.post(SUBMIT + query, body(**fields), format="json")


def dry_batch(client: APIClient, *items: dict[str, Any], **fields: Any) -> Any:
    return client.post(f"{BATCH}?dryRun=true", {"requests": list(items)} | fields, format="json")


def stored() -> list[int]:
    models = (GenerationRequest, GenerationBatch, GenerationQueue, GenerationReference, StatusChange, IdempotencyKey)
    return [model.objects.count() for model in models]


def test_a_dry_run_tells_the_price_and_stores_nothing(api: APIClient) -> None:
    worker("one", slots=1)
    found = answer(dry_submit(api, **OPENAI))
    assert (found["success"], found["dryRun"], found["model"]) == (True, True, "gpt-image-2")
    assert 0 < found["cost"]["p50"] < found["cost"]["max"]
    assert found["cost"]["max"] == pytest.approx(3 * found["cost"]["p50"])
    assert found["estimate"] == {"startP50": 0, "startP90": 0, "doneP50": 30, "doneP90": 60, "basis": "default"}
    assert stored() == [0] * 6


def test_the_highest_price_counts_every_attempt(api: APIClient) -> None:
    found = answer(dry_submit(api, metadata=OPENAI["metadata"] | {"maxAttempts": 7}))
    assert found["cost"]["max"] == pytest.approx(7 * found["cost"]["p50"])


def test_without_a_known_price_there_is_none(api: APIClient) -> None:
    ProviderModel.objects.filter(name="gpt-image-2").update(price_rule={})
    assert answer(dry_submit(api, **OPENAI))["cost"] == {"p50": None, "max": None}


def test_a_drawing_without_a_vendor_costs_nothing(api: APIClient) -> None:
    found = answer(dry_submit(api, metadata={"provider": "clipart"}))
    assert found["cost"] == {"p50": 0, "max": 0}
    assert found["model"] == "openmoji-17"


def test_the_highest_price_is_that_of_the_dearest_model_of_the_route(api: APIClient, settings: Any) -> None:
    settings.PROVIDERS = ["clipart", "openai"]
    found = answer(dry_submit(api))
    assert found["model"] == "openmoji-17"
    assert found["cost"]["p50"] == 0
    assert found["cost"]["max"] == answer(dry_submit(api, **OPENAI))["cost"]["max"]


def test_variations_cost_as_many_images(api: APIClient) -> None:
    one = answer(dry_submit(api, **OPENAI))["cost"]
    four = answer(dry_submit(api, variations=4, **OPENAI))["cost"]
    assert four["p50"] == pytest.approx(4 * one["p50"])
    assert stored() == [0] * 6


def test_a_batch_counts_its_models(api: APIClient) -> None:
    items = [body(**OPENAI), body(**OPENAI), body(metadata={"provider": "clipart"})]
    found = answer(dry_batch(api, *items))
    assert found["models"] == {"gpt-image-2": 2, "openmoji-17": 1}
    assert found["cost"]["p50"] == pytest.approx(2 * answer(dry_submit(api, **OPENAI))["cost"]["p50"])
    assert stored() == [0] * 6


def test_a_batch_with_one_unknown_price_has_none(api: APIClient) -> None:
    ProviderModel.objects.filter(name="openmoji-17").update(price_rule={})
    found = answer(dry_batch(api, body(**OPENAI), body(metadata={"provider": "clipart"})))
    assert found["cost"] == {"p50": None, "max": None}


def test_a_dry_run_sends_no_message_and_leaves_the_queue_as_it_is(api: APIClient, alice: User) -> None:
    queued(alice)
    before = stored()
    answer(dry_submit(api))
    answer(dry_submit(api, priority="urgent", notBefore="2020-01-01T00:00:00Z"))
    assert stored() == before


@pytest.mark.parametrize("fields", [{"prompt": "short"}, {"type": "poster"}, {"metadata": {"model": "no-such-model"}}])
def test_a_dry_run_is_refused_as_the_submit_would_be(api: APIClient, fields: dict[str, Any]) -> None:
    assert_error(dry_submit(api, **fields), 400, "validation_error")
    assert_error(dry_batch(api, body(**fields)), 400, "validation_error")


def test_an_unknown_reference_is_refused(api: APIClient, charlie: User) -> None:
    for reference in ({"requestId": "vga_1"}, {"requestId": completed(charlie).pk}):
        [error] = assert_error(dry_submit(api, references=[reference], **OPENAI), 400, "validation_error")["errors"]
        assert error["code"] == "not_found"


def test_a_dry_run_over_the_budget_is_refused(api: APIClient, alice: User) -> None:
    Budget.objects.create(owner=alice, per_day="0.000001")
    assert_error(dry_submit(api, **OPENAI), 402, "over_budget")


def test_a_key_gets_the_price_of_its_own_model(alice: User) -> None:
    client = key_client(alice, scopes=["requests:write"], allowed_models=["openmoji-17"])
    assert answer(dry_submit(client))["model"] == "openmoji-17"
    assert_error(dry_submit(client, **OPENAI), 403, "not_allowed")


def test_a_dry_run_takes_no_idempotency_key(api: APIClient) -> None:
    headers = {"Idempotency-Key": "book-1"}
    answer(api.post(f"{SUBMIT}?dryRun=true", body(), format="json", headers=headers))
    submitted = api.post(SUBMIT, body(prompt="Another prompt of a garden"), format="json", headers=headers)
    assert "Idempotent-Replayed" not in submitted
    assert answer(submitted)["requestId"]


@pytest.mark.parametrize("submit", [dry_submit, lambda client: dry_batch(client, body())], ids=["submit", "batch"])
def test_the_headers_are_checked_and_sent_as_by_a_submit(api: APIClient, submit: Any) -> None:
    assert "Prefer" in submit(api)["Vary"]
    api.defaults["HTTP_IDEMPOTENCY_KEY"] = "a\tb"
    [error] = assert_error(submit(api), 400, "validation_error")["errors"]
    assert error["path"] == "Idempotency-Key"


@pytest.mark.parametrize("value", ["1", "yes", "TRUE", ""])
def test_another_value_is_refused_and_stores_nothing(api: APIClient, value: str) -> None:
    [error] = assert_error(dry_submit(api, query=f"?dryRun={value}"), 400, "validation_error")["errors"]
    assert error["path"] == "dryRun"
    assert stored() == [0] * 6


def test_dry_run_false_submits(api: APIClient) -> None:
    assert "dryRun" not in answer(dry_submit(api, query="?dryRun=false"))
    assert GenerationRequest.objects.count() == 1


def test_a_dry_run_does_not_wait(api: APIClient) -> None:
    response = api.post(f"{SUBMIT}?dryRun=true", body(), format="json", headers={"Prefer": "wait=5"})
    assert response.status_code == 200
    assert "Preference-Applied" not in response
