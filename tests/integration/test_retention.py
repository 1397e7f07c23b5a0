"""``manage.py prune``: what is old goes, what is referred to stays."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.utils import timezone

from generation import retention, storage
from generation.models import GenerationBatch, GenerationRequest, IdempotencyKey, StatusChange
from generation.states import Status
from tests.support.requests import completed, queued

pytestmark = pytest.mark.django_db(transaction=True)


def age(request: GenerationRequest, *, days: int) -> None:
    GenerationRequest.objects.filter(pk=request.pk).update(completed_at=timezone.now() - timedelta(days=days))


def make_old(folder: Path) -> None:
    """Everything in the storage was written three days ago."""
    then = time.time() - 3 * 86_400
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def prune(*options: str) -> str:
    output = StringIO()
    call_command("prune", *options, stdout=output)
    return output.getvalue()


def test_what_ended_long_ago_is_deleted_with_its_pictures(alice: User, settings: Any) -> None:
    settings.RESULT_RETENTION_DAYS = 30
    old, new, waits = completed(alice), completed(alice), queued(alice)
    age(old, days=31)
    age(new, days=29)
    gone = [old.result["image_key"], old.result["thumbnail_key"]]
    make_old(Path(settings.MEDIA_ROOT))
    prune()
    assert set(GenerationRequest.objects.values_list("pk", flat=True)) == {new.pk, waits.pk}
    assert not StatusChange.objects.filter(request_id=old.pk).exists()
    kept = {key for folder in ("results", "thumbnails") for key, _ in storage.files(folder)}
    assert kept == {new.result["image_key"], new.result["thumbnail_key"]}
    assert not kept & set(gone)
    assert storage.read(new.result["image_key"])


def test_by_default_nothing_is_too_old(alice: User, settings: Any) -> None:
    old = completed(alice)
    age(old, days=5000)
    make_old(Path(settings.MEDIA_ROOT))
    prune()
    assert storage.read(old.result["image_key"])
    assert GenerationRequest.objects.count() == 1


def test_it_goes_in_steps(alice: User, settings: Any) -> None:
    settings.RESULT_RETENTION_DAYS = 1
    for _ in range(5):
        age(completed(alice), days=2)
    assert list(retention.delete_ended(step=2)) == [2, 2, 1]


def test_a_batch_goes_when_its_last_request_has(alice: User, settings: Any) -> None:
    settings.RESULT_RETENTION_DAYS = 1
    batch = GenerationBatch.objects.create(id="vgb_1_old", owner=alice)
    GenerationBatch.objects.update(created_at=timezone.now() - timedelta(days=3))
    one, other = completed(alice), completed(alice)
    GenerationRequest.objects.update(batch=batch)
    age(one, days=2)
    list(retention.delete_ended())
    assert GenerationBatch.objects.exists()
    age(other, days=2)
    list(retention.delete_ended())
    assert not GenerationBatch.objects.exists()


def test_files_that_nobody_refers_to_go_and_young_ones_stay(alice: User, settings: Any) -> None:
    kept = completed(alice)
    old = storage.save("results", "ab" * 32, "image/png", b"of a claim that was void")
    storage.save_receipt(kept.pk, {"result": {}})
    make_old(Path(settings.MEDIA_ROOT))
    young = storage.save("results", "cd" * 32, "image/png", b"its request is told in a moment")
    assert old in prune("--dry-run")
    assert storage.read(old)
    prune()
    with pytest.raises(FileNotFoundError):
        storage.read(old)
    assert storage.find_receipt(kept.pk) is None
    assert storage.read(young)
    assert storage.read(kept.result["image_key"])


def test_a_receipt_of_a_request_that_goes_on_stays(alice: User, settings: Any) -> None:
    waits = queued(alice)
    storage.save_receipt(waits.pk, {"result": {}})
    make_old(Path(settings.MEDIA_ROOT))
    prune()
    assert [key for key, _ in storage.files("receipts")] == [f"receipts/{waits.pk}.json"]


def test_bytes_that_are_needed_again_become_young(settings: Any) -> None:
    key = storage.save("results", "ef" * 32, "image/png", b"the same again")
    make_old(Path(settings.MEDIA_ROOT))
    assert storage.save("results", "ef" * 32, "image/png", b"the same again") == key
    prune()
    assert storage.read(key) == b"the same again"


def test_keys_that_no_longer_count_go(alice: User) -> None:
    for name, hours in {"old": 25, "new": 23}.items():
        IdempotencyKey.objects.create(owner=alice, key=name, fingerprint="x")
        IdempotencyKey.objects.filter(key=name).update(created_at=timezone.now() - timedelta(hours=hours))
    prune()
    assert IdempotencyKey.objects.get().key == "new"


def test_a_second_run_finds_nothing(alice: User, settings: Any) -> None:
    settings.RESULT_RETENTION_DAYS = 1
    age(completed(alice), days=2)
    make_old(Path(settings.MEDIA_ROOT))
    prune()
    assert prune().split("\n")[:3] == [
        "requests and batches deleted: 0",
        "idempotency keys deleted: 0",
        "files removed: 0",
    ]
    assert not GenerationRequest.objects.filter(status=Status.COMPLETED).exists()
