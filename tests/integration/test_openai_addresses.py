"""Servers that speak OpenAI's API and answer with an image's address: what is fetched, and what is not."""

from __future__ import annotations

import asyncio
import tracemalloc
from base64 import b64encode
from collections.abc import Iterator

import httpx2
import pytest

from tests.fakes.control import FakeProvider
from tests.fakes.images import png
from tests.support.stack import wait_until
from workers import image_check
from workers.providers.base import ImageAnswer, ImageRequest, ProviderError
from workers.providers.openai import OpenAIProvider
from workers.providers.openai_images import ImageAddresses

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
    """A server that must not be called."""
    with FakeProvider() as fake:
        yield fake


def draw(fake: FakeProvider, *hosts: str) -> ImageAnswer:
    made = OpenAIProvider(api_key=KEY, base_url=fake.openai_url, timeout=20.0, image_hosts=hosts)

    async def once() -> ImageAnswer:
        try:
            return await made.generate(REQUEST)
        finally:
            await made.aclose()

    return asyncio.run(once())


def fail(fake: FakeProvider, *hosts: str) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        draw(fake, *hosts)
    return caught.value


@pytest.mark.parametrize("address", ["own", "{origin}/files/7.png", "//{host}/files/7.png"])
def test_an_image_of_the_same_origin_is_fetched_without_the_key(fake: FakeProvider, address: str) -> None:
    fake.script(f"url={address.format(origin=fake.base_url, host=fake.base_url.partition('//')[2])}")
    answer = draw(fake)
    assert image_check.check(answer.data).content_type == "image/png"
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
        "http://user@127.0.0.1:{port}/files/7.png",
        "http://127.0.0.1/files/7.png",
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/7.png",
        "https://cdn.example.org:8443/7.png",
        "http://cdn.example.org/7.png",
        "https://user@cdn.example.org/7.png",
        "https://cdn.example.org.evil.example/7.png",
        "https://",
        "http://[::1",
        "javascript:alert(1)",
    ],
)
def test_an_image_of_another_origin_is_not_fetched(fake: FakeProvider, elsewhere: FakeProvider, address: str) -> None:
    elsewhere.reset()
    host, port = elsewhere.base_url.partition("//")[2], fake.base_url.rpartition(":")[2]
    fake.script(f"url={address.format(elsewhere=elsewhere.base_url, elsewhere_host=host, port=port)}")
    error = fail(fake, "cdn.example.org", "[::1]:1")
    assert error.code == "invalid_image"  # final, since another call would be billed and end the same
    assert "address" in error.message
    assert error.provider_request_id == "req_fake_1"
    assert (fake.stats().count, elsewhere.stats().count) == (1, 0)


def test_a_redirect_to_elsewhere_is_not_followed(fake: FakeProvider, elsewhere: FakeProvider) -> None:
    elsewhere.reset()
    fake.script("url=own", f"status=302;location={elsewhere.base_url}/files/7.png")
    assert fail(fake, host_of(elsewhere)).code == "invalid_image"
    assert (fake.stats().count, elsewhere.stats().count) == (2, 0)


def host_of(fake: FakeProvider) -> str:
    return fake.base_url.partition("//")[2]


def test_an_image_on_a_named_host_is_fetched_without_the_key(fake: FakeProvider, elsewhere: FakeProvider) -> None:
    elsewhere.reset()
    fake.script(f"url={elsewhere.base_url}/files/7.png")
    assert image_check.check(draw(fake, "cdn.example.org", host_of(elsewhere)).data).content_type == "image/png"
    [fetched] = elsewhere.journal()
    assert fetched.options["authorized"] is False


@pytest.mark.parametrize("script", ["huge=100", "encoding=bomb"])
def test_an_image_on_a_named_host_is_bounded(fake: FakeProvider, elsewhere: FakeProvider, script: str) -> None:
    elsewhere.reset()
    elsewhere.script(script)
    fake.script(f"url={elsewhere.base_url}/files/7.png")
    assert fail(fake, host_of(elsewhere)).code == "invalid_image"


