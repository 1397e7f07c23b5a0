"""GET /status: the response in each status."""

from __future__ import annotations

import base64
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from rest_framework.test import APIClient

from generation.models import GenerationRequest
from generation.requests import lifecycle
from generation.requests.claims import AttemptFailure
from generation.states import PROGRESS, Status
from tests.api.helpers import address, assert_error, client_for, completed, image_bytes
from tests.support.measured import worker
from tests.support.requests import FAILURE, PROMPT, back_in_queue, claimed, in_status, queued

KEYS = {
    *("requestId", "type", "prompt", "status", "priority", "progress", "sequence"),
    *("projectId", "pageId", "batchId", "metadata", "result", "previewUrl", "error", "cancelReason"),
    "notBefore",
    *("variation", "approval", "approvalNote", "references", "editOf"),
}
TIMES = {"requestedAt", "startedAt", "completedAt"}
METADATA = TIMES | {"attempts", "maxAttempts", "generationTime"}
RESULT = {
    *("imageData", "imageUrl", "thumbnailUrl", "contentType", "width", "height", "bytes", "sha256"),
    *("provider", "model", "seed", "revisedPrompt", "generationTime", "cost", "cached", "notice", "attribution"),
}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def _request(owner: User, status: str) -> GenerationRequest:
    return completed(owner) if status == Status.COMPLETED else in_status(owner, Status(status))


def _status(client: APIClient, request: GenerationRequest, query: str = "") -> dict[str, Any]:
    response = client.get(address("status", request.pk) + query)
    assert response.status_code == 200, response.content
    shown: dict[str, Any] = response.json()
    return shown


@pytest.mark.parametrize("status", Status.values)
def test_all_keys_are_present_in_every_status(api: APIClient, alice: User, status: str) -> None:
    request = _request(alice, status)
    shown = _status(api, request)
    waiting = {"queuePosition", "estimatedWaitTime", "estimate", "waitingFor", "possible"}
    waiting = waiting if status == Status.QUEUED else set()
    assert shown.keys() == KEYS | waiting
    assert shown["metadata"].keys() == METADATA
    assert (shown["requestId"], shown["type"], shown["prompt"]) == (request.pk, "coloring-page", PROMPT)
    assert (shown["status"], shown["priority"], shown["progress"]) == (status, "normal", PROGRESS[status])
    assert (shown["projectId"], shown["pageId"], shown["batchId"]) == (None, None, None)
    assert (shown["result"] is not None) == (status == Status.COMPLETED)
    assert (shown["error"] is not None) == (status == Status.FAILED)


@pytest.mark.parametrize(
    ("status", "set_times"),
    [
        (Status.QUEUED, {"requestedAt"}),
        (Status.IN_PROGRESS, {"requestedAt", "startedAt"}),
        (Status.COMPLETED, TIMES),
        (Status.FAILED, TIMES),
        (Status.CANCELLED, TIMES),
    ],
    ids=Status.values,
)
def test_times_are_in_utc_with_milliseconds(api: APIClient, alice: User, status: str, set_times: set[str]) -> None:
    metadata = _status(api, _request(alice, status))["metadata"]
    assert {name for name in TIMES if metadata[name] is not None} == set_times
    assert all(MOMENT.fullmatch(metadata[name]) for name in set_times)
    assert [metadata[name] for name in ("requestedAt", "startedAt", "completedAt") if metadata[name]] == sorted(
        metadata[name] for name in set_times
    )


def test_the_generation_time_is_from_start_to_end_in_milliseconds(api: APIClient, alice: User) -> None:
    request = completed(alice)
    assert request.started_at is not None
    end = request.started_at + timedelta(seconds=3, microseconds=141_592)
    GenerationRequest.objects.filter(pk=request.pk).update(completed_at=end)
    shown = _status(api, request)
    assert shown["metadata"]["generationTime"] == 3_142
    assert shown["result"]["generationTime"] == 3_142


def test_a_request_that_never_started_has_no_generation_time(api: APIClient, alice: User) -> None:
    request = queued(alice)
    assert lifecycle.cancel([request.pk], actor=alice)
    metadata = _status(api, request)["metadata"]
    assert (metadata["startedAt"], metadata["generationTime"]) == (None, None)


