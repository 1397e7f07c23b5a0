"""Results in a bucket, on a real server that speaks S3."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from django.contrib.auth.models import User

from config.embedded import free_port
from generation import representations, retention, storage
from generation.states import Status
from tests.support.executors import executor
from tests.support.requests import completed, queued
from tests.support.stack import ROOT, closed_port, wait_until
from workers.providers.clipart.provider import ClipartProvider

pytestmark = pytest.mark.django_db(transaction=True)

BUCKET = "pictures"
KEYS = {"aws_access_key_id": "only-for-tests", "aws_secret_access_key": "only-for-tests-as-well"}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Its address."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                return httpx.get(f"{url}/moto-api/").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answers, seconds=60, what="the S3 server")
        boto3.client("s3", endpoint_url=url, region_name="us-east-1", **KEYS).create_bucket(Bucket=BUCKET)
        yield url
        process.kill()


@pytest.fixture(autouse=True)
def _in_the_bucket(server: str, settings: Any) -> None:
    use(settings, server)


def use(settings: Any, address: str) -> None:
    options = {"bucket_name": BUCKET, "region_name": "us-east-1", "endpoint_url": address}
    options |= {"access_key": KEYS["aws_access_key_id"], "secret_key": KEYS["aws_secret_access_key"]}
    default = {"BACKEND": "generation.buckets.BucketStorage", "OPTIONS": options}
    settings.STORAGES = settings.STORAGES | {"default": default}
    settings.RESULT_STORAGE = "s3"
    storage._bucket_address.cache_clear()


@pytest.mark.usefixtures("empty_queues")
def test_a_worker_keeps_its_picture_there_and_its_address_is_signed(alice: User, server: str) -> None:
    request = queued(alice)
    executor(ClipartProvider()).run(request.pk)
    request.refresh_from_db()
    assert request.status == Status.COMPLETED
    shown = representations.status(request, image_data=True)["result"]
    assert shown["imageUrl"].startswith(f"{server}/{BUCKET}/results/")
    assert httpx.get(shown["imageUrl"]).content == storage.read(request.result["image_key"])
    assert httpx.get(shown["thumbnailUrl"]).status_code == 200
    assert "X-Amz-Expires=90000" in shown["imageUrl"]
    assert shown["imageData"].startswith("data:image/png;base64,")
    assert storage.find_receipt(request.pk) is None  # it was written there, and dropped


def test_the_same_address_is_made_again_within_the_hour(alice: User) -> None:
    request = completed(alice)
    first = representations.status(request)["result"]["imageUrl"]
    storage._bucket_address.cache_clear()
    assert representations.status(request)["result"]["imageUrl"] == first


def test_the_signature_is_that_of_s3(alice: User, server: str) -> None:
    """The library's own signer comes to the same where the moment is the same."""
    from botocore.auth import S3SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    from generation.buckets import _SignedAt

    address = f"{server}/{BUCKET}/results/aa/bb/aabb.png"
    credentials = Credentials("id", "secret")
    for _ in range(3):  # the second may change in between
        theirs, ours = AWSRequest("GET", address), AWSRequest("GET", address)
        now = int(datetime.now(UTC).timestamp())
        S3SigV4QueryAuth(credentials, "s3", "us-east-1", expires=60).add_auth(theirs)
        _SignedAt(credentials, "s3", "us-east-1", expires=60, at=now).add_auth(ours)
        if theirs.url == ours.url:
            return
    pytest.fail(f"{theirs.url} {ours.url}")


def test_with_a_network_in_front_addresses_are_its(alice: User, settings: Any) -> None:
    settings.CDN_BASE_URL = "https://cdn.example.org"
    request = completed(alice)
    shown = representations.status(request)["result"]
    assert shown["imageUrl"] == f"https://cdn.example.org/{request.result['image_key']}"
    assert shown["thumbnailUrl"] == f"https://cdn.example.org/{request.result['thumbnail_key']}"


def test_what_is_gone_is_as_on_a_disk() -> None:
    with pytest.raises(FileNotFoundError):
        storage.read("results/no/ne/none.png")
    storage.remove("results/no/ne/none.png")
    storage.check_writable()


def test_a_bucket_that_is_away_is_as_a_disk_that_is(settings: Any) -> None:
    use(settings, f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(OSError, match="the bucket is not reachable"):
        storage.check_writable()
    with pytest.raises(OSError, match="the bucket is not reachable"):
        storage.read("results/aa/bb/aabb.png")


def test_orphans_are_swept_there_as_well(alice: User) -> None:
    kept = completed(alice)
    orphan = storage.save("results", "ab" * 32, "image/png", b"of no request")
    assert list(retention.sweep_orphans()) == []  # they are young
    assert orphan in list(retention.sweep_orphans(grace=timedelta(seconds=-5)))
    with pytest.raises(FileNotFoundError):
        storage.read(orphan)
    assert storage.read(kept.result["image_key"])


def test_a_bucket_must_be_named() -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "VAR_DIR": os.environ["VAR_DIR"],
        "RESULT_STORAGE": "s3",
        "DEBUG": "true",
    }
    command = [sys.executable, "manage.py", "check"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "error: AWS_STORAGE_BUCKET_NAME must be set, since RESULT_STORAGE is s3"