@pytest.mark.parametrize(
    ("host", "address", "is_followed"),
    [
        ("cdn.example.org", "https://cdn.example.org/7.png", True),
        ("cdn.example.org", "https://CDN.example.org:443/7.png", True),
        ("cdn.example.org:443", "https://cdn.example.org/7.png", True),
        ("CDN.Example.org", "https://cdn.example.org/7.png", True),
        ("cdn.example.org:8443", "https://cdn.example.org:8443/7.png", True),
        ("cdn.example.org:8443", "https://cdn.example.org/7.png", False),
        ("cdn.example.org", "http://cdn.example.org/7.png", False),
        ("cdn.example.org", "https://img.cdn.example.org/7.png", False),
        ("10.0.0.5:9000", "https://10.0.0.5:9000/7.png", True),
        ("10.0.0.5:9000", "http://10.0.0.5:9000/7.png", False),
        ("127.0.0.1:9000", "http://127.0.0.1:9000/7.png", True),
        ("localhost", "http://localhost/7.png", True),
        ("[::1]:9000", "http://[::1]:9000/7.png", True),
        ("cdn.example.org", "https://user:word@cdn.example.org/7.png", False),
    ],
)
def test_only_a_named_host_and_port_is_followed(host: str, address: str, is_followed: bool) -> None:
    addresses = ImageAddresses(base_url="https://api.example.org/v1", hosts=[host])
    assert addresses.may_follow(httpx2.URL(address)) is is_followed


@pytest.mark.parametrize("script", ["status=403", "status=404", "status=500", "status=404;html", "status=302"])
def test_an_image_that_is_not_at_its_address_is_final(fake: FakeProvider, script: str) -> None:
    fake.script("url=own", script)
    assert fail(fake).code == "invalid_image"


def test_a_page_at_the_address_of_an_image_passes_no_check(fake: FakeProvider) -> None:
    fake.script("url=own", "body=PGh0bWw-Tm88L2h0bWw-;content-type=text/html")
    with pytest.raises(ProviderError) as caught:
        image_check.check(draw(fake).data)
    assert caught.value.code == "invalid_image"


@pytest.mark.parametrize("key", ["url", "b64_json", "image_url"])
def test_an_image_inside_of_its_address_is_read(fake: FakeProvider, key: str) -> None:
    address = f"data:image/png;base64,{b64encode(png('x')).decode()}"
    fake.answer({"data": [{"b64_json": None, key: {"url": address} if key == "image_url" else address}]})
    assert draw(fake).data == png("x")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"data": [{"url": ""}]}, "invalid_image"),
        ({"data": [{"url": 7}]}, "invalid_image"),
        ({"data": [{"b64_json": 7}]}, "invalid_image"),
        ({"data": [{"b64_json": "%%%"}]}, "invalid_image"),
        ({"data": [{"b64_json": None, "url": None}]}, "empty_result"),
        ({"data": [{}]}, "empty_result"),
        ({"data": None}, "empty_result"),
        ([], "empty_result"),
        (7, "empty_result"),
        ("text", "invalid_image"),
    ],
)
def test_an_answer_of_any_shape_has_a_code(fake: FakeProvider, answer: object, code: str) -> None:
    fake.answer(answer)
    assert fail(fake).code == code
    assert fake.stats().count == 1


@pytest.mark.parametrize("reset", ["unread", "before", "after"])
def test_a_lost_paid_image_is_not_requested_again_without_limit(fake: FakeProvider, reset: str) -> None:
    fake.script("url=own", f"reset={reset}")
    assert fail(fake).code == "unknown_outcome"


@pytest.mark.parametrize(("script", "megabytes"), [("huge=100", 100), ("huge=100;declared", 10)])
def test_a_fetched_image_is_bounded_as_well(fake: FakeProvider, script: str, megabytes: int) -> None:
    draw(fake)  # what is loaded on first use is not the image's
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
    wait_until(lambda: fake.journal()[-1].disconnected, seconds=5, what="the end of the connection")