def test_a_completed_request_contains_its_image(api: APIClient, alice: User) -> None:
    request = completed(alice)
    result = _status(api, request)["result"]
    assert result.keys() == RESULT
    head, _, encoded = result["imageData"].partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(encoded, validate=True) == image_bytes()
    assert (result["contentType"], result["width"], result["height"]) == ("image/png", 16, 12)
    assert (result["bytes"], result["sha256"]) == (len(image_bytes()), request.result["sha256"])
    assert (result["provider"], result["model"], result["seed"], result["cached"]) == (
        *("clipart", "openmoji-17", 1),
        False,
    )


def test_the_urls_in_a_result_are_absolute(api: APIClient, alice: User, settings: Any) -> None:
    settings.PUBLIC_BASE_URL = "https://images.example"
    request = completed(alice)
    result = _status(api, request)["result"]
    assert result["imageUrl"].startswith(f"https://images.example{address('image', request.pk)}.png?")
    assert result["thumbnailUrl"].startswith(f"https://images.example{address('thumbnail', request.pk)}?")


def test_image_data_can_be_omitted(api: APIClient, alice: User) -> None:
    request = completed(alice)
    without = _status(api, request, "?imageData=false")
    assert without["result"].keys() == RESULT - {"imageData"}
    whole = _status(api, request, "?imageData=true")
    assert whole["result"].pop("imageData")
    assert without == whole


@pytest.mark.parametrize("value", ["maybe", "", "0", "False", "%00", "%FF", "true&imageData=no"])
@pytest.mark.parametrize("status", [Status.QUEUED, Status.COMPLETED])
def test_image_data_is_true_or_false_and_nothing_else(api: APIClient, alice: User, status: str, value: str) -> None:
    response = api.get(address("status", _request(alice, status).pk) + f"?imageData={value}")
    assert [fault["path"] for fault in assert_error(response, 400, "validation_error")["errors"]] == ["imageData"]


def test_a_missing_image_is_gone_without_a_logged_traceback(api: APIClient, alice: User) -> None:
    request = completed(alice)
    default_storage.delete(request.result["image_key"])
    assert_error(api.get(address("status", request.pk)), 410, "picture_gone")
    assert _status(api, request, "?imageData=false")["status"] == "completed"


def test_a_failed_request_says_why(api: APIClient, alice: User) -> None:
    shown = _status(api, in_status(alice, Status.FAILED))
    assert shown["error"] == {
        "message": "The provider is away",
        "code": "unavailable",
        "retryable": True,
        "provider": "clipart",
        "stage": None,
        "category": None,
    }
    assert shown["result"] is None


def test_a_refusal_names_stage_and_category(api: APIClient, alice: User) -> None:
    claim = claimed(alice)
    failure = AttemptFailure(
        message="Refused", code="refused_output", retryable=False, stage="output", category="violence"
    )
    assert lifecycle.fail(claim, failure)
    shown = _status(api, claim.request)["error"]
    assert (shown["stage"], shown["category"]) == ("output", "violence")


def test_an_old_failure_without_stage_and_category_has_null(api: APIClient, alice: User) -> None:
    request = in_status(alice, Status.FAILED)
    request.error = {"message": "Refused", "code": "refused_input", "retryable": False, "provider": "openai"}
    request.save()
    assert _status(api, request)["error"] == request.error | {"stage": None, "category": None}


def test_a_failure_without_a_provider_names_none(api: APIClient, alice: User) -> None:
    claim = claimed(alice)
    assert lifecycle.fail(claim, AttemptFailure(message="A fault on our side", code="internal", retryable=False))
    assert _status(api, claim.request)["error"]["provider"] is None


def test_a_request_that_waits_for_a_retry_is_queued(api: APIClient, alice: User) -> None:
    claim = claimed(alice)
    back_in_queue(claim)
    shown = _status(api, claim.request)
    assert (shown["status"], shown["progress"], shown["error"]) == ("queued", 0, None)
    assert (shown["metadata"]["attempts"], shown["metadata"]["startedAt"]) == (1, None)
    assert shown["queuePosition"] == 1
    assert FAILURE.message not in str(shown)


def test_the_sequence_rises_with_every_change(api: APIClient, alice: User) -> None:
    request = queued(alice)
    seen = [_status(api, request)["sequence"]]
    claim = lifecycle.claim(request.pk, worker="worker-1")
    assert claim is not None
    seen.append(_status(api, request)["sequence"])
    back_in_queue(claim)
    seen.append(_status(api, request)["sequence"])
    assert lifecycle.cancel([request.pk], actor=alice)
    seen.append(_status(api, request)["sequence"])
    assert seen == [1, 2, 3, 4]


