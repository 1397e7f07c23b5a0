"""``variations`` of a submit: several requests for images of one prompt, all or none."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generation.models import GenerationBatch, GenerationQueue, GenerationRequest, ProviderModel
from tests.api.helpers import (
    BATCH,
    NOTHING,
    PREFIX,
    SUBMIT,
    address,
    answer,
    assert_error,
    assert_refused_field,
    batch_body,
    body,
    post_json,
    stored_rows,
)
from tests.support.keys import key_client

TOP_SEED = 4_294_967_294


def submitted(api: APIClient, **more: Any) -> list[dict[str, Any]]:
    """Submit, and return the statuses of the requests."""
    accepted = answer(post_json(api, body(**more)))
    assert accepted["requestId"] == accepted["requestIds"][0]
    return [answer(api.get(address("status", one))) for one in accepted["requestIds"]]


def seeds(requests: list[dict[str, Any]]) -> list[Any]:
    return [one["metadata"].get("seed") for one in requests]


def test_variations_are_requests_of_one_batch(api: APIClient) -> None:
    accepted = answer(post_json(api, body(variations=4, priority="high", projectId="book", pageId="page")))
    assert accepted.keys() == {"success", "requestId", "status", "estimatedWaitTime", "requestIds", "batchId"}
    requests = [answer(api.get(address("status", one))) for one in accepted["requestIds"]]
    assert [one["variation"] for one in requests] == [0, 1, 2, 3]
    shared = {(one["batchId"], one["priority"], one["projectId"], one["pageId"], one["prompt"]) for one in requests}
    assert len(shared) == 1
    batch = answer(api.get(f"{BATCH}/{accepted['batchId']}"))
    assert [one["requestId"] for one in batch["requests"]] == accepted["requestIds"]
    assert (batch["maxConcurrent"], batch["counts"]["queued"]) == (None, 4)
    assert [(one["queuePosition"]) for one in requests] == [1, 2, 3, 4]


@pytest.mark.parametrize("more", [{}, {"variations": 1}, {"variations": None}, {"variations": 1.0}])
def test_one_image_is_a_request_without_a_batch(api: APIClient, more: dict[str, Any]) -> None:
    accepted = answer(post_json(api, body(**more)))
    assert accepted.keys() == {"success", "requestId", "status", "estimatedWaitTime"}
    shown = answer(api.get(address("status", accepted["requestId"])))
    assert (shown["batchId"], shown["variation"]) == (None, 0)


@pytest.mark.parametrize(
    ("value", "code"),
    [(0, "min_value"), (9, "max_value"), (-1, "min_value"), ("2", "invalid"), (1.5, "invalid"), (True, "invalid")],
)
def test_a_number_out_of_range_is_rejected(api: APIClient, value: Any, code: str) -> None:
    assert_refused_field(post_json(api, body(variations=value)), "variations", code)


@pytest.mark.parametrize("value", [1, 4, "x"])
def test_a_request_in_a_batch_has_no_variations(api: APIClient, value: Any) -> None:
    requests = batch_body(2)
    requests["requests"][1]["variations"] = value
    response = post_json(api, requests, at=BATCH)
    assert_refused_field(response, "requests[1].variations", "unsupported")
    assert "Only a submit has variations" in response.json()["error"]


def test_a_seed_counts_up_and_begins_again_after_the_highest(api: APIClient) -> None:
    assert seeds(submitted(api, variations=3, metadata={"seed": 7})) == [7, 8, 9]
    assert seeds(submitted(api, variations=3, metadata={"seed": TOP_SEED - 1})) == [TOP_SEED - 1, TOP_SEED, 0]
    assert seeds(submitted(api, variations=2, metadata={"title": "x"})) == [None, None]


def test_a_repetition_with_the_same_key_makes_no_more_of_them(api: APIClient) -> None:
    def submit(count: int) -> Any:
        text: Any = json.dumps(body(variations=count))
        return api.post(SUBMIT, text, content_type="application/json", headers={"Idempotency-Key": "one"})

    first, second = submit(3), submit(3)
    assert answer(first) == answer(second)
    assert second["Idempotent-Replayed"] == "true"
    assert stored_rows()[0] == 3
    assert_error(submit(2), 409, "idempotency_key_reused")


def test_each_of_them_counts_against_the_rate(api: APIClient, settings: Any) -> None:
    settings.SUBMIT_RATE = "5/m"
    assert_error(post_json(api, body(variations=6)), 429, "rate_limited")
    answer(post_json(api, body(variations=3)))
    assert_error(post_json(api, body(variations=3)), 429, "rate_limited")
    answer(post_json(api, body(variations=2)))


def test_a_budget_for_fewer_refuses_all_of_them(api: APIClient, settings: Any) -> None:
    ProviderModel.objects.filter(provider="clipart").update(price_rule={"per_image": "0.03"})
    settings.DAILY_BUDGET = Decimal("0.10")
    assert_error(post_json(api, body(variations=4)), 402, "over_budget")
    assert stored_rows() == NOTHING
    assert not GenerationBatch.objects.exists()
    answer(post_json(api, body(variations=3)))
    assert_error(post_json(api, body()), 402, "over_budget")


def test_a_key_with_a_limit_holds_the_others_back(alice: User) -> None:
    client = key_client(alice, max_active=1)
    accepted = answer(post_json(client, body(variations=3)))
    held = dict(GenerationQueue.objects.values_list("request_id", "held"))
    assert sum(held[one] for one in accepted["requestIds"]) >= 2


def test_a_key_for_one_model_gives_it_to_all_of_them(alice: User) -> None:
    client = key_client(alice, allowed_models=["openmoji-17"])
    shown = submitted(client, variations=3, metadata={"seed": 1})
    assert [one["metadata"]["model"] for one in shown] == ["openmoji-17"] * 3
    assert seeds(shown) == [1, 2, 3]


def test_all_of_them_have_the_deadline_and_the_references(api: APIClient, alice: User) -> None:
    source = answer(post_json(api, body()))["requestId"]
    text: Any = json.dumps(body(variations=2, references=[{"requestId": source}]))
    response = api.post(SUBMIT, text, content_type="application/json", headers={"Cancel-After": "5m"})
    made = GenerationRequest.objects.filter(pk__in=answer(response)["requestIds"])
    assert all(one.cancel_at and one.references.count() == 1 for one in made)


def test_a_wrong_reference_is_named_once(api: APIClient) -> None:
    upload = "vgu_1700000000000000_000000000000000000"
    response = post_json(api, body(variations=3, references=[{"uploadId": upload}]))
    [error] = assert_error(response, 400, "validation_error")["errors"]
    assert error["code"] in {"not_found", "unsupported"}


def test_cancelling_one_leaves_the_others(api: APIClient) -> None:
    first, second = submitted(api, variations=2)
    answer(api.delete(address("cancel", first["requestId"])))
    assert answer(api.get(address("status", second["requestId"])))["status"] == "queued"
    assert answer(api.delete(f"{PREFIX}/batch/{second['batchId']}"))["cancelled"] == 1
