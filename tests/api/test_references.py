"""Images that are sent with the prompt, as clients give them and see them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generation import caching
from generation.models import GenerationQueue, GenerationRequest
from generation.reports import doctor, prometheus
from generation.requests import lifecycle, maintenance, uploads
from generation.states import PARKED_WEIGHT
from tests.api.helpers import BATCH, PREFIX, REQUESTS, SUBMIT, UNKNOWN_ID, UNKNOWN_UPLOAD_ID, address, answer, body
from tests.support.races import at_once
from tests.support.requests import FAILURE, RESULT, claimed, completed, queued
from tests.support.uploads import upload_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _a_vendor_that_takes_images(settings: Any) -> None:
    settings.PROVIDERS, settings.PROVIDER_MODELS = ["openai"], {"openai": "gpt-image-2"}
    caching.clear_all()


def refer(*ids: str, **more: Any) -> list[dict[str, Any]]:
    return [{"requestId" if one.startswith("vga_") else "uploadId": one, **more} for one in ids]


def errors_of(client: APIClient, url: str = SUBMIT, **content: Any) -> list[tuple[str, str]]:
    answer = client.post(url, content if url == BATCH else body(**content), format="json")
    assert answer.status_code == 400, answer.content
    return [(error["path"], error["code"]) for error in answer.json()["errors"]]


# --- Given ------------------------------------------------------------------------------------------------------------


def test_a_request_shows_its_references_in_their_order(api: APIClient, alice: User) -> None:
    sheet, upload = completed(alice), upload_of(alice)
    references = [*refer(sheet.pk, name="Pip"), *refer(upload.pk, role="style")]
    answer = api.post(SUBMIT, body(references=references), format="json")
    assert answer.status_code == 200, answer.content
    shown = api.get(address("status", answer.json()["requestId"])).json()
    assert shown["references"] == [
        {
            "role": "character",
            "name": "Pip",
            "requestId": sheet.pk,
            "uploadId": None,
            "status": "completed",
            "sha256": sheet.result["sha256"],
        },
        {
            "role": "style",
            "name": None,
            "requestId": None,
            "uploadId": upload.pk,
            "status": "completed",
            "sha256": upload.sha256,
        },
    ]
    assert shown["queuePosition"] == 1
    assert api.get(REQUESTS).json()["results"][0]["references"] == shown["references"]


def test_a_request_says_what_it_waits_for(api: APIClient, alice: User) -> None:
    sheet = claimed(alice)
    accepted = api.post(SUBMIT, body(references=refer(sheet.request.pk)), format="json").json()
    assert accepted["estimatedWaitTime"] is None
    url = address("status", accepted["requestId"])
    first = api.get(url)
    assert first.json()["queuePosition"] is None
    assert first.json()["estimatedWaitTime"] is None
    waits = {"reason": "reference", "requestId": sheet.request.pk, "status": "in-progress"}
    assert first.json()["waitingFor"] == waits
    assert api.get(url, headers={"If-None-Match": first["ETag"]}).status_code == 304
    assert lifecycle.fail(sheet, FAILURE)
    second = api.get(url, headers={"If-None-Match": first["ETag"]})
    assert second.json()["waitingFor"] == waits | {"status": "failed"}
    lifecycle.retry(sheet.request.pk, actor=alice)
    again = lifecycle.claim(sheet.request.pk, worker="worker-1")
    assert again is not None
    lifecycle.complete(again, result=RESULT, model="openmoji-17")
    third = api.get(url).json()
    assert third["waitingFor"] is not None
    assert third["waitingFor"]["reason"] != "reference"
    assert third["queuePosition"] == 1


def test_the_etag_changes_when_a_reference_is_deleted(api: APIClient, alice: User) -> None:
    sheet = completed(alice)
    page = api.post(SUBMIT, body(references=refer(sheet.pk)), format="json").json()["requestId"]
    at = address("status", page) + "?imageData=false"
    claim = lifecycle.claim(page, worker="worker-1")
    assert claim is not None
    assert lifecycle.complete(claim, result=RESULT, model="openmoji-17")
    before = api.get(at)
    assert api.get(at, HTTP_IF_NONE_MATCH=before["ETag"]).status_code == 304
    GenerationRequest.objects.filter(pk=sheet.pk).delete()
    after = api.get(at, HTTP_IF_NONE_MATCH=before["ETag"])
    assert after.status_code == 200
    assert (before.json()["references"][0]["requestId"], after.json()["references"][0]["requestId"]) == (sheet.pk, None)


def test_figures_of_the_queue_leave_out_what_waits_for_an_image(api: APIClient, alice: User) -> None:
    page = body(references=refer(claimed(alice).request.pk))
    answer(api.post(SUBMIT, page, format="json"))
    queued(alice, priority="high")
    caching.clear_all()
    status, metrics = (answer(api.get(f"{PREFIX}/{path}")) for path in ("queue/status", "metrics"))
    assert (status["queueLength"], status["queuedByPriority"]["high"], metrics["queueLength"]) == (1, 1, 1)
    assert sum(one["count"] for one in metrics["backlog"].values()) == 1
    _, *gauges = prometheus._from_database()
    assert gauges
    assert not [found for found in doctor.findings() if "queue row" in found.what]


def test_a_whole_book_is_one_batch(api: APIClient, alice: User) -> None:
    page = {"references": [{"item": 0, "name": "Pip"}]}
    book = {"requests": [body(type="character-reference"), *(body(**page) for _ in range(3))]}
    answer = api.post(BATCH, book, format="json")
    assert answer.status_code == 200, answer.content
    sheet, *pages = [one["requestId"] for one in answer.json()["requests"]]
    assert GenerationQueue.objects.filter(priority_weight=PARKED_WEIGHT).count() == 3
    shown = api.get(address("batch", answer.json()["batchId"])).json()["requests"]
    assert [one["references"] and one["references"][0]["requestId"] for one in shown] == [[], sheet, sheet, sheet]
    claim = lifecycle.claim(sheet, worker="worker-1")
    assert claim is not None
    lifecycle.complete(claim, result=RESULT, model="openmoji-17")
    assert all(lifecycle.claim(one, worker="worker-1") for one in pages)


def test_an_image_may_be_edited_with_a_mask(api: APIClient, alice: User) -> None:
    source, mask = completed(alice), upload_of(alice)
    GenerationRequest.objects.filter(pk=source.pk).update(result=source.result | {"width": 80, "height": 64})
    answer = api.post(SUBMIT, body(editOf=source.pk, mask=mask.pk, maskMode="strict"), format="json")
    assert answer.status_code == 200, answer.content
    shown = api.get(address("status", answer.json()["requestId"])).json()
    assert (shown["editOf"], shown["references"]) == (source.pk, [])
    request = GenerationRequest.objects.get(pk=shown["requestId"])
    assert (request.options.references, request.options.mask_mode) == (("source",), "strict")


# --- Refused ----------------------------------------------------------------------------------------------------------


def test_others_images_look_as_unknown_ones(api: APIClient, stranger: APIClient, staff: APIClient, alice: User) -> None:
    mine, upload = completed(alice), upload_of(alice)
    unknown = stranger.post(SUBMIT, body(references=refer(UNKNOWN_ID, UNKNOWN_UPLOAD_ID)), format="json")
    for client in (stranger, staff):
        answer = client.post(SUBMIT, body(references=refer(mine.pk, upload.pk)), format="json")
        assert (answer.status_code, answer.content) == (400, unknown.content)
    assert errors_of(api, references=refer(UNKNOWN_ID)) == [("references[0].requestId", "not_found")]


@pytest.mark.parametrize(
    ("references", "error"),
    [
        ([{}], ("references[0]", "exactly_one")),
        ([{"requestId": UNKNOWN_ID, "uploadId": UNKNOWN_UPLOAD_ID}], ("references[0]", "exactly_one")),
        ([{"item": 0}], ("references[0].item", "not_found")),
        ([{"requestId": "nonsense"}], ("references[0].requestId", "not_found")),
        ([{"requestId": UNKNOWN_UPLOAD_ID}], ("references[0].requestId", "not_found")),
        ([{"uploadId": "../../etc/passwd"}], ("references[0].uploadId", "not_found")),
        ([{"requestId": UNKNOWN_ID, "role": "source"}], ("references[0].role", "invalid_choice")),
        ([{"requestId": UNKNOWN_ID, "name": "x" * 41}], ("references[0].name", "max_length")),
        ([{"requestId": 7}], ("references[0].requestId", "invalid")),
        ([7], ("references[0]", "invalid")),
        ("nonsense", ("references", "not_a_list")),
        ([{"requestId": UNKNOWN_ID}] * 17, ("references", "too_many_references")),
    ],
)
def test_a_bad_reference_is_named(api: APIClient, references: Any, error: tuple[str, str]) -> None:
    assert errors_of(api, references=references) == [error]
    path, code = error
    assert errors_of(api, BATCH, requests=[body(references=references)]) == [(f"requests[0].{path}", code)]


def test_a_failed_request_cannot_be_referred_to(api: APIClient, alice: User) -> None:
    sheet = claimed(alice)
    assert lifecycle.fail(sheet, FAILURE)
    assert errors_of(api, references=refer(sheet.request.pk)) == [("references[0].requestId", "not_usable")]


@pytest.mark.parametrize("item", [1, 2, 99])
def test_an_item_refers_only_to_earlier_ones(api: APIClient, item: int) -> None:
    book = [body(), body(references=[{"item": item}]), body()]
    assert errors_of(api, BATCH, requests=book) == [("requests[1].references[0].item", "not_found")]
    assert not GenerationRequest.objects.exists()


def test_a_mask_fits_the_image_that_it_masks(api: APIClient, alice: User) -> None:
    source, mask = completed(alice), upload_of(alice)
    assert errors_of(api, mask=mask.pk) == [("mask", "required")]
    assert errors_of(api, editOf=source.pk, mask=mask.pk) == [("mask", "mask_size")]
    assert errors_of(api, editOf=source.pk, mask=source.pk) == [("mask", "not_found")]
    assert errors_of(api, editOf=UNKNOWN_ID) == [("editOf", "not_found")]


def test_an_upload_in_use_is_not_deleted(api: APIClient, alice: User) -> None:
    upload = upload_of(alice)
    accepted = api.post(SUBMIT, body(references=refer(upload.pk)), format="json").json()
    answer = api.delete(address("uploads", upload.pk))
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert api.delete(address("cancel", accepted["requestId"])).status_code == 200
    assert api.delete(address("uploads", upload.pk)).status_code == 204


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}])
@pytest.mark.parametrize("url", [SUBMIT, BATCH])
def test_an_image_deleted_during_a_submit_is_not_found(
    api: APIClient, alice: User, monkeypatch: pytest.MonkeyPatch, url: str, headers: dict[str, str]
) -> None:
    upload = upload_of(alice)
    submit_rows = lifecycle.submit

    def delete_first(*arguments: Any, **named: Any) -> Any:
        assert at_once(lambda: uploads.delete(upload)) == [True]
        return submit_rows(*arguments, **named)

    monkeypatch.setattr(lifecycle, "submit", delete_first)
    page = body(references=refer(upload.pk))
    answer = api.post(url, page if url == SUBMIT else {"requests": [page]}, format="json", headers=headers)
    assert answer.status_code == 400, answer.content
    assert [error["code"] for error in answer.json()["errors"]] == ["not_found"]
    assert not GenerationRequest.objects.exists()


# --- Ended ------------------------------------------------------------------------------------------------------------


def test_a_page_that_is_given_up_says_why(api: APIClient, alice: User) -> None:
    sheet = claimed(alice)
    page = body(references=refer(sheet.request.pk), onReferenceFailure="cancel")
    url = address("status", api.post(SUBMIT, page, format="json").json()["requestId"])
    assert lifecycle.fail(sheet, FAILURE)
    maintenance.advance_parked()
    shown = api.get(url).json()
    assert (shown["status"], shown["cancelReason"]) == ("cancelled", "reference_failed")
    answer = api.post(address("retry", shown["requestId"]))
    assert (answer.status_code, answer.json()["code"]) == (409, "reference_failed")


def test_a_repeated_submit_with_references_is_the_first_one(api: APIClient, alice: User) -> None:
    content = body(references=refer(completed(alice).pk))
    ids = {
        api.post(SUBMIT, content, format="json", headers={"Idempotency-Key": "k"}).json()["requestId"] for _ in range(2)
    }
    assert len(ids) == 1
    other = api.post(SUBMIT, body(references=[]), format="json", headers={"Idempotency-Key": "k"})
    assert other.status_code == 409
