"""``GET /requests/ID/provenance``, and the mark in what is derived from a model's image."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generation.models import GenerationAttempt, GenerationReference, GenerationRequest
from generation.models.options import InputImage, Inputs
from generation.states import Status
from tests.api.helpers import UNKNOWN_ID, address, answer, assert_error, completed
from tests.support.requests import in_status
from tests.support.uploads import upload_of

KEYS = {
    *("requestId", "type", "prompt", "promptSent", "provider", "model", "seed", "references", "editOf", "sha256"),
    *("bytes", "contentType", "width", "height", "createdAt", "completedAt", "cost", "digitalSourceType"),
}


def provenance(api: APIClient, request_id: str) -> Any:
    return api.get(f"{address('requests', request_id)}/provenance")


def test_it_says_how_the_image_was_made(api: APIClient, alice: User) -> None:
    request = completed(alice)
    sent = "A friendly dragon, coloring book style"
    GenerationAttempt.objects.filter(request=request).update(prompt=sent)
    found = answer(provenance(api, request.pk))
    assert found.keys() == KEYS
    status = answer(api.get(address("status", request.pk)))
    assert found["promptSent"] == sent
    for key in ("requestId", "type", "prompt", "references", "editOf"):
        assert found[key] == status[key]
    for key in ("provider", "model", "seed", "sha256", "bytes", "contentType", "width", "height", "cost"):
        assert found[key] == status["result"][key]
    assert (found["createdAt"], found["completedAt"]) == (
        status["metadata"]["requestedAt"],
        status["metadata"]["completedAt"],
    )


@pytest.mark.parametrize(
    ("provider", "source"), [("clipart", "digitalCreation"), ("openai", "trainedAlgorithmicMedia")]
)
def test_the_source_type_is_iptcs_term(api: APIClient, alice: User, provider: str, source: str) -> None:
    request = completed(alice)
    GenerationRequest.objects.filter(pk=request.pk).update(result=request.result | {"provider": provider})
    assert answer(provenance(api, request.pk))["digitalSourceType"] == source


def test_an_image_from_the_cache_has_no_sent_prompt(api: APIClient, alice: User) -> None:
    request = completed(alice)
    assert answer(provenance(api, request.pk))["promptSent"] is None


def test_it_names_the_images_that_were_sent(api: APIClient, alice: User) -> None:
    source, request, upload = completed(alice), completed(alice), upload_of(alice)
    images = (InputImage(role="source"), InputImage(role="character", name="Pip", is_upload=True))
    GenerationRequest.objects.filter(pk=request.pk).update(inputs=Inputs(images=images).as_column())
    GenerationReference.objects.create(request=request, position=0, source=source)
    GenerationReference.objects.create(request=request, position=1, upload=upload)
    found = answer(provenance(api, request.pk))
    assert found["editOf"] == source.pk
    [reference] = found["references"]
    assert reference == {
        "role": "character",
        "name": "Pip",
        "requestId": None,
        "uploadId": upload.pk,
        "sha256": upload.sha256,
    }


@pytest.mark.parametrize("status", [one for one in Status if one != Status.COMPLETED])
def test_a_request_without_an_image_has_none(api: APIClient, alice: User, status: Status) -> None:
    assert_error(provenance(api, in_status(alice, status).pk), 409, "not_completed")


def test_that_of_another_user_is_not_found(stranger: APIClient, alice: User) -> None:
    theirs, unknown = provenance(stranger, completed(alice).pk), provenance(stranger, UNKNOWN_ID)
    assert_error(theirs, 404, "not_found")
    assert theirs.content == unknown.content
