"""Uploads and references in the admin."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client

from generation.models import Upload
from generation.models.options import InputImage, Inputs
from generation.requests import services
from generation.requests.new_request import NewImage, NewRequest
from generation.storage import images
from tests.admin.pages import page_of, text
from tests.support.queries import queries_of
from tests.support.requests import PROMPT, completed
from tests.support.uploads import upload_of

pytestmark = pytest.mark.django_db

UPLOADS = "/admin/generation/upload/"


def delete(client: Client, *uploads: Upload, confirmed: bool = True) -> str:
    chosen = {"action": "delete_selected", "_selected_action": [upload.pk for upload in uploads]}
    answer = client.post(UPLOADS, chosen | ({"post": "yes"} if confirmed else {}), follow=True)
    return text(answer)


def page_with(owner: User, *images_of: NewImage) -> str:
    """Submit a request with these images; its id."""
    inputs = Inputs(
        images=tuple(InputImage(role=one.role, name=one.name, is_upload=bool(one.upload_id)) for one in images_of)
    )
    draft = NewRequest(type="illustration", prompt=PROMPT, priority="normal", images=images_of, inputs=inputs)
    return services.submit(owner=owner, draft=draft).pk


def test_uploads_are_listed_without_their_images(viewer: Client, alice: User, charlie: User) -> None:
    upload_of(alice)
    other = upload_of(charlie, name="owl.png")
    shown = viewer.get(UPLOADS)
    assert "upload-image" not in shown.content.decode()
    for words in ("pip.png", "owl.png", "alice", "80 × 64"):
        assert words in text(shown)
    assert "pip.png" not in text(viewer.get(UPLOADS, {"q": "charlie"}))
    assert "owl.png" in text(viewer.get(UPLOADS, {"q": other.pk}))


def test_the_list_of_uploads_takes_the_same_queries_for_any_number(viewer: Client, alice: User) -> None:
    upload_of(alice)
    viewer.get(UPLOADS)
    one = queries_of(lambda: viewer.get(UPLOADS))
    for color in ("blue", "green", "black"):
        upload_of(alice, name=color, color=color)
    assert len(queries_of(lambda: viewer.get(UPLOADS))) == len(one)


def test_an_administrator_deletes_an_upload_with_its_file(administrator: Client, alice: User) -> None:
    upload = upload_of(alice)
    assert "Are you sure" in delete(administrator, upload, confirmed=False)
    delete(administrator, upload)
    assert not Upload.objects.exists()
    with pytest.raises(FileNotFoundError):
        images.read(upload.key)
    assert LogEntry.objects.filter(object_id=upload.pk).count() == 1


def test_an_upload_in_use_is_not_deleted(administrator: Client, alice: User) -> None:
    upload = upload_of(alice)
    page_with(alice, NewImage(role="character", path="references[0].uploadId", upload_id=upload.pk))
    assert "has not ended" in delete(administrator, upload, confirmed=False)
    delete(administrator, upload)
    assert Upload.objects.exists()


def test_an_operator_deletes_no_upload(operator: Client, alice: User) -> None:
    upload = upload_of(alice)
    operator.post(UPLOADS, {"action": "delete_selected", "_selected_action": [upload.pk], "post": "yes"})
    assert operator.post(f"{UPLOADS}{upload.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Upload.objects.exists()


def test_a_request_shows_the_images_sent_with_it(viewer: Client, alice: User) -> None:
    source, upload = completed(alice), upload_of(alice)
    request_id = page_with(
        alice,
        NewImage(role="character", name="Pip", path="references[0].requestId", request_id=source.pk),
        NewImage(role="style", path="references[1].uploadId", upload_id=upload.pk),
    )
    shown = viewer.get(page_of(request_id))
    assert "Images sent with it" in text(shown)
    for words in ("Character Pip", source.pk, "Style", upload.pk):
        assert words in text(shown)
    assert "upload-image" not in shown.content.decode()
    assert "Images sent with it" not in text(viewer.get(page_of(source.pk)))
