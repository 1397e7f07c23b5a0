"""``manage.py prune``: what is old goes, what is referred to stays."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from generation.models import GenerationBatch, GenerationRequest, IdempotencyKey, SharedPicture, StatusChange, Upload
from generation.requests import lifecycle, retention
from generation.states import Status
from generation.storage import images, receipts
from tests.support.requests import RESULT, claimed, completed, expire, queued
from tests.support.uploads import upload_of

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


def test_old_ended_requests_are_deleted_with_their_images(alice: User, settings: Any) -> None:
    settings.RESULT_RETENTION_DAYS = 30
    old, new, waits = completed(alice), completed(alice), queued(alice)
    age(old, days=31)
    age(new, days=29)
    gone = [old.result["image_key"], old.result["thumbnail_key"]]
    make_old(Path(settings.MEDIA_ROOT))
    prune()
    assert set(GenerationRequest.objects.values_list("pk", flat=True)) == {new.pk, waits.pk}
    assert not StatusChange.objects.filter(request_id=old.pk).exists()
    kept = {key for folder in ("results", "thumbnails") for key, _ in images.files(folder)}
    assert kept == {new.result["image_key"], new.result["thumbnail_key"]}
    assert not kept & set(gone)
    assert images.read(new.result["image_key"])


def test_by_default_nothing_is_too_old(alice: User, settings: Any) -> None:
    old = completed(alice)
    age(old, days=5000)
    make_old(Path(settings.MEDIA_ROOT))
    prune()
    assert images.read(old.result["image_key"])
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


def test_old_orphaned_files_are_deleted_and_young_ones_stay(alice: User, settings: Any) -> None:
    kept = completed(alice)
    old = images.save("results", "ab" * 32, "image/png", b"of a claim that was void")
    receipts.save(kept.pk, {"result": {}})
    make_old(Path(settings.MEDIA_ROOT))
    young = images.save("results", "cd" * 32, "image/png", b"its request is told in a moment")
    assert old in prune("--dry-run")
    assert images.read(old)
    prune()
    with pytest.raises(FileNotFoundError):
        images.read(old)
    assert receipts.find(kept.pk) is None
    assert images.read(young)
    assert images.read(kept.result["image_key"])


def test_a_receipt_of_a_request_that_goes_on_stays(alice: User, settings: Any) -> None:
    waits = queued(alice)
    receipts.save(waits.pk, {"result": {}})
    make_old(Path(settings.MEDIA_ROOT))
    prune()
    assert [key for key, _ in images.files("receipts")] == [f"receipts/{waits.pk}.json"]


def test_bytes_that_are_needed_again_become_young(settings: Any) -> None:
    key = images.save("results", "ef" * 32, "image/png", b"the same again")
    make_old(Path(settings.MEDIA_ROOT))
    assert images.save("results", "ef" * 32, "image/png", b"the same again") == key
    prune()
    assert images.read(key) == b"the same again"


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
    assert prune().split("\n")[:5] == [
        "requests and batches deleted: 0",
        "idempotency keys deleted: 0",
        "webhook deliveries deleted: 0",
        "sessions and tokens deleted: 0",
        "files removed: 0",
    ]
    assert not GenerationRequest.objects.filter(status=Status.COMPLETED).exists()


def test_unused_uploads_are_deleted_with_their_files(alice: User, settings: Any) -> None:
    old, used, new = (upload_of(alice, color=color) for color in ("red", "green", "blue"))
    orphan = images.save_as("uploads/zz/vgu_1700000000000000_000000000000000000", "image/png", BytesIO(b"x"))
    Upload.objects.exclude(pk=new.pk).update(created_at=timezone.now() - timedelta(days=90))
    Upload.objects.filter(pk=old.pk).update(last_used_at=timezone.now() - timedelta(days=31))
    Upload.objects.filter(pk=used.pk).update(last_used_at=timezone.now() - timedelta(days=29))
    settings.UPLOAD_RETENTION_DAYS = 0
    assert list(retention.delete_old_uploads()) == []
    settings.UPLOAD_RETENTION_DAYS = 30
    # A file that is new stays without a row, since its row may be about to come.
    assert "uploads deleted: 1" in prune()
    assert {key for key, _ in images.files("uploads")} == {old.key, used.key, new.key, orphan}
    make_old(Path(settings.MEDIA_ROOT))
    assert "files removed: 2" in prune()
    assert {key for key, _ in images.files("uploads")} == {used.key, new.key}
    assert set(Upload.objects.values_list("pk", flat=True)) == {used.pk, new.pk}


def test_an_upload_that_is_used_meanwhile_stays(alice: User, settings: Any) -> None:
    upload = upload_of(alice)
    Upload.objects.update(last_used_at=timezone.now() - timedelta(days=31))
    with transaction.atomic():
        again = upload_of(alice)
        assert ThreadPoolExecutor(1).submit(_deleted_uploads).result(timeout=20) == 0
    assert again.pk == upload.pk
    assert prune().count("uploads deleted: 0") == 1


def _deleted_uploads() -> int:
    try:
        return sum(retention.delete_old_uploads())
    finally:
        connection.close()


# --- What prune must leave alone --------------------------------------------------------------------------------------


def stored_and_killed(owner: User) -> GenerationRequest:
    """A queued request whose paid image is stored with its receipt, and whose worker was killed before its end."""
    claim = claimed(owner)
    keys = {}
    for folder, kind, name in (("results", "image/png", "image_key"), ("thumbnails", "image/webp", "thumbnail_key")):
        data = f"{folder} paid for {claim.request.pk}".encode()
        keys[name] = images.save(folder, hashlib.sha256(data).hexdigest(), kind, data)
    receipts.save(claim.request.pk, {"result": keys, "model": "m"})
    expire(claim)
    assert lifecycle.rescue(claim.request.pk) == Status.QUEUED
    return claim.request


def test_a_paid_image_whose_request_is_queued_stays(alice: User, settings: Any) -> None:
    waits = stored_and_killed(alice)
    make_old(Path(settings.MEDIA_ROOT))
    prune()
    assert receipts.find(waits.pk)
    lifecycle.cancel([waits.pk], actor=alice)
    assert "files removed: 3" in prune()


@pytest.mark.parametrize(
    "name",
    [
        *("README.txt", "Thumbs.db", "backup-2026.tar", ".DS_Store", "aa/.nfs0000001", "aa/notes", "aa/ÀÉ.png"),
        *("AA/" + "A" * 64 + ".png", "aa/" + "g" * 64 + ".png", "aa/" + "a" * 63 + ".png", "aa/" + "a" * 64),
    ],
)
@pytest.mark.parametrize("folder", ["results", "thumbnails", "receipts", "probes"])
def test_foreign_files_stay_and_stop_nothing(folder: str, name: str, settings: Any) -> None:
    stray = Path(settings.MEDIA_ROOT) / folder / name
    stray.parent.mkdir(parents=True)
    stray.write_text("not ours")
    orphan = images.save("thumbnails", "a" * 64, "image/webp", b"of no request")
    make_old(Path(settings.MEDIA_ROOT))
    assert "files removed: 1" in prune()
    assert stray.exists()
    with pytest.raises(FileNotFoundError):
        images.read(orphan)


def test_drafts_of_killed_workers_go(settings: Any) -> None:
    draft = Path(settings.MEDIA_ROOT) / "results" / "aa" / ".draft-0123456789abcdef"
    draft.parent.mkdir(parents=True)
    draft.touch()
    make_old(Path(settings.MEDIA_ROOT))
    prune()
    assert not draft.exists()


def test_bytes_stored_again_while_prune_lists_stay(alice: User, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data, listed = b"the same bytes", images.files
    orphan = images.save("results", hashlib.sha256(data).hexdigest(), "image/png", data)
    make_old(Path(settings.MEDIA_ROOT))

    def stored_after_the_listing(folder: str) -> Any:
        page = list(listed(folder))
        if folder == "results":
            images.save("results", hashlib.sha256(data).hexdigest(), "image/png", data)
        yield from page

    monkeypatch.setattr(images, "files", stored_after_the_listing)
    assert "files removed: 0" in prune()
    assert images.read(orphan) == data


def test_an_old_image_that_a_request_is_completed_with_meanwhile_stays(
    alice: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with ``useCache``, where nothing is stored again."""
    data, listed = b"an old image", images.files
    orphan = images.save("results", hashlib.sha256(data).hexdigest(), "image/png", data)
    claim = claimed(alice)
    make_old(Path(settings.MEDIA_ROOT))

    def completed_after_the_listing(folder: str) -> Any:
        page = list(listed(folder))
        if folder == "results":
            assert lifecycle.complete(claim, result=RESULT | {"image_key": orphan}, model="m")
        yield from page

    monkeypatch.setattr(images, "files", completed_after_the_listing)
    prune()
    assert images.read(orphan) == data


