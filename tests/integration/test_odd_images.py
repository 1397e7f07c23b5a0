"""Odd images all the way: from a vendor's answer through executor and storage to what clients are sent."""

from __future__ import annotations

import io
from typing import ClassVar

import pytest
from django.contrib.auth.models import User
from PIL import Image
from rest_framework.test import APIClient

from generation.models import GenerationRequest
from generation.states import Status
from tests.api.helpers import address, client_for
from tests.corpus.broken import BROKEN
from tests.corpus.shapes import SIZE
from tests.corpus.sound import SOUND
from tests.support.executors import executor
from tests.support.requests import PROMPT, queued
from tests.support.vendors import Vendors
from workers.providers.base import ImageAnswer, ImageRequest

# The executor releases its connection during the call, so it needs a real one.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]


class Vendor:
    """A provider that answers with these bytes, and says that they are a PNG."""

    name: ClassVar[str] = "clipart"
    billable: ClassVar[bool] = True

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        return ImageAnswer(data=self._data, content_type="image/png", model="model-1")


def answered(owner: User, data: bytes) -> GenerationRequest:
    """A request that a vendor answered with these bytes."""
    request = queued(owner, max_attempts=1)
    executor(Vendor(data)).run(request.pk)
    request.refresh_from_db()
    return request


@pytest.fixture
def api(alice: User) -> APIClient:
    return client_for(alice)


@pytest.mark.parametrize(
    "name",
    [
        "PNG: zTXt of 2 MB",
        "PNG: gray 16",
        "PNG: another PNG behind",
        "PNG: animated",
        "PNG: swapped profile",
        "JPEG: 4 KiB behind",
        "JPEG: multi-picture",
        "JPEG: orientation 6",
        "JPEG: cmyk",
        "JPEG: APP11 of 2 MB",
        "WEBP: XMP of 2 MB",
        "WEBP: animated",
    ],
)
def test_an_odd_image_reaches_the_client_as_it_was_sent(api: APIClient, alice: User, name: str) -> None:
    odd = SOUND[name]()
    content_type = f"image/{name.partition(':')[0].lower()}"
    request = answered(alice, odd.data)
    result = api.get(address("status", request.pk)).json()["result"]
    assert (result["width"], result["height"], result["bytes"]) == (*SIZE, len(odd.data))
    assert result["contentType"] == content_type
    image = api.get(result["imageUrl"].removeprefix("http://127.0.0.1:8000"))
    assert (image.status_code, image.content, image["Content-Type"]) == (200, odd.data, content_type)
    thumbnail = api.get(result["thumbnailUrl"].removeprefix("http://127.0.0.1:8000"))
    with Image.open(io.BytesIO(thumbnail.content)) as small:
        assert (small.format, small.size) == ("WEBP", SIZE)
        corner = small.convert("RGB").getpixel((24, 16))
    assert isinstance(corner, tuple)
    assert max(abs(value - wanted) for value, wanted in zip(corner, odd.colors[0], strict=True)) < 12


@pytest.mark.parametrize("name", ["GIF", "PNG: 144 million pixels", "JPEG: an end in the thumbnail only"])
def test_a_broken_image_ends_the_request_without_a_trace(api: APIClient, alice: User, name: str) -> None:
    request = answered(alice, BROKEN[name]())
    shown = api.get(address("status", request.pk)).json()
    assert (shown["status"], shown["error"]["code"]) == (Status.FAILED, "invalid_image")
    assert "Traceback" not in str(shown)


@pytest.mark.parametrize(
    ("provider", "requested", "sent"),
    [("openai", "png", "jpeg"), ("openai", "", "webp"), ("stability", "jpeg", "webp"), ("stability", "webp", "jpeg")],
)
def test_another_format_than_requested_is_told_and_served(
    api: APIClient, alice: User, vendors: Vendors, provider: str, requested: str, sent: str
) -> None:
    vendors.use(provider)
    wanted = {"outputFormat": requested} if requested else {}
    request = vendors.ask(alice, prompt=f"{PROMPT} [[image={sent}]]", metadata=wanted)
    result = api.get(address("status", request.pk)).json()["result"]
    assert result["contentType"] == f"image/{sent}"
    assert "instead of" in result["notice"]
    at = address("image", request.pk)
    whole = api.get(at)
    for extension in {sent, requested or "png"}:
        response = api.get(f"{at}.{extension}")
        assert (response.status_code, response["Content-Type"]) == (200, f"image/{sent}")
        assert response.content == whole.content
        assert response["Content-Disposition"] == f'inline; filename="{request.pk}.{sent}"'
    (other,) = {"png", "jpeg", "webp"} - {sent, requested or "png"}
    assert api.get(f"{at}.{other}").status_code == 404


def test_the_requested_format_comes_without_a_notice(api: APIClient, alice: User, vendors: Vendors) -> None:
    vendors.use("openai")
    request = vendors.ask(alice, metadata={"outputFormat": "webp"})
    result = api.get(address("status", request.pk)).json()["result"]
    assert (result["contentType"], result["notice"]) == ("image/webp", None)
