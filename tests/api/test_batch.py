"""POST, GET and DELETE /batch: many requests as one."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generation import caching
from generation.models import GenerationAttempt, GenerationBatch, GenerationQueue, GenerationRequest
from generation.states import Status
from tests.api.helpers import (
    BATCH,
    NOTHING,
    UNKNOWN_BATCH_ID,
    address,
    answer,
    assert_error,
    batch_body,
    body,
    client_for,
    post_bytes,
    post_json,
    shown,
    stored_rows,
)
from tests.support.batches import batch_in, batch_of, start
from tests.support.broker import messages
from tests.support.measured import worker
from tests.support.queries import queries_of

ID = re.compile(r"vgb_\d+_[a-z0-9]{9,}")
COUNTS = dict.fromkeys(Status.values, 0)


def _submit(client: APIClient, data: dict[str, Any]) -> dict[str, Any]:
    return answer(post_json(client, data, at=BATCH))


def _batch(client: APIClient, batch_id: str) -> dict[str, Any]:
    return answer(client.get(address("batch", batch_id)))


# --- Response and stored rows -----------------------------------------------------------------------------------------


def test_the_guides_example_works(api: APIClient, alice: User, settings: Any) -> None:
    settings.PUBLIC_BASE_URL = "https://images.example"
    worker("one", slots=1)
    response = post_json(
        api,
        {
            "requests": [
                {"type": "coloring-page", "prompt": "A cat playing", "projectId": "proj_123", "pageId": "page_1"},
                {"type": "coloring-page", "prompt": "A dog running", "projectId": "proj_123", "pageId": "page_2"},
            ],
            "batchOptions": {"priority": "normal", "maxConcurrent": 3},
        },
        at=BATCH,
    )
    accepted = answer(response)
    cat, dog = GenerationRequest.objects.order_by("pk")
    assert accepted == {
        "success": True,
        "batchId": accepted["batchId"],
        "requests": [
            {"index": 0, "requestId": cat.pk, "status": "queued"},
            {"index": 1, "requestId": dog.pk, "status": "queued"},
        ],
        "count": 2,
        "estimatedWaitTime": 60,
    }
    assert ID.fullmatch(accepted["batchId"])
    assert response["Location"] == f"https://images.example{address('batch', accepted['batchId'])}"
    assert (cat.prompt, cat.project_id, cat.page_id, cat.owner) == ("A cat playing", "proj_123", "page_1", alice)
    assert (dog.prompt, dog.project_id, dog.page_id, dog.owner) == ("A dog running", "proj_123", "page_2", alice)
    assert cat.batch_id == dog.batch_id == accepted["batchId"]
    assert stored_rows() == (2, 2, 2)


def test_the_location_leads_to_the_batch(api: APIClient) -> None:
    response = post_json(api, batch_body(1), at=BATCH)
    found = api.get(response["Location"].removeprefix("http://127.0.0.1:8000"))
    assert found.json()["batchId"] == response.json()["batchId"]


def test_the_requests_keep_the_order_in_which_they_were_sent(api: APIClient) -> None:
    accepted = _submit(api, batch_body(50))
    ids = [request["requestId"] for request in accepted["requests"]]
    assert ids == sorted(ids)
    assert [request["index"] for request in accepted["requests"]] == list(range(50))
    there = _batch(api, accepted["batchId"])["requests"]
    assert [request["requestId"] for request in there] == ids
    assert [request["pageId"] for request in there] == [f"page_{index}" for index in range(50)]


@pytest.mark.parametrize("count", [1, 100])
def test_a_batch_may_have_one_request_and_a_hundred(api: APIClient, count: int) -> None:
    assert _submit(api, batch_body(count))["count"] == count
    assert stored_rows() == (count, count, count)


def test_options_may_be_left_out(api: APIClient) -> None:
    accepted = _submit(api, {"requests": [body()]})
    assert _batch(api, accepted["batchId"])["maxConcurrent"] is None
    assert GenerationBatch.objects.get().priority == GenerationRequest.objects.get().priority == "normal"


@pytest.mark.parametrize("options", [None, {"priority": None}, {"priority": None, "maxConcurrent": None}])
def test_options_that_are_null_are_left_out(api: APIClient, options: dict[str, None] | None) -> None:
    accepted = post_json(api, batch_body(2) | {"batchOptions": options}, at=BATCH).json()
    batch = _batch(api, accepted["batchId"])
    assert (batch["maxConcurrent"], batch["requests"][0]["priority"]) == (None, "normal")


def test_the_priority_of_a_request_overrides_that_of_the_batch(api: APIClient) -> None:
    _submit(
        api, {"requests": [body(), body(priority="low"), body(priority="urgent")], "batchOptions": {"priority": "high"}}
    )
    assert list(GenerationRequest.objects.order_by("pk").values_list("priority", flat=True)) == [
        "high",
        "low",
        "urgent",
    ]
    assert list(GenerationQueue.objects.order_by("pk").values_list("priority_weight", flat=True)) == [100, 1, 1000]
    assert GenerationBatch.objects.get().priority == "high"


@pytest.mark.parametrize("priorities", [["normal", "low", "urgent"], ["urgent", "normal", "low"]])
def test_the_estimate_is_for_the_last_request(api: APIClient, priorities: list[str]) -> None:
    worker("one", slots=1)
    accepted = _submit(api, {"requests": [body(priority=priority) for priority in priorities]})
    assert accepted["estimatedWaitTime"] == 90


@pytest.mark.parametrize("limit", [1, 50, None])
def test_a_limit_is_stored_and_returned(api: APIClient, limit: int | None) -> None:
    accepted = _submit(api, batch_body(2, maxConcurrent=limit))
    assert _batch(api, accepted["batchId"])["maxConcurrent"] == limit


# --- All or nothing ---------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Any, str, str]] = {
    "no requests": ({}, "requests", "required"),
    "requests null": ({"requests": None}, "requests", "null"),
    "requests empty": ({"requests": []}, "requests", "empty"),
    "requests an object": ({"requests": {"0": body()}}, "requests", "not_a_list"),
    "requests a string": ({"requests": "two"}, "requests", "not_a_list"),
    "requests a number": ({"requests": 2}, "requests", "not_a_list"),
    "101 requests": ({"requests": [body()] * 101}, "requests", "max_length"),
    "a request null": ({"requests": [body(), None]}, "requests[1]", "null"),
    "a request a string": ({"requests": [body(), "dragon"]}, "requests[1]", "invalid"),
    "a request a list": ({"requests": [[body()]]}, "requests[0]", "invalid"),
    "a request too many fields deep": (
        {"requests": [body(metadata={"seed": -1})]},
        "requests[0].metadata.seed",
        "min_value",
    ),
    "options a list": (batch_body(1) | {"batchOptions": []}, "batchOptions", "invalid"),
    "priority unknown": (batch_body(1, priority="highest"), "batchOptions.priority", "invalid_choice"),
    "limit 0": (batch_body(1, maxConcurrent=0), "batchOptions.maxConcurrent", "min_value"),
    "limit negative": (batch_body(1, maxConcurrent=-1), "batchOptions.maxConcurrent", "min_value"),
    "limit 51": (batch_body(1, maxConcurrent=51), "batchOptions.maxConcurrent", "max_value"),
    "limit a string": (batch_body(1, maxConcurrent="3"), "batchOptions.maxConcurrent", "invalid"),
    "limit a fraction": (batch_body(1, maxConcurrent=3.5), "batchOptions.maxConcurrent", "invalid"),
    "limit true": (batch_body(1, maxConcurrent=True), "batchOptions.maxConcurrent", "invalid"),
}


def _assert_nothing_stored() -> None:
    assert stored_rows() == NOTHING
    assert not GenerationBatch.objects.exists()


@pytest.mark.parametrize(("data", "path", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_an_invalid_batch_is_rejected_with_the_path_of_the_error(
    api: APIClient, data: Any, path: str, code: str
) -> None:
    error = assert_error(post_json(api, data, at=BATCH), 400, "validation_error")
    assert [(fault["path"], fault["code"]) for fault in error["errors"]] == [(path, code)]
    _assert_nothing_stored()


def test_every_invalid_request_is_named_and_none_of_the_batch_is_stored(api: APIClient) -> None:
    requests = [
        body(),
        body(prompt="short"),
        body(),
        {"type": "sculpture", "prompt": "short"},
        {"metadata": {"quality": "best", "maxAttempts": 11}},
    ]
    error = assert_error(post_json(api, {"requests": requests}, at=BATCH), 400, "validation_error")
    assert {fault["path"]: fault["code"] for fault in error["errors"]} == {
        "requests[1].prompt": "min_length",
        "requests[3].type": "invalid_choice",
        "requests[3].prompt": "min_length",
        "requests[4].type": "required",
        "requests[4].prompt": "required",
        "requests[4].metadata.quality": "invalid_choice",
        "requests[4].metadata.maxAttempts": "max_value",
    }
    _assert_nothing_stored()


def test_the_hundredth_request_is_named_by_its_index(api: APIClient) -> None:
    data = batch_body(99)
    error = assert_error(post_json(api, data | {"requests": [*data["requests"], body(prompt="")]}, at=BATCH), 400)
    assert [fault["path"] for fault in error["errors"]] == ["requests[99].prompt"]


@pytest.mark.parametrize(
    "data",
    [
        b'{"requests": [{"type": "cover", "type": "cover", "prompt": "A friendly dragon"}]}',
        b'{"requests": [], "requests": [{"type": "cover", "prompt": "A friendly dragon"}]}',
        b"[]",
        b"null",
        b"",
        b'{"requests": [' + b"[" * 20_000,
    ],
    ids=["name twice in a request", "name twice", "a list", "null", "empty", "deep"],
)
def test_a_body_that_is_not_a_batch_is_rejected(api: APIClient, data: bytes) -> None:
    assert_error(post_bytes(api, data, at=BATCH), 400)
    _assert_nothing_stored()


def test_a_batch_larger_than_a_mebibyte_is_rejected(api: APIClient) -> None:
    data = {"requests": [body(metadata={"mine": "x" * 16_000})] * 70}
    assert_error(post_json(api, data, at=BATCH), 413, "body_too_large")
    _assert_nothing_stored()


# --- Status of a batch ------------------------------------------------------------------------------------------------

SHAPE = ("batchId", "status", "maxConcurrent", "counts", "progress", "requests", "createdAt", "completedAt")
#: Statuses of the requests, and the status and the progress of the batch.
STANDINGS = [
    (["queued", "queued"], "queued", 0),
    (["queued", "cancelled"], "queued", 50),
    (["in-progress", "queued"], "in-progress", 0),
    (["in-progress", "cancelled"], "in-progress", 50),
    (["completed", "queued"], "in-progress", 50),
    (["failed", "queued", "queued"], "in-progress", 33),
    (["completed", "failed", "in-progress"], "in-progress", 67),
    (["completed", "completed"], "completed", 100),
    (["cancelled", "failed", "completed"], "completed", 100),
    (["cancelled", "failed"], "failed", 100),
    (["cancelled", "cancelled"], "cancelled", 100),
]


@pytest.mark.parametrize(("statuses", "status", "progress"), STANDINGS, ids=[" ".join(row[0]) for row in STANDINGS])
def test_the_status_of_a_batch_follows_from_its_requests(
    api: APIClient, alice: User, statuses: list[str], status: str, progress: int
) -> None:
    batch, ids = batch_in(alice, statuses)
    found = _batch(api, batch.pk)
    assert tuple(found) == SHAPE
    assert (found["batchId"], found["status"], found["progress"]) == (batch.pk, status, progress)
    assert found["counts"] == COUNTS | {name: statuses.count(name) for name in statuses}
    assert [(one["requestId"], one["status"], one["index"]) for one in found["requests"]] == [
        (request_id, there, index) for index, (request_id, there) in enumerate(zip(ids, statuses, strict=True))
    ]
    ends = [one["metadata"]["completedAt"] for one in found["requests"]]
    assert found["completedAt"] == (max(ends) if all(ends) else None)
    assert found["createdAt"] <= found["requests"][0]["metadata"]["requestedAt"]


def test_a_request_in_a_batch_equals_its_status_without_the_image(api: APIClient, alice: User) -> None:
    batch, ids = batch_in(alice, ["completed"])
    [there] = _batch(api, batch.pk)["requests"]
    assert there.pop("index") == 0
    assert there == answer(api.get(address("status", ids[0]) + "?imageData=false"))


# --- Cancel -----------------------------------------------------------------------------------------------------------


def _cancelled(number: int) -> dict[str, Any]:
    return {"success": True, "message": "Batch cancelled successfully", "cancelled": number}


def test_a_cancel_ends_active_requests_and_keeps_ended_ones(api: APIClient, alice: User) -> None:
    batch, _ = batch_in(alice, ["completed", "failed", "in-progress", "queued", "cancelled"])
    assert answer(api.delete(address("batch", batch.pk))) == _cancelled(2)
    found = _batch(api, batch.pk)
    assert found["counts"] == COUNTS | {"completed": 1, "failed": 1, "cancelled": 3}
    assert (found["status"], found["progress"]) == ("completed", 100)
    assert not GenerationQueue.objects.exists()
    assert not GenerationAttempt.objects.filter(outcome="running").exists()


def test_a_second_cancel_of_a_batch_changes_nothing(api: APIClient, alice: User) -> None:
    batch, _ = batch_of(alice, 3)
    assert answer(api.delete(address("batch", batch.pk))) == _cancelled(3)
    before = api.get(address("batch", batch.pk)).content
    assert answer(api.delete(address("batch", batch.pk))) == _cancelled(0)
    assert api.get(address("batch", batch.pk)).content == before


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_the_batch_of_another_user_looks_like_an_unknown_one(stranger: APIClient, alice: User, method: str) -> None:
    batch, _ = batch_of(alice, 2)
    theirs = stranger.generic(method, address("batch", batch.pk))
    assert_error(theirs, 404, "not_found")
    assert theirs.json()["error"] == "Batch not found"
    assert shown(theirs) == shown(stranger.generic(method, address("batch", UNKNOWN_BATCH_ID)))
    assert GenerationQueue.objects.count() == 2


def test_staff_may_see_and_cancel_all_batches(staff: APIClient, alice: User) -> None:
    batch, _ = batch_of(alice, 2)
    assert _batch(staff, batch.pk)["status"] == "queued"
    assert answer(staff.delete(address("batch", batch.pk))) == _cancelled(2)


def test_the_id_of_a_request_is_not_found_as_a_batch(api: APIClient, alice: User) -> None:
    batch, [request_id] = batch_of(alice, 1)
    assert_error(api.get(address("batch", request_id)), 404)
    assert_error(api.get(address("status", batch.pk)), 404)


# --- Queries and messages ---------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("empty_queues")
@pytest.mark.parametrize("limit", [None, 1])
def test_thirty_requests_take_as_many_queries_as_two(alice: User, limit: int | None) -> None:
    """Including the queries after the commit."""
    api = client_for(alice)

    def costs(count: int) -> list[int]:
        caching.clear_all()
        submit = len(queries_of(lambda: _submit(api, batch_body(count, maxConcurrent=limit))))
        batch = GenerationBatch.objects.latest("pk")
        start(batch.requests.order_by("pk")[0].pk)
        show = len(queries_of(lambda: _batch(api, batch.pk)))
        give_up = len(queries_of(lambda: api.delete(address("batch", batch.pk))))
        return [submit, show, give_up]

    assert costs(2) == costs(30)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("empty_queues")
@pytest.mark.parametrize(
    ("limit", "sent"), [(None, ["urgent", "high", "low"]), (2, ["urgent", "high"]), (1, ["urgent"])]
)
def test_one_message_per_free_slot_is_sent_in_order_of_priority(
    alice: User, limit: int | None, sent: list[str]
) -> None:
    requests = [body(priority=priority) for priority in ("low", "high", "urgent")]
    accepted = _submit(client_for(alice), {"requests": requests, "batchOptions": {"maxConcurrent": limit}})
    ids = {body_["priority"]: one["requestId"] for body_, one in zip(requests, accepted["requests"], strict=True)}
    assert messages() == {priority: [ids[priority]] for priority in sent}
    assert set(GenerationQueue.objects.filter(held=True).values_list("pk", flat=True)) == {
        ids[priority] for priority in ids if priority not in sent
    }


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("empty_queues")
def test_no_message_is_sent_for_a_rejected_batch(alice: User) -> None:
    data = {"requests": [body(), body(prompt="short")]}
    assert_error(post_json(client_for(alice), data, at=BATCH), 400)
    assert messages() == {}
