"""The adapters that the conformance suite runs over: to add one is to add an entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from unittest.mock import ANY

from google.oauth2.credentials import Credentials

from generation import caching
from tests.fakes.control import FakeProvider
from workers.providers.base import Provider
from workers.providers.google import GoogleProvider
from workers.providers.openai import OpenAIProvider
from workers.providers.stability import StabilityProvider

#: How long a call of theirs may take, in seconds.
PATIENCE: Final = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapter:
    """One way to a vendor.

    ``make`` gets the fake and the key. ``sends`` says of each option of :class:`ImageRequest` that the vendor has a
    field for what the fake is to find where; every other option is to be refused. ``expects`` holds the error codes
    that differ from the usual, by how the fake was scripted, with ``""`` for what cannot happen on this wire.
    """

    name: str
    make: Callable[[FakeProvider, str], Provider]
    model: str
    usage: Mapping[str, int]
    sends: Mapping[tuple[str, Any], tuple[str, Any]]
    expects: Mapping[str, str] = field(default_factory=dict)
    #: What ``PROVIDERS`` calls it, and the catalogue, where that is another name.
    provider: str = ""
    rows: str = ""
    #: Whether it speaks HTTP as such.
    is_http: bool = True
    #: Whether an error carries the vendor's id of the request.
    errors_have_ids: bool = True
    #: The package without which there is none.
    needs: str = ""

    def configure(self, settings: Any) -> None:
        """Make it the only provider."""
        provider = self.provider or self.name
        settings.PROVIDERS, settings.PROVIDER_MODELS = [provider], {provider: self.model}
        settings.PROVIDER_ROWS = {provider: self.rows or provider}
        caching.clear_all()

    def expected(self, script: str, usual: str) -> str:
        """The code that this script is to lead to, ``""`` for what cannot happen."""
        if not self.is_http and any(part.partition("=")[0] in _HTTP for part in script.split(";")):
            return ""
        return self.expects.get(script, usual)


def _openai(fake: FakeProvider, key: str) -> Provider:
    return OpenAIProvider(api_key=key, base_url=fake.openai_url, timeout=PATIENCE)


def _stability(fake: FakeProvider, key: str) -> Provider:
    return StabilityProvider(api_key=key, base_url=fake.stability_url, timeout=PATIENCE)


def _stability_grpc(fake: FakeProvider, key: str) -> Provider:
    from workers.providers.stability_grpc import StabilityGrpcProvider

    return StabilityGrpcProvider(api_key=key, host=fake.grpc_host, timeout=PATIENCE)


def _google(fake: FakeProvider, key: str) -> Provider:
    return GoogleProvider(api_key=key, project="", location="", base_url=fake.google_url, timeout=PATIENCE)


def _vertex(fake: FakeProvider, key: str) -> Provider:
    token = Credentials(token=key)  # type: ignore[no-untyped-call]
    return GoogleProvider(
        api_key="",
        project="studio",
        location="europe-west4",
        base_url=fake.google_url,
        timeout=PATIENCE,
        credentials=token,
    )


_GOOGLE: Final[dict[str, Any]] = {
    "model": "gemini-3.1-flash-image",
    "usage": {"images": 1, "input_text": 12, "output_text": 40, "output_image": 1120},
    "errors_have_ids": False,
}
_GOOGLE_SENDS: Final[dict[tuple[str, Any], tuple[str, Any]]] = {
    ("aspect_ratio", "16:9"): ("aspectRatio", "16:9"),
    ("quality", "low"): ("imageSize", "1K"),
    ("quality", "medium"): ("imageSize", "1K"),
    ("quality", "high"): ("imageSize", "2K"),
    ("seed", 7): ("seed", 7),
    ("seed", 0): ("seed", 0),
}

#: The service has a status for credit that is used up and none for calls that come too fast, and no time to wait.
_GRPC_EXPECTS: Final = {
    "status=429": "quota_exhausted",
    "status=429;retry-after": "",
    "status=503;retry-after": "",
    "status=408": "",
    "status=422": "",
    "status=504": "",
    "huge=100;declared;status=500": "",
    "huge=100;status=500": "",
}
#: What only HTTP has: pages, redirects, types and encodings of a body, and a status inside of another.
_HTTP: Final = ("html", "location", "inside", "encoding", "base64", "other", "bom", "content-type")

ADAPTERS: Final = (
    Adapter(
        name="openai",
        make=_openai,
        model="gpt-image-2",
        usage={"images": 1, "input_text": 20, "output_image": 200},
        sends={
            ("width", 1824): ("size", "1824x1024"),
            ("aspect_ratio", "16:9"): ("size", "1024x1024"),  # it is told the pixels
            ("quality", "low"): ("quality", "low"),
            ("quality", "medium"): ("quality", "medium"),
            ("quality", "high"): ("quality", "high"),
            ("output_format", "jpeg"): ("output_format", "jpeg"),
            ("output_format", "webp"): ("output_format", "webp"),
        },
    ),
    Adapter(
        name="stability",
        make=_stability,
        model="core",
        usage={"images": 1},
        sends={
            ("aspect_ratio", "16:9"): ("aspect_ratio", "16:9"),
            ("negative_prompt", "no cats"): ("negative_prompt", "no cats"),
            ("output_format", "jpeg"): ("output_format", "jpeg"),
            ("output_format", "webp"): ("output_format", "webp"),
            ("seed", 7): ("seed", "7"),
            ("seed", 0): ("seed", "0"),
        },
        # By its name in the body.
        expects={
            "status=403": "refused_input",
            "status=404": "model_retired",
            **dict.fromkeys(("bom", "bom;content-type=none"), ""),  # the bytes of an image have none
        },
    ),
    Adapter(
        name="stability-grpc",
        make=_stability_grpc,
        model="stable-diffusion-xl-1024-v1-0",
        usage={"images": 1},
        sends={
            ("aspect_ratio", "16:9"): ("width", 1024),  # it is told the pixels
            ("negative_prompt", "no cats"): ("negative_prompt", "no cats"),
            ("seed", 7): ("seed", [7]),
            ("seed", 0): ("seed", [ANY]),  # 0 means any, and one is made up
        },
        expects=_GRPC_EXPECTS,
        is_http=False,
        errors_have_ids=False,
        needs="stability_sdk",
        provider="stability",
        rows="stability-grpc",
    ),
    Adapter(name="google", make=_google, sends=_GOOGLE_SENDS, **_GOOGLE),
    Adapter(
        name="google-vertex",
        provider="google",
        make=_vertex,
        sends=_GOOGLE_SENDS | {("output_format", "jpeg"): ("imageOutputOptions", {"mimeType": "image/jpeg"})},
        **_GOOGLE,
    ),
)
