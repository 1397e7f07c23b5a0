"""The largest images of the vendors, from their answers to the storage."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from generation.states import Status
from generation.storage import images
from tests.fakes.images import noise
from tests.support.vendors import Vendors

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]


@pytest.mark.parametrize(
    ("provider", "ratio", "size"),
    [("openai", "16:9", (3840, 2160)), ("openai", "1:1", (2880, 2880)), ("google", "1:1", (4096, 4096))],
)
def test_the_largest_image_of_a_vendor_is_stored_as_it_came(
    alice: User, vendors: Vendors, provider: str, ratio: str, size: tuple[int, int]
) -> None:
    vendors.use(provider)
    metadata: dict[str, Any] = {"aspectRatio": ratio, "resolution": "4K"}
    width, height = size
    request = vendors.ask(alice, metadata=metadata, prompt=f"A dragon [[image=noise{width}x{height}]]")
    assert request.status == Status.COMPLETED, request.error
    assert request.result is not None
    assert (request.result["width"], request.result["height"]) == size
    assert request.result["bytes"] > 3 * width * height
    assert images.read(request.result["image_key"]) == noise(width, height)
    [call] = vendors.fake.journal()
    expected = {"openai": {"size": f"{width}x{height}"}, "google": {"aspectRatio": ratio, "imageSize": "4K"}}
    assert expected[provider].items() <= call.options.items()
