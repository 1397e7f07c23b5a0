"""Results in a bucket, on a real server that speaks S3."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx2
import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage

from config.local.valkey import free_port
from generation.models import GenerationAttempt, GenerationRequest
from generation.models.options import InputImage, Inputs
from generation.reports import doctor
from generation.requests import representations, retention, services, uploads
from generation.requests.new_request import NewImage, NewRequest
from generation.states import Status
from generation.storage import images, receipts, s3, signed_urls
from tests.support.executors import executor
from tests.support.guarded_bucket import GuardedBucket
from tests.support.requests import completed, queued
from tests.support.stack import ROOT, closed_port, wait_until
from tests.support.uploads import upload_of
from workers.providers.clipart.provider import ClipartProvider

pytestmark = pytest.mark.django_db(transaction=True)

BUCKET = "images"
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
                return httpx2.get(f"{url}/moto-api/").status_code == 200
            except httpx2.TransportError:
                return False

        wait_until(answers, seconds=60, what="the S3 server")
        boto3.client("s3", endpoint_url=url, region_name="us-east-1", **KEYS).create_bucket(Bucket=BUCKET)
        yield url
        process.kill()


@pytest.fixture(autouse=True)
def _in_the_bucket(server: str, settings: Any) -> None:
    use(settings, server)


def use(settings: Any, address: str, *, with_keys: bool = True) -> None:
    options = {"bucket_name": BUCKET, "region_name": "us-east-1", "endpoint_url": address}
    if with_keys:
        options |= {"access_key": KEYS["aws_access_key_id"], "secret_key": KEYS["aws_secret_access_key"]}
    default = {"BACKEND": "generation.storage.s3.BucketStorage", "OPTIONS": options}
    settings.STORAGES = settings.STORAGES | {"default": default}
    settings.RESULT_STORAGE = "s3"
    signed_urls._bucket_address.cache_clear()


@pytest.mark.usefixtures("empty_queues")
def test_a_worker_stores_its_image_there_and_its_address_is_signed(alice: User, server: str) -> None:
    request = queued(alice)
    executor(ClipartProvider()).run(request.pk)
    request.refresh_from_db()
    assert request.status == Status.COMPLETED
    shown = representations.status(request, image_data=True)["result"]
    assert shown["imageUrl"].startswith(f"{server}/{BUCKET}/results/")
    assert httpx2.get(shown["imageUrl"]).content == images.read(request.result["image_key"])
    assert httpx2.get(shown["thumbnailUrl"]).status_code == 200
    assert "X-Amz-Expires=90000" in shown["imageUrl"]
    assert shown["imageData"].startswith("data:image/png;base64,")
    wait_until(lambda: receipts.find(request.pk) is None, what="the end of the receipt")


def test_uploads_and_reference_images_are_read_from_there(alice: User) -> None:
    upload = upload_of(alice)
    assert hashlib.sha256(images.read(upload.key)).hexdigest() == upload.sha256
    assert uploads.delete(upload)
    with pytest.raises(FileNotFoundError):
        images.read(upload.key)
    sheet = queued(alice, type="character-reference", prompt="Pip the red fox with a green scarf")
    runs = executor(ClipartProvider())
    runs.run(sheet.pk)
    image = NewImage(role="character", path="", request_id=sheet.pk)
    inputs = Inputs(images=(InputImage(role="character"),))
    draft = NewRequest(type="cover", prompt="Pip flies a kite", priority="normal", images=(image,), inputs=inputs)
    page = services.submit(owner=alice, draft=draft)
    runs.run(page.pk)
    page.refresh_from_db()
    sheet.refresh_from_db()
    assert page.status == Status.COMPLETED, page.error
    assert GenerationAttempt.objects.get(request=page).sent_images == [sheet.result["sha256"]]


def test_the_same_address_is_made_again_within_the_hour(alice: User) -> None:
    request = completed(alice)
    first = representations.status(request)["result"]["imageUrl"]
    signed_urls._bucket_address.cache_clear()
    assert representations.status(request)["result"]["imageUrl"] == first


def test_the_signature_is_that_of_s3(alice: User, server: str) -> None:
    """The library's own signer comes to the same where the moment is the same."""
    from botocore.auth import S3SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    from generation.storage.s3 import _SignedAt

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


def test_a_missing_key_raises_as_on_a_disk() -> None:
    with pytest.raises(FileNotFoundError):
        images.read("results/no/ne/none.png")
    with pytest.raises(FileNotFoundError):
        images.size("results/no/ne/none.png")
    images.remove("results/no/ne/none.png")
    images.check_writable()


