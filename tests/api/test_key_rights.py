"""The rights of an API key: scopes, projects, models, priorities, rates; and no rights of staff."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generation.models import GenerationRequest, ProviderModel
from tests.api.helpers import (
    BATCH,
    PREFIX,
    REQUESTS,
    SUBMIT,
    address,
    answer,
    assert_error,
    batch_body,
    body,
    client_for,
    post_json,
    shown,
)
from tests.support.keys import key_client
from tests.support.requests import queued as submitted

METHODS: dict[str, Any] = {"GET": "get", "POST": "post", "DELETE": "delete", "PATCH": "patch"}


def call(client: APIClient, method: str, at: str) -> Any:
    if method == "POST":
        return post_json(client, batch_body(1) if at == BATCH else body(), at=at)
    data = {"approval": "approved"} if method == "PATCH" else None
    return getattr(client, METHODS[method])(at, data, format="json" if data else None)


def calls_of(alice: User) -> dict[str, list[tuple[str, str]]]:
    request, batch = submitted(alice), answer(post_json(client_for(alice), batch_body(1), at=BATCH))["batchId"]
    return {
        "requests:read": [
            ("GET", address("status", request.pk)), ("GET", REQUESTS), ("GET", f"{BATCH}/{batch}"),
            ("GET", f"{PREFIX}/queue/status"), ("GET", address("image", request.pk)),
            ("GET", address("thumbnail", request.pk)), ("GET", f"{address('requests', request.pk)}/provenance"),
        ],
        "requests:write": [
            ("POST", SUBMIT), ("POST", BATCH), ("POST", address("retry", request.pk)),
            ("DELETE", f"{BATCH}/{batch}"), ("DELETE", address("cancel", request.pk)),
            ("PATCH", address("requests", request.pk)),
        ],
        "metrics": [("GET", f"{PREFIX}/metrics")],
    }  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_each_endpoint_needs_its_scope(alice: User) -> None:
    for scope, calls in calls_of(alice).items():
        others = [one for one in ("requests:read", "requests:write", "metrics", "uploads") if one != scope]
        without, having = key_client(alice, scopes=others), key_client(alice, scopes=[scope])
        for method, at in calls:
            refused = call(without, method, at)
            assert refused.status_code == 403, (method, at)
            error = refused.json()
            assert (error["code"], error["required"]) == ("scope_missing", scope)
            assert call(having, method, at).status_code in {200, 404, 409}, (method, at)


def test_a_key_of_staff_has_no_rights_of_staff(alice: User, bob: User) -> None:
    bob.is_superuser = True
    bob.save()
    request = submitted(alice)
    client = key_client(bob)
    assert_error(client.get(address("status", request.pk)), 404, "not_found")
    assert_error(client.delete(address("cancel", request.pk)), 404)
    assert answer(client.get(REQUESTS))["results"] == []
    assert client.get("/admin/").status_code == 302


def test_a_key_of_projects_sees_and_submits_only_these(alice: User) -> None:
    api, key = client_for(alice), key_client(alice, allowed_projects=["dragons", "fish"])
    inside = answer(post_json(key, body(projectId="dragons")))["requestId"]
    outside = answer(post_json(api, body(projectId="cats")))["requestId"]
    plain = answer(post_json(api, body()))["requestId"]
    assert [row["requestId"] for row in answer(key.get(REQUESTS))["results"]] == [inside]
    assert answer(key.get(f"{REQUESTS}?projectId=cats"))["results"] == []
    answer(key.get(address("status", inside)))
    unknown = shown(key.get(address("status", "vga_1700000000000000_000000000000000000")))
    for hidden in (outside, plain):
        assert shown(key.get(address("status", hidden))) == unknown
        assert shown(key.get(address("status", hidden), headers={"If-None-Match": '"x"'})) == unknown
        assert_error(key.delete(address("cancel", hidden)), 404)
    for project in ({}, {"projectId": "cats"}):
        error = post_json(key, body(**project)).json()
        assert (error["code"], error["errors"][0]["path"]) == ("not_allowed", "projectId")
    assert GenerationRequest.objects.filter(status="queued").count() == 3


def test_a_key_of_projects_sees_a_batch_only_as_a_whole(alice: User) -> None:
    api, key = client_for(alice), key_client(alice, allowed_projects=["dragons"])
    batches = []
    for projects in (["dragons", "dragons"], ["dragons", "cats"]):
        requests = [body(projectId=project) for project in projects]
        batches.append(answer(post_json(api, {"requests": requests}, at=BATCH))["batchId"])
    assert key.get(f"{BATCH}/{batches[0]}").status_code == 200
    assert_error(key.get(f"{BATCH}/{batches[1]}"), 404)
    error = post_json(key, {"requests": [body(projectId="dragons"), body()]}, at=BATCH).json()
    assert error["errors"][0]["path"] == "requests[1].projectId"
    assert GenerationRequest.objects.count() == 4


@pytest.mark.parametrize("at", [SUBMIT, BATCH])
def test_a_repeated_call_tells_a_key_nothing_of_other_projects(alice: User, at: str) -> None:
    item = body(projectId="cats")
    data, path = (item, "projectId") if at == SUBMIT else ({"requests": [item]}, "requests[0].projectId")
    named = {"Idempotency-Key": "page-7"}
    answer(client_for(alice).post(at, data, format="json", headers=named))
    for allowed, status in ((["cats"], 200), (["dragons"], 403)):
        key = key_client(alice, allowed_projects=allowed)
        again = key.post(at, data, format="json", headers=named)
        assert again.status_code == status
    assert again.json()["errors"][0]["path"] == path


def test_a_key_has_a_highest_priority(alice: User) -> None:
    key = key_client(alice, max_priority="normal")
    for priority in ("normal", "low"):
        answer(post_json(key, body(priority=priority)))
    for priority in ("high", "urgent"):
        error = post_json(key, body(priority=priority)).json()
        assert (error["code"], error["errors"][0]["path"]) == ("not_allowed", "priority")
    refused = post_json(key, {"requests": [body()], "batchOptions": {"priority": "urgent"}}, at=BATCH)
    assert refused.json()["code"] == "not_allowed"


def test_a_key_of_models_gets_the_first_that_can(alice: User) -> None:
    ProviderModel.objects.create(provider="clipart", name="square-17", sizes={"1:1": [64, 64]}, price_rule={})
    key = key_client(alice, allowed_models=["square-17", "openmoji-17"])
    for wanted, model in (("square", "square-17"), ("portrait", "openmoji-17")):
        request = answer(post_json(key, body(metadata={"aspectRatio": wanted})))["requestId"]
        assert GenerationRequest.objects.get(pk=request).metadata["model"] == model
    only_square = key_client(alice, allowed_models=["square-17"])
    for metadata in ({"aspectRatio": "portrait"}, {"model": "openmoji-17"}):
        error = post_json(only_square, body(metadata=metadata)).json()
        assert (error["code"], error["errors"][0]["path"]) == ("not_allowed", "metadata.model")


def test_a_key_may_not_retry_what_it_may_not_submit(alice: User) -> None:
    api = client_for(alice)
    request = answer(post_json(api, body(priority="urgent")))["requestId"]
    api.delete(address("cancel", request))
    key = key_client(alice, max_priority="normal")
    assert key.post(address("retry", request)).json()["code"] == "not_allowed"
    answer(key_client(alice).post(address("retry", request)))


def test_the_rate_of_a_key_is_its_own(alice: User) -> None:
    key, other = key_client(alice, rate="2/m"), key_client(alice)
    for _ in range(2):
        answer(post_json(key, body()))
    refused = post_json(key, body())
    assert_error(refused, 429, "rate_limited")
    assert refused["RateLimit-Limit"] == "2"
    assert_error(post_json(key, batch_body(1), at=BATCH), 429)
    answer(post_json(other, body()))


def test_what_a_key_refuses_counts_against_no_other_limit(alice: User, settings: Any) -> None:
    settings.SUBMIT_RATE = "3/m"
    key = key_client(alice, rate="1/m")
    answer(post_json(key, body()))
    for _ in range(5):
        assert post_json(key, body()).status_code == 429
    for _ in range(2):
        answer(post_json(client_for(alice), body()))