def test_the_queue_position_follows_priority_and_time(api: APIClient, alice: User, charlie: User) -> None:
    worker("one", slots=1)
    first, low, second = queued(alice), queued(alice, priority="low"), queued(charlie)
    urgent = queued(charlie, priority="urgent")
    staff = client_for(User.objects.create(username="bea", is_staff=True))
    shown = [_status(staff, request) for request in (urgent, first, second, low)]
    assert [place["queuePosition"] for place in shown] == [1, 2, 3, 4]
    waits = [place["estimatedWaitTime"] for place in shown]
    assert waits == sorted(waits)


def test_staff_see_the_requests_of_all_users(staff: APIClient, alice: User) -> None:
    assert _status(staff, completed(alice))["result"]["imageData"]


def test_a_status_can_be_requested_with_head(api: APIClient, alice: User) -> None:
    response = api.head(address("status", queued(alice).pk))
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize(("status", "queries"), [("queued", 2), ("in-progress", 2), ("completed", 2)])
def test_a_status_takes_few_queries(
    api: APIClient, alice: User, status: str, queries: int, django_assert_max_num_queries: Any
) -> None:
    """Queries for the user, and for the request with its queue row and the rows ahead.

    The data about workers and durations is cached.
    """
    request = _request(alice, status)
    _status(api, request)
    with django_assert_max_num_queries(queries):
        _status(api, request)


# --- ETags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", Status.values)
@pytest.mark.parametrize("sent", ["{etag}", "W/{etag}", '"other", {etag}', "*"])
def test_a_status_with_a_matching_etag_is_not_sent(api: APIClient, alice: User, status: str, sent: str) -> None:
    at = address("status", _request(alice, status).pk)
    whole = api.get(at)
    response = api.get(at, HTTP_IF_NONE_MATCH=sent.format(etag=whole["ETag"]))
    assert (response.status_code, response.content) == (304, b"")
    assert (response["ETag"], response["Cache-Control"]) == (whole["ETag"], "private, no-cache")
    assert whole["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize("sent", ['"other"', "", "{bare}", "é"])
def test_a_status_with_another_etag_is_sent(api: APIClient, alice: User, sent: str) -> None:
    at = address("status", queued(alice).pk)
    bare = api.get(at)["ETag"].strip('"')
    assert api.get(at, HTTP_IF_NONE_MATCH=sent.format(bare=bare)).status_code == 200


def test_the_etag_changes_with_every_change_of_the_body(api: APIClient, alice: User) -> None:
    ahead, request = queued(alice), queued(alice)
    at = address("status", request.pk)
    etags = [api.get(at)["ETag"]]
    assert lifecycle.cancel([ahead.pk], actor=alice)  # changes the queue position
    etags.append(api.get(at)["ETag"])
    claim = lifecycle.claim(request.pk, worker="worker-1")
    assert claim is not None
    etags.append(api.get(at)["ETag"])
    back_in_queue(claim)
    etags.append(api.get(at)["ETag"])
    assert lifecycle.cancel([request.pk], actor=alice)
    etags.append(api.get(at)["ETag"])
    assert len(set(etags)) == len(etags)
    assert api.get(at)["ETag"] == etags[-1]


def test_the_etag_depends_on_image_data(api: APIClient, alice: User) -> None:
    request, other = completed(alice), completed(alice)
    at = address("status", request.pk)
    etags = {api.get(one)["ETag"] for one in (at, f"{at}?imageData=false", address("status", other.pk))}
    assert len(etags) == 3
    assert api.get(f"{at}?imageData=true")["ETag"] in etags


def test_the_etag_changes_with_the_urls_in_a_result(api: APIClient, alice: User, settings: Any) -> None:
    at = address("status", completed(alice).pk)
    before = api.get(at)["ETag"]
    settings.IMAGE_URL_LIFETIME += timedelta(hours=1)
    assert api.get(at)["ETag"] != before


def test_an_unchanged_status_reads_no_image(api: APIClient, alice: User) -> None:
    request = completed(alice)
    at = address("status", request.pk)
    etag = api.get(at)["ETag"]
    default_storage.delete(request.result["image_key"])
    assert api.get(at, HTTP_IF_NONE_MATCH=etag).status_code == 304


def test_the_status_of_another_user_is_never_unchanged(api: APIClient, stranger: APIClient, alice: User) -> None:
    at = address("status", queued(alice).pk)
    for sent in (api.get(at)["ETag"], "*"):
        assert_error(stranger.get(at, HTTP_IF_NONE_MATCH=sent), 404, "not_found")