def test_an_image_is_read_in_parts() -> None:
    key = images.save("results", "cd" * 32, "image/png", b"0123456789")
    assert images.size(key) == 10
    assert list(images.chunks(key, 4)) == [b"0123", b"4567", b"89"]


def test_a_bucket_that_is_away_is_as_a_disk_that_is(settings: Any) -> None:
    use(settings, f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(OSError, match="the bucket is not reachable"):
        images.check_writable()
    with pytest.raises(OSError, match="the bucket is not reachable"):
        images.read("results/aa/bb/aabb.png")
    with pytest.raises(OSError, match="the bucket is not reachable"):
        images.size("results/aa/bb/aabb.png")


def test_orphans_are_swept_there_as_well(alice: User) -> None:
    kept = completed(alice)
    orphan = images.save("results", "ab" * 32, "image/png", b"of no request")
    assert list(retention.sweep_orphans()) == []  # they are young
    assert orphan in list(retention.sweep_orphans(grace=timedelta(seconds=-5)))
    with pytest.raises(FileNotFoundError):
        images.read(orphan)
    assert images.read(kept.result["image_key"])


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


def test_without_a_bucket_no_process_loads_its_sdk() -> None:
    modules = "import config.wsgi, config.asgi, workers.dispatcher, workers.tasks, sys; print(sorted(sys.modules))"
    environment = os.environ | {"RESULT_STORAGE": "file"}
    done = subprocess.run([sys.executable, "-c", modules], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert b"'generation.storage.images'" in done.stdout
    assert b"botocore" not in done.stdout


# --- What a role may do -----------------------------------------------------------------------------------------------


@pytest.fixture
def narrow(server: str, settings: Any) -> Iterator[GuardedBucket]:
    """The bucket as a role sees it that may read and write objects, and neither list nor delete them."""
    with GuardedBucket(server, permits=lambda method, _: method != "DELETE") as door:
        use(settings, door.url)
        yield door


def execute(request: GenerationRequest) -> GenerationRequest:
    executor(ClipartProvider()).run(request.pk)
    request.refresh_from_db()
    return request


@pytest.mark.usefixtures("empty_queues")
def test_a_role_that_may_not_list_stores_images(alice: User, narrow: GuardedBucket) -> None:
    done = execute(queued(alice))
    assert done.status == Status.COMPLETED
    assert images.read(done.result["image_key"])
    # It is not looked for what is written.
    assert not [path for method, path in narrow.asked if method == "HEAD"]


def test_a_missing_key_is_missing_to_a_role_that_may_not_list(narrow: GuardedBucket) -> None:
    with pytest.raises(FileNotFoundError):
        images.read("receipts/none.json")
    assert default_storage.exists("results/no/ne/none.png") is False
    key = images.save("results", "ab" * 32, "image/png", b"bytes")
    assert default_storage.exists(key) is True
    # The result of a look at the permissions is kept for a while.
    asked = len(narrow.asked)
    assert receipts.find("none") is None
    assert len(narrow.asked) == asked + 1


def test_a_role_that_may_not_read_cannot_tell_that_a_key_is_missing(narrow: GuardedBucket) -> None:
    narrow.permits = lambda method, path: method == "PUT"
    with pytest.raises(OSError, match="AccessDenied") as refused:
        images.read("receipts/none.json")
    assert not isinstance(refused.value, FileNotFoundError)
    with pytest.raises(OSError, match="403"):
        default_storage.exists("results/no/ne/none.png")


@pytest.mark.usefixtures("empty_queues")
@pytest.mark.parametrize("folder", ["results", "thumbnails", "receipts"])
def test_a_folder_that_may_not_be_written_is_met_before_the_call(
    alice: User, narrow: GuardedBucket, folder: str
) -> None:
    narrow.permits = lambda method, path: method != "PUT" or f"/{folder}/" not in path
    with pytest.raises(OSError, match="AccessDenied"):
        images.check_writable()
    (finding,) = doctor._no_storage()
    assert finding.why == "the bucket answered AccessDenied"
    request = execute(queued(alice))
    assert (request.status, request.attempts) == (Status.QUEUED, 0)
    assert not [path for _, path in narrow.asked if path.endswith(".png")]


# --- Where the bucket is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bucket", "region", "endpoint", "expected"),
    [
        ("images", "eu-west-1", None, "https://images.s3.eu-west-1.amazonaws.com/"),
        ("my.images", "eu-west-1", None, "https://s3.eu-west-1.amazonaws.com/my.images/"),
        ("images", "cn-north-1", None, "https://images.s3.cn-north-1.amazonaws.com.cn/"),
        ("my.images", "cn-northwest-1", None, "https://s3.cn-northwest-1.amazonaws.com.cn/my.images/"),
        ("images", "us-gov-west-1", None, "https://images.s3.us-gov-west-1.amazonaws.com/"),
        ("images", "us-east-1", None, "https://images.s3.amazonaws.com/"),
        ("images", "auto", "https://minio.example.org/base", "https://minio.example.org/base/images/"),
    ],
)
def test_addresses_are_the_sdks(
    bucket: str, region: str, endpoint: str | None, expected: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"bucket_name": bucket, "region_name": region, "endpoint_url": endpoint}
    options |= {"access_key": KEYS["aws_access_key_id"], "secret_key": KEYS["aws_secret_access_key"]}
    settings.STORAGES = settings.STORAGES | {
        "default": {"BACKEND": "generation.storage.s3.BucketStorage", "OPTIONS": options}
    }
    address = signed_urls.address("image", "vga_1", "results/aa/bb.png")
    assert address.startswith(f"{expected}results/aa/bb.png?")
    assert f"%2F{region}%2Fs3%2Faws4_request" in address
    assert signed_urls.address("image", "vga_1", "results/aa/bb.png") == address


def test_dual_stack_and_fips_are_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    s3.bucket_address.cache_clear()
    found = s3.bucket_address("images", "us-gov-west-1", None)
    s3.bucket_address.cache_clear()
    assert found.origin == "https://images.s3-fips.dualstack.us-gov-west-1.amazonaws.com"


# --- Credentials that end ---------------------------------------------------------------------------------------------


class RoleServer:
    """Gives out a role's credentials over HTTP, as a container's agent does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lasts, self.given = timedelta(hours=1), 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                server.given += 1
                end = datetime.now(UTC) + server.lasts
                found = {"AccessKeyId": f"id{server.given}", "SecretAccessKey": "secret", "Token": "token"}
                body = json.dumps(found | {"Expiration": f"{end:%Y-%m-%dT%H:%M:%SZ}"}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{self.http.server_port}/")


@pytest.fixture
def role(server: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[RoleServer]:
    """The process has no keys of its own but a role's."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    found = RoleServer(monkeypatch)
    thread = threading.Thread(target=found.http.serve_forever, daemon=True)
    thread.start()
    use(settings, server, with_keys=False)
    yield found
    found.http.shutdown()
    found.http.server_close()


def ends_at(address: str) -> datetime:
    query = parse_qs(urlsplit(address).query)
    begun = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return begun + timedelta(seconds=int(query["X-Amz-Expires"][0]))


def test_an_address_ends_no_later_than_the_roles_credentials(alice: User, role: RoleServer) -> None:
    request = completed(alice)
    address = representations.status(request)["result"]["imageUrl"]
    assert timedelta(minutes=58) < ends_at(address) - datetime.now(UTC) <= timedelta(hours=1)
    assert datetime.fromtimestamp(signed_urls.expiry(), UTC) == ends_at(address)
    assert httpx2.get(address).status_code == 200
    signed_urls._bucket_address.cache_clear()
    assert representations.status(request)["result"]["imageUrl"] == address


def test_renewed_credentials_sign_new_addresses(alice: User, role: RoleServer) -> None:
    role.lasts = timedelta(minutes=5)  # so near their end that the SDK asks again each time
    request = completed(alice)
    first, tag = representations.status(request)["result"]["imageUrl"], representations.etag(request)
    role.lasts = timedelta(hours=2)
    second = representations.status(request)["result"]["imageUrl"]
    assert ends_at(first) < datetime.now(UTC) + timedelta(minutes=6) < ends_at(second)
    assert representations.etag(request) != tag


def test_a_token_whose_end_is_not_known_signs_for_two_hours_at_the_most(
    alice: User, server: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    use(settings, server)
    address = signed_urls.address("image", "vga_1", "results/aa/bb.png")
    assert timedelta(hours=1) < ends_at(address) - datetime.now(UTC) <= timedelta(hours=2)
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=20)
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", end.isoformat())
    assert ends_at(signed_urls.address("image", "vga_1", "results/aa/bb.png")) == end


def test_without_credentials_addresses_lead_to_us(
    alice: User, role: RoleServer, server: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = completed(alice)
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    use(settings, server, with_keys=False)
    shown = representations.status(request)["result"]
    assert "/api/visual-generation/image/" in shown["imageUrl"]
