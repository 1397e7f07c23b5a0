"""Requests that wait for images of other requests: parked, started, cancelled, retried."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from generation.access import api_keys
from generation.access.grants import limited_user
from generation.db.functions import Now
from generation.models import ApiKey, GenerationQueue, GenerationReference, GenerationRequest, Upload
from generation.models.options import InputImage, Inputs
from generation.queue import control, run_limits
from generation.requests import (
    input_images,
    lifecycle,
    maintenance,
    positions,
    references,
    representations,
    retention,
    services,
    uploads,
)
from generation.requests.new_request import NewImage, NewRequest
from generation.requests.references import InvalidReferencesError, ReferenceFailedError
from generation.states import PARKED_WEIGHT, Status
from tests.support.keys import key_of
from tests.support.races import at_once
from tests.support.requests import FAILURE, PROMPT, RESULT, claimed, completed, queued
from tests.support.uploads import upload_of

pytestmark = pytest.mark.django_db(transaction=True)


def page_of(*sources: GenerationRequest | Upload | int, cancel: bool = False, **more: Any) -> NewRequest:
    """A request that refers to these sources; a number is that of an item of the same batch."""
    images = []
    for number, source in enumerate(sources):
        key = "item" if isinstance(source, int) else "upload_id" if isinstance(source, Upload) else "request_id"
        value = source if isinstance(source, int) else source.pk
        given: dict[str, Any] = {key: value}
        images.append(NewImage(role="character", name="Pip", path=f"references[{number}].{key}", **given))
    inputs = Inputs(
        images=tuple(InputImage(role=one.role, name=one.name, is_upload=bool(one.upload_id)) for one in images),
        cancel_on_failure=cancel,
    )
    values: dict[str, Any] = {"type": "illustration", "prompt": PROMPT, "priority": "normal"}
    return NewRequest(**values | more, images=tuple(images), inputs=inputs)


def submit(owner: User, *sources: GenerationRequest | Upload, **more: Any) -> GenerationRequest:
    return services.submit(owner=owner, draft=page_of(*sources, **more))


def entry(request: GenerationRequest) -> GenerationQueue:
    return GenerationQueue.objects.get(pk=request.pk)


def is_parked(request: GenerationRequest) -> bool:
    return entry(request).priority_weight == PARKED_WEIGHT


def complete(claim: Any) -> None:
    assert lifecycle.complete(claim, result=RESULT, model="openmoji-17")


def status_of(request: GenerationRequest) -> str:
    return GenerationRequest.objects.get(pk=request.pk).status


# --- Start ------------------------------------------------------------------------------------------------------------


def test_a_page_whose_images_are_there_starts_at_once(alice: User) -> None:
    page = submit(alice, completed(alice), upload_of(alice))
    assert not is_parked(page)
    assert lifecycle.claim(page.pk, worker="worker-1") is not None


def test_a_page_waits_for_its_image_and_starts_with_its_end(alice: User) -> None:
    claim = claimed(alice)
    page = submit(alice, claim.request)
    assert is_parked(page)
    assert lifecycle.claim(page.pk, worker="worker-1") is None
    complete(claim)
    assert entry(page).priority_weight == 10
    assert lifecycle.claim(page.pk, worker="worker-1") is not None


def test_a_page_waits_for_all_of_its_images(alice: User) -> None:
    first, second = claimed(alice), claimed(alice)
    page = submit(alice, first.request, second.request, upload_of(alice))
    complete(second)
    assert is_parked(page)
    complete(first)
    assert not is_parked(page)


def test_an_end_that_was_not_told_is_found_by_the_dispatcher(alice: User) -> None:
    claim = claimed(alice)
    page = submit(alice, claim.request)
    GenerationQueue.objects.filter(pk=page.pk).update(queued_at=Now() - timedelta(hours=1))
    assert maintenance.advance_parked() == 0
    assert maintenance.advance_parked() == 0
    GenerationRequest.objects.filter(pk=claim.request.pk).update(
        status=Status.COMPLETED, result=RESULT, completed_at=Now(), lease_expires_at=None
    )
    assert maintenance.advance_parked() == 0  # it was looked at a moment ago
    GenerationQueue.objects.filter(pk=page.pk).update(available_at=Now() - timedelta(seconds=1))
    assert maintenance.advance_parked() == 1
    assert not is_parked(page)


@pytest.mark.parametrize(
    ("waited", "pause"), [(timedelta(0), 1), (timedelta(seconds=20), 20), (timedelta(hours=2), 60)]
)
def test_a_young_page_is_looked_at_again_sooner(alice: User, waited: timedelta, pause: int) -> None:
    page = submit(alice, claimed(alice).request)
    GenerationQueue.objects.filter(pk=page.pk).update(queued_at=Now() - waited)
    looked_from = timezone.now()
    assert maintenance.advance_parked() == 0
    next_look = (entry(page).available_at - looked_from).total_seconds()
    assert pause <= next_look < pause + 5


def test_what_is_parked_is_neither_counted_nor_promoted_nor_sent(alice: User, settings: Any) -> None:
    settings.PROMOTION_AFTER = timedelta(0)
    source = claimed(alice)
    pages = [submit(alice, source.request, priority=priority) for priority in ("urgent", "low")]
    other = queued(alice, priority="low")
    assert positions.of_request(pages[0]) == positions.PARKED
    parked = positions.of_request(GenerationRequest.objects.get(pk=pages[0].pk))
    assert parked is not None
    assert (parked.position, parked.estimate) == (None, None)
    position = positions.of_request(GenerationRequest.objects.get(pk=other.pk))
    assert position is not None
    assert position.position == 1
    maintenance.promote_long_waiting()
    maintenance.fill_free_slots()
    assert all(map(is_parked, pages))
    assert all(entry(page).dispatched_at is None for page in pages)


def test_a_parked_page_takes_no_slot_of_its_batch(alice: User) -> None:
    source = claimed(alice)
    drafts = [page_of(source.request), NewRequest(type="cover", prompt=PROMPT, priority="normal"), page_of(0)]
    _, (first, free, last) = services.submit_batch(owner=alice, drafts=drafts, priority="normal", max_concurrent=1)
    assert [is_parked(page) for page in (first, free, last)] == [True, False, True]
    claim = lifecycle.claim(free.pk, worker="worker-1")
    assert claim is not None
    complete(source)
    assert entry(first).held
    complete(claim)
    assert not entry(first).held
    assert is_parked(last)


def test_all_pages_of_a_sheet_in_one_batch_start_with_its_end(alice: User) -> None:
    sheet = NewRequest(type="character-reference", prompt=PROMPT, priority="normal")
    _, (first, *pages) = services.submit_batch(
        owner=alice, drafts=[sheet, *(page_of(0) for _ in range(50))], priority="normal", max_concurrent=None
    )
    assert all(map(is_parked, pages))
    claim = lifecycle.claim(first.pk, worker="worker-1")
    assert claim is not None
    complete(claim)
    assert not GenerationQueue.objects.filter(priority_weight=PARKED_WEIGHT).exists()


def test_a_parked_page_of_a_limited_key_waits_for_its_slot(alice: User) -> None:
    _, secret = key_of(alice, max_active=1)
    found = api_keys.find(secret, address="")
    assert found is not None
    caller = limited_user(found.owner, found.grant)
    source = claimed(alice)
    pages = [submit(caller, source.request) for _ in range(3)]
    run_limits.KEY.fill(ApiKey.objects.get().pk)
    assert all(map(is_parked, pages))
    complete(source)
    assert sorted(entry(page).held for page in pages) == [False, True, True]


def test_another_priority_or_a_requeue_does_not_start_it(alice: User) -> None:
    source = claimed(alice)
    page = submit(alice, source.request)
    assert control.change_priority([page.pk], "urgent") == [page.pk]
    assert control.requeue([page.pk]) == [page.pk]
    assert is_parked(page)
    complete(source)
    assert entry(page).priority_weight == 1000


def test_a_source_that_ends_while_pages_are_submitted_starts_them_all(alice: User) -> None:
    claims = [claimed(alice) for _ in range(6)]

    def submit_pages() -> bool:
        return all(submit(alice, claim.request).pk for claim in claims)

    def complete_all() -> bool:
        for claim in claims:
            complete(claim)
        return True

    assert at_once(submit_pages, complete_all) == [True, True]
    maintenance.advance_parked()
    assert not GenerationQueue.objects.filter(priority_weight=PARKED_WEIGHT).exists()


# --- Failure ----------------------------------------------------------------------------------------------------------


def fail_or_cancel(claim: Any, how: str) -> None:
    if how == "failed":
        assert lifecycle.fail(claim, FAILURE)
    else:
        assert lifecycle.cancel([claim.request.pk], actor=claim.request.owner)


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_a_page_waits_until_its_failed_image_is_retried(alice: User, how: str) -> None:
    source = claimed(alice)
    pages = [submit(alice, source.request) for _ in range(2)]
    fail_or_cancel(source, how)
    assert maintenance.advance_parked() == 0
    image = input_images.waits_for(GenerationRequest.objects.get(pk=pages[0].pk))
    assert image is not None
    assert (image.source_id, image.status) == (source.request.pk, how)
    lifecycle.retry(source.request.pk, actor=alice)
    claim = lifecycle.claim(source.request.pk, worker="worker-1")
    assert claim is not None
    complete(claim)
    assert not any(map(is_parked, pages))


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_a_page_may_be_cancelled_with_its_image(alice: User, how: str) -> None:
    other, source = claimed(alice), claimed(alice)
    page = submit(alice, other.request, source.request, cancel=True)
    fail_or_cancel(source, how)
    assert maintenance.advance_parked() == 1
    found = GenerationRequest.objects.get(pk=page.pk)
    assert (found.status, found.cancel_reason) == (Status.CANCELLED, "reference_failed")
    assert maintenance.advance_parked() == 0


def test_a_chain_is_cancelled_in_one_pass(alice: User) -> None:
    source = claimed(alice)
    first = submit(alice, source.request, cancel=True)
    second = submit(alice, first, cancel=True)
    third = submit(alice, second)
    fail_or_cancel(source, "failed")
    assert maintenance.advance_parked() == 2
    assert [status_of(first), status_of(second)] == [Status.CANCELLED] * 2
    assert is_parked(third)


def test_patience_ends(alice: User, settings: Any) -> None:
    source = claimed(alice)
    page = submit(alice, source.request)
    fail_or_cancel(source, "failed")
    GenerationRequest.objects.filter(pk=source.request.pk).update(completed_at=Now() - timedelta(days=8))
    assert maintenance.advance_parked() == 1
    assert GenerationRequest.objects.get(pk=page.pk).cancel_reason == "reference_failed"


def test_a_retry_waits_again_and_refuses_what_cannot_come(alice: User) -> None:
    source = claimed(alice)
    waiting, giving_up = submit(alice, source.request), submit(alice, source.request, cancel=True)
    fail_or_cancel(source, "failed")
    lifecycle.cancel([waiting.pk, giving_up.pk], actor=alice)
    services.retry(user=alice, request=GenerationRequest.objects.get(pk=waiting.pk))
    assert is_parked(waiting)
    with pytest.raises(ReferenceFailedError):
        services.retry(user=alice, request=GenerationRequest.objects.get(pk=giving_up.pk))
    services.retry(user=alice, request=GenerationRequest.objects.get(pk=source.request.pk))
    services.retry(user=alice, request=GenerationRequest.objects.get(pk=giving_up.pk))
    assert is_parked(giving_up)
    claim = lifecycle.claim(source.request.pk, worker="worker-1")
    assert claim is not None
    complete(claim)
    assert not is_parked(waiting)
    assert not is_parked(giving_up)


def test_a_page_whose_image_was_deleted_is_cancelled(alice: User) -> None:
    source = claimed(alice)
    page = submit(alice, source.request)
    GenerationRequest.objects.filter(pk=source.request.pk).delete()
    assert maintenance.advance_parked() == 1
    assert GenerationRequest.objects.get(pk=page.pk).cancel_reason == "reference_failed"
    with pytest.raises(ReferenceFailedError):
        services.retry(user=alice, request=GenerationRequest.objects.get(pk=page.pk))


# --- What may be referred to ------------------------------------------------------------------------------------------


def mistake_of(owner: User, *sources: Any) -> tuple[str, str]:
    with pytest.raises(InvalidReferencesError) as caught:
        submit(owner, *sources)
    [mistake] = caught.value.mistakes
    return mistake.path, mistake.code


def test_others_images_are_as_unknown(alice: User, bob: User) -> None:
    mine = completed(alice)
    unknown = GenerationRequest(pk="vga_1700000000000000_000000000000000000")
    assert mistake_of(bob, mine) == mistake_of(bob, unknown) == ("references[0].request_id", "not_found")
    assert mistake_of(bob, upload_of(alice))[1] == "not_found"


def test_an_image_of_a_failed_request_cannot_be_used(alice: User) -> None:
    source = claimed(alice)
    fail_or_cancel(source, "failed")
    assert mistake_of(alice, upload_of(alice), source.request)[1] == "not_usable"


def test_a_key_refers_only_to_its_projects(alice: User) -> None:
    _, secret = key_of(alice, allowed_projects=["book"])
    found = api_keys.find(secret, address="")
    assert found is not None
    caller = limited_user(found.owner, found.grant)
    inside, outside = completed(alice, project_id="book"), completed(alice, project_id="other")
    assert submit(caller, inside, project_id="book").inputs is not None
    with pytest.raises(InvalidReferencesError):
        submit(caller, outside, project_id="book")


def test_an_upload_deleted_during_a_submit_is_not_found(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = upload_of(alice)
    submit_rows = lifecycle.submit

    def delete_first(*arguments: Any, **named: Any) -> Any:
        uploads.delete(upload)
        return submit_rows(*arguments, **named)

    monkeypatch.setattr(lifecycle, "submit", delete_first)
    assert mistake_of(alice, upload)[1] == "not_found"
    assert not GenerationRequest.objects.exists()


# --- Kept while needed ------------------------------------------------------------------------------------------------


def test_an_upload_is_kept_while_a_request_needs_it(alice: User, settings: Any) -> None:
    upload = upload_of(alice)
    page = submit(alice, upload)
    Upload.objects.update(last_used_at=Now() - timedelta(days=100))
    with pytest.raises(uploads.InUseError):
        uploads.delete(upload)
    assert sum(retention.delete_old_uploads()) == 0
    lifecycle.cancel([page.pk], actor=alice)
    assert uploads.delete(upload)
    assert GenerationReference.objects.get().upload_id is None


def test_a_use_is_noted_at_most_once_an_hour(alice: User) -> None:
    upload = upload_of(alice)
    old = Upload.objects.get().last_used_at - timedelta(days=20)
    Upload.objects.update(last_used_at=old)
    submit(alice, upload)
    noted = Upload.objects.get().last_used_at
    assert noted > old + timedelta(days=19)
    submit(alice, upload)
    assert Upload.objects.get().last_used_at == noted


def test_prune_spares_the_image_that_a_waiting_page_needs(alice: User, settings: Any) -> None:
    settings.RESULT_RETENTION_DAYS = 1
    old, source = completed(alice), claimed(alice)
    page = submit(alice, old, source.request)
    GenerationRequest.objects.filter(pk=old.pk).update(completed_at=Now() - timedelta(days=9))
    assert sum(retention.delete_ended()) == 0
    lifecycle.cancel([page.pk], actor=alice)
    assert sum(retention.delete_ended()) == 1
    shown = representations.status(GenerationRequest.objects.get(pk=page.pk))["references"]
    assert [one["requestId"] for one in shown] == [None, source.request.pk]


# --- Shown ------------------------------------------------------------------------------------------------------------


def test_the_status_shows_the_images_in_their_order(alice: User) -> None:
    upload, source = upload_of(alice), completed(alice)
    page = submit(alice, source, upload)
    shown = representations.status(GenerationRequest.objects.get(pk=page.pk))["references"]
    common = {"role": "character", "name": "Pip", "status": "completed"}
    assert shown == [
        common | {"requestId": source.pk, "uploadId": None, "sha256": source.result["sha256"]},
        common | {"requestId": None, "uploadId": upload.pk, "sha256": upload.sha256},
    ]


def test_images_of_many_requests_are_read_by_one_query(alice: User, django_assert_num_queries: Any) -> None:
    source = completed(alice)
    pages = [submit(alice, source) for _ in range(3)] + [queued(alice)]
    found = list(GenerationRequest.objects.filter(pk__in=[page.pk for page in pages]).order_by("pk"))
    with django_assert_num_queries(1):
        input_images.attach(found)
        shown = [representations.status(request)["references"] for request in found]
    assert [len(images) for images in shown] == [1, 1, 1, 0]
    with django_assert_num_queries(0):
        representations.status(GenerationRequest(pk="vga_1", created_at=source.created_at))


def test_the_hash_of_what_was_sent_stays(alice: User) -> None:
    source = completed(alice)
    page = submit(alice, source)
    claim = lifecycle.claim(page.pk, worker="worker-1")
    assert claim is not None
    [image] = input_images.of_request(claim.request)
    input_images.note_sent(page.pk, claim.number, [replace(image, sha256="f" * 64)], ["e" * 64])
    assert claim.attempt().get().sent_images == ["e" * 64]
    GenerationRequest.objects.filter(pk=source.pk).delete()
    shown = representations.status(GenerationRequest.objects.get(pk=page.pk))["references"]
    assert [one["sha256"] for one in shown] == ["f" * 64]
    assert not references.is_waiting(queued(alice))
