"""Google's adapter against the fake, over real HTTP: what is its own beside what all adapters do alike."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.credentials import AnonymousCredentials
from google.oauth2.credentials import Credentials

from tests.fakes.control import FakeProvider
from workers import image_check
from workers.providers import support
from workers.providers.base import ImageAnswer, ImageRequest, ProviderError
from workers.providers.google import GoogleProvider

KEY = "AIza-very-secret-0123456789"
PROMPT = "A friendly dragon playing in a garden"


@pytest.fixture(scope="module")
def vendor() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def fake(vendor: FakeProvider) -> FakeProvider:
    vendor.reset()
    return vendor


def provider(fake: FakeProvider, **options: Any) -> GoogleProvider:
    usual: dict[str, Any] = {
        "api_key": "",
        "project": "",
        "location": "global",
        "base_url": fake.google_url,
        "timeout": 20.0,
    }
    return GoogleProvider(**usual | options)


def draw(made: GoogleProvider, **more: Any) -> ImageAnswer:
    usual = {"request_id": "vga_1", "type": "cover", "subject": PROMPT, "prompt": PROMPT, "model": "gemini-3-pro-image"}

    async def once() -> ImageAnswer:
        try:
            return await made.generate(ImageRequest(**usual | more))
        finally:
            await made.aclose()

    return asyncio.run(once())


def fail(made: GoogleProvider, **more: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        draw(made, **more)
    return caught.value


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No credentials of the developer's account, and no look for a machine of Google's around us."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return monkeypatch


@pytest.fixture
def service_account(fake: FakeProvider, environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file such as Google gives out, whose owner signs in at the fake."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "account.json"
    account = {
        "type": "service_account",
        "project_id": "studio",
        "private_key": pem.decode(),
        "client_email": "drawing@studio.iam.gserviceaccount.com",
        "token_uri": f"{fake.google_url}/token",
    }
    path.write_text(json.dumps(account))
    environment.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    return path


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, None),
        ({"quality": "high"}, "2K"),
        ({"resolution": "4K"}, "4K"),
        ({"resolution": "4K", "quality": "high"}, "4K"),
        ({"resolution": "2K", "quality": "low"}, "2K"),
    ],
)
def test_a_larger_resolution_takes_precedence_over_quality(
    fake: FakeProvider, options: dict[str, str], sent: str | None
) -> None:
    draw(provider(fake, api_key=KEY), **options)
    [call] = fake.journal()
    assert call.options.get("imageSize") == sent


# --- Which side it is -------------------------------------------------------------------------------------------------


def test_a_key_means_the_developer_api_even_beside_a_project(fake: FakeProvider) -> None:
    draw(provider(fake, api_key=KEY, project="studio"))
    [call] = fake.journal()
    assert call.options == {"model": "gemini-3-pro-image", "authorized": True, "aspectRatio": "1:1"}


@pytest.mark.usefixtures("service_account")
def test_a_project_selects_vertex_with_application_default_credentials(fake: FakeProvider) -> None:
    draw(provider(fake, project="studio", location="europe-west4"))
    sign_in, call = fake.journal()
    assert sign_in.vendor == "google-sign-in"
    assert call.options == {
        "project": "studio",
        "location": "europe-west4",
        "model": "gemini-3-pro-image",
        "authorized": True,
        "aspectRatio": "1:1",
    }


@pytest.mark.usefixtures("service_account")
def test_a_token_is_used_for_more_than_one_call(fake: FakeProvider) -> None:
    made = provider(fake, project="studio")

    async def thrice() -> None:
        request = ImageRequest(request_id="vga_1", type="cover", subject="x", prompt=PROMPT, model="gemini-3-pro-image")
        for _ in range(3):
            await made.generate(request)
        await made.aclose()

    asyncio.run(thrice())
    assert [call.vendor for call in fake.journal()] == ["google-sign-in", *["google"] * 3]


@pytest.mark.parametrize("variable", ["GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_ENTERPRISE"])
def test_the_sdks_own_variables_change_nothing(
    fake: FakeProvider, environment: pytest.MonkeyPatch, variable: str
) -> None:
    environment.setenv(variable, "true")
    environment.setenv("GOOGLE_GENAI_API_VERSION", "v1alpha")
    environment.setenv("GOOGLE_CLOUD_PROJECT", "of-another-team")
    draw(provider(fake, api_key=KEY))
    assert "project" not in fake.journal()[0].options


def test_a_key_in_the_environment_does_not_draw_for_a_project(
    fake: FakeProvider, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("GOOGLE_API_KEY", KEY)
    assert fail(provider(fake, project="studio")).code == "auth"
    assert fake.stats().count == 0


# --- Who may not sign in ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("environment")
def test_without_credentials_nothing_is_sent(fake: FakeProvider) -> None:
    error = fail(provider(fake, project="studio"))
    assert (error.code, error.message) == ("auth", "There are no credentials that Google Cloud accepts")
    assert fake.stats().count == 0


def test_credentials_that_hold_nothing_are_none(fake: FakeProvider) -> None:
    anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
    assert fail(provider(fake, project="studio", credentials=anonymous)).code == "auth"


@pytest.mark.usefixtures("service_account")
def test_an_account_that_google_does_not_know_any_more_is_not_let_in(fake: FakeProvider) -> None:
    fake.script("status=400")
    assert fail(provider(fake, project="studio")).code == "auth"
    assert [call.vendor for call in fake.journal()] == ["google-sign-in"]


def test_a_sign_in_that_cannot_be_reached_is_unavailable(fake: FakeProvider, service_account: Path) -> None:
    account = json.loads(service_account.read_text())
    service_account.write_text(json.dumps(account | {"token_uri": "http://127.0.0.1:1/token"}))
    assert fail(provider(fake, project="studio")).code == "unavailable"
    assert fake.stats().count == 0


# --- How long it waits ------------------------------------------------------------------------------------------------


def test_the_connection_outlasts_the_runtimes_deadline_by_a_little(
    fake: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "SPARE_SECONDS", 10.0)
    fake.script("delay=1")
    assert draw(provider(fake, api_key=KEY, timeout=0.3)).data


# --- What is asked for ------------------------------------------------------------------------------------------------


def test_vertex_draws_a_jpeg_where_that_is_wanted(fake: FakeProvider) -> None:
    token = Credentials(token="ya29")  # type: ignore[no-untyped-call]
    answer = draw(provider(fake, project="studio", credentials=token), output_format="jpeg")
    assert answer.content_type == image_check.check(answer.data).content_type == "image/jpeg"


def test_an_aspect_ratio_that_google_does_not_know_is_its_error_and_named(fake: FakeProvider) -> None:
    error = fail(provider(fake, api_key=KEY), aspect_ratio="7:1")
    assert error.code == "invalid_request"
    assert error.detail["param"] == "generation_config.image_config.aspect_ratio"


@pytest.mark.parametrize("model", ["", "../secrets", "gemini?key=1"])
def test_a_model_whose_name_would_change_the_address_is_not_asked_for(fake: FakeProvider, model: str) -> None:
    assert fail(provider(fake, api_key=KEY), model=model).code == "invalid_request"
    assert fake.stats().count == 0


def test_a_seed_that_does_not_fit_is_refused(fake: FakeProvider) -> None:
    error = fail(provider(fake, api_key=KEY), seed=2**31)
    assert (error.code, error.message) == ("invalid_request", "Google does not support seed 2147483648")


def test_a_seed_that_was_sent_is_reported_with_the_image(fake: FakeProvider) -> None:
    assert draw(provider(fake, api_key=KEY), seed=7).seed == 7


@pytest.mark.parametrize("reason", ["IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"])
def test_a_refusal_says_which_it_was(fake: FakeProvider, reason: str) -> None:
    fake.script(f"reason={reason}")
    error = fail(provider(fake, api_key=KEY))
    assert (error.code, error.detail["categories"]) == ("refused_output", [reason])


@pytest.mark.parametrize("reason", ["NO_IMAGE", "IMAGE_OTHER"])
def test_nothing_drawn_is_not_a_refusal(fake: FakeProvider, reason: str) -> None:
    fake.script(f"reason={reason}")
    assert fail(provider(fake, api_key=KEY)).code == "empty_result"