@pytest.mark.parametrize("days", [-31, 31])
def test_prune_goes_by_no_clock_of_its_process(
    days: int, alice: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.RESULT_RETENTION_DAYS = 30
    one = completed(alice)
    young = images.save("results", "cd" * 32, "image/png", b"its request is completed in a moment")
    IdempotencyKey.objects.create(owner=alice, key="new", fingerprint="x")
    real, moved = time.time, timedelta(days=days).total_seconds()
    monkeypatch.setattr("time.time", lambda: real() + moved)
    now = timezone.now()
    monkeypatch.setattr("django.utils.timezone.now", lambda: now + timedelta(days=days))
    list(retention.delete_ended())
    list(retention.delete_old_keys())
    assert list(retention.sweep_orphans()) == []
    assert GenerationRequest.objects.get().pk == one.pk
    assert IdempotencyKey.objects.exists()
    assert images.read(young)


def test_a_full_disk_is_pruned(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    orphan = images.save("results", "ab" * 32, "image/png", b"of no request")
    make_old(Path(settings.MEDIA_ROOT))

    def full(*_: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(default_storage, "save", full)
    assert "files removed: 1" in prune()
    with pytest.raises(FileNotFoundError):
        images.read(orphan)


def test_a_shared_image_is_deleted_with_its_request(alice: User, settings: Any) -> None:
    settings.RESULT_RETENTION_DAYS = 1
    old, new = completed(alice), completed(alice)
    for key, holder in {"a": old, "b": new}.items():
        SharedPicture.objects.create(key=key, holder=holder)
    age(old, days=3)
    prune()
    assert SharedPicture.objects.get().holder == new


def test_deleting_takes_no_longer_beside_many_shared_rows(alice: User, settings: Any) -> None:
    settings.RESULT_RETENTION_DAYS = 1
    holder, old = completed(alice), [completed(alice) for _ in range(20)]
    SharedPicture.objects.bulk_create(SharedPicture(key=f"{n:064}", holder=holder) for n in range(2_000))
    for one in old:
        age(one, days=2)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE generation_shared_pictures")
    plan = SharedPicture.objects.filter(holder_id__in=[one.pk for one in old]).explain()
    assert "shared_picture_holder" in plan
    assert list(retention.delete_ended()) == [20]
