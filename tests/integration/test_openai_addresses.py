"""Servers that speak OpenAI's API and answer with a picture's address: what is fetched, and what is not."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Iterator

import pytest

from tests.fakes.control import FakeProvider
from tests.support.stack import wait_until
from workers import images
from workers.providers.base import ImageAnswer, ImageRequest, ProviderError
from workers.providers.openai import OpenAIProvider

KEY = "sk-proj-very-secret-0123456789"
REQUEST = ImageRequest(request_id="vga_1", type="cover", subject="x", prompt="A friendly dragon", model="their-model")


@pytest.fixture(scope="module")
def vendor() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def fake(vendor: FakeProvider) -> FakeProvider:
    vendor.reset()
    return vendor


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[FakeProvider]:
    """A server that nobody is to call."""
    with FakeProvider() as fake:
        yield fake


def draw(fake: FakeProvider) -> ImageAnswer:
    made = OpenAIProvider(api_key=KEY, base_url=fake.openai_url, timeout=20.0)

    async def once() -> ImageAnswer:
        try:
            return await made.generate(REQUEST)
        finally:
            await made.aclose()

    return asyncio.run(once())


def fail(fake: FakeProvider) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        draw(fake)
    return caught.value


@pytest.mark.parametrize("address", ["own", "{origin}/files/7.png", "//{host}/files/7.png"])
def test_a_picture_of_the_same_origin_is_fetched_without_the_key(fake: FakeProvider, address: str) -> None:
    fake.script(f"url={address.format(origin=fake.base_url, host=fake.base_url.partition('//')[2])}")
    answer = draw(fake)
    assert images.check(answer.data).content_type == "image/png"
    assert answer.provider_request_id == "req_fake_1"
    asked, fetched = fake.journal()
    assert (asked.options["authorized"], fetched.options["authorized"]) == (True, False)


@pytest.mark.parametrize(
    "address",
    [
        "{elsewhere}/files/7.png",
        "//{elsewhere_host}/files/7.png",
        "http://localhost:{port}/files/7.png",
        "http://127.1:{port}/files/7.png",
        "https://127.0.0.1:{port}/files/7.png",
        "http://somebody@127.0.0.1:{port}/files/7.png",
        "http://127.0.0.1/files/7.png",
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "data:image/png,AAAA",
        "http://[::1",
        "javascript:alert(1)",
    ],
)
def test_a_picture_elsewhere_is_not_fetched(fake: FakeProvider, elsewhere: FakeProvider, address: str) -> None:
    elsewhere.reset()
    host, port = elsewhere.base_url.partition("//")[2], fake.base_url.rpartition(":")[2]
    fake.script(f"url={address.format(elsewhere=elsewhere.base_url, elsewhere_host=host, port=port)}")
    error = fail(fake)
    assert error.code == "empty_result"
    assert "address" in error.message
    assert error.provider_request_id == "req_fake_1"
    assert (fake.stats().count, elsewhere.stats().count) == (1, 0)


def test_a_redirect_to_elsewhere_is_not_followed(fake: FakeProvider, elsewhere: FakeProvider) -> None:
    elsewhere.reset()
    fake.script("url=own", f"status=302;location={elsewhere.base_url}/files/7.png")
    assert fail(fake).code == "empty_result"
    assert (fake.stats().count, elsewhere.stats().count) == (2, 0)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_an_address_with_nothing_behind_it_is_empty(fake: FakeProvider, status: int) -> None:
    fake.script("url=own", f"status={status}")
    assert fail(fake).code == "empty_result"


@pytest.mark.parametrize("reset", ["unread", "before", "after"])
def test_a_picture_that_was_paid_for_and_got_lost_is_not_lightly_ordered_again(fake: FakeProvider, reset: str) -> None:
    fake.script("url=own", f"reset={reset}")
    assert fail(fake).code == "unknown_outcome"


@pytest.mark.parametrize(("script", "megabytes"), [("huge=100", 100), ("huge=100;declared", 10)])
def test_what_is_fetched_is_bounded_as_well(fake: FakeProvider, script: str, megabytes: int) -> None:
    draw(fake)  # what is loaded on first use is not the picture's
    fake.script("url=own", script)
    tracemalloc.start()
    try:
        error = fail(fake)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.code == "invalid_image"
    assert peak < megabytes * 1024 * 1024


def test_a_fetch_that_hangs_ends_with_the_call(fake: FakeProvider) -> None:
    fake.script("url=own", "hang")
    made = OpenAIProvider(api_key=KEY, base_url=fake.openai_url, timeout=20.0)

    async def limited() -> None:
        try:
            async with asyncio.timeout(0.5):
                await made.generate(REQUEST)
        finally:
            await made.aclose()

    with pytest.raises(TimeoutError):
        asyncio.run(limited())
    wait_until(lambda: fake.journal()[-1].disconnected, seconds=1, what="the end of the connection")
