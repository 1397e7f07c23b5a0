"""The parts of an answer, without a server."""

from __future__ import annotations

import base64
import hashlib
import os
import tracemalloc
from datetime import date
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from psycopg import errors as database_errors

from generation import caching
from generation.api.openai.answers import Encoded
from generation.api.openai.errors import address, fault_of, rate_headers
from generation.api.openai.serializers import ImagesCall, read_call
from generation.models import PromptStyle, ProviderModel
from generation.models.options import GenerationOptions, changing
from generation.providers import catalogue
from generation.storage import images
from tests.api.helpers import SUBMIT, answer, body, post_json
from tests.conftest import PROMPT, client_of
from tests.support.requests import queued
from workers import prompts

pytestmark = pytest.mark.django_db


def call(**fields: object) -> ImagesCall:
    return read_call({"prompt": PROMPT} | fields, cancel_after=None)


@pytest.mark.parametrize("size", [1, 2, 3, 48 * 1024, 48 * 1024 + 1, 9_000_000])
def test_an_image_is_encoded_in_small_parts(size: int) -> None:
    data = os.urandom(size)
    key = images.save("results", hashlib.sha256(data).hexdigest(), "image/png", data)
    encoded = Encoded(key=key, size=images.size(key))
    assert len(encoded) == len(base64.b64encode(data))
    expected = hashlib.sha256(base64.b64encode(data)).digest()
    tracemalloc.start()
    got = hashlib.sha256()
    for part in encoded:
        assert len(part) <= 64 * 1024
        got.update(part)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert got.digest() == expected
    assert peak < 1024 * 1024


def test_an_image_that_changed_its_size_breaks_the_answer_off() -> None:
    key = images.save("results", "ab" * 32, "image/png", b"x" * 100)
    with pytest.raises(OSError, match="another size"):
        list(Encoded(key=key, size=101))


def test_an_outage_is_503_and_may_be_sent_again() -> None:
    fault = fault_of(database_errors.AdminShutdown(), {})
    assert fault.status == 503
    assert "x-should-retry" not in fault.headers
    assert fault.headers["retry-after"]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59, "59s"), (60, "1m0s"), (361, "6m1s"), (-3, "0s")])
def test_the_reset_of_a_rate_is_written_as_openai_does(seconds: int, text: str) -> None:
    assert rate_headers(limit=1, remaining=0, seconds=seconds)["x-ratelimit-reset-requests"] == text


def test_the_address_is_that_of_the_process_that_waits(settings: object) -> None:
    for realtime, own_port, expected in [
        ("", False, "https://studio.example.org/v1"),
        ("", True, "http://127.0.0.1:8001/v1"),
        ("wss://live.example.org", False, "https://live.example.org/v1"),
        ("ws://live.example.org:81", False, "http://live.example.org:81/v1"),
    ]:
        settings.PUBLIC_BASE_URL = "https://studio.example.org"  # type: ignore[attr-defined]
        settings.REALTIME_BASE_URL = realtime  # type: ignore[attr-defined]
        settings.REALTIME_HAS_ITS_PORT = own_port  # type: ignore[attr-defined]
        settings.REALTIME_PORT = 8001  # type: ignore[attr-defined]
        assert address() == expected


@pytest.mark.parametrize("at", ["/v1/images/generations", "/v1/images/edits", "/v1/models", "/v1/models/openmoji-17"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_an_anonymous_call_is_rejected_below_v1(at: str, method: str) -> None:
    for client in (client_of(None), Client()):
        response: Any = client.generic(method, at, "{}", content_type="application/json")
        assert response.status_code == 401
        assert response["WWW-Authenticate"].startswith("Bearer")
        if method != "HEAD":
            assert response.json()["error"]["code"] == "invalid_api_key"


def test_a_model_says_when_its_vendor_retires_it(alice: User) -> None:
    client = client_of(alice)
    shown = {"id": "openmoji-17", "object": "model", "created": 0, "owned_by": "clipart", "shutdown_date": None}
    assert answer(client.get("/v1/models")) == {"object": "list", "data": [shown]}
    ProviderModel.objects.filter(name="openmoji-17").update(shutdown_date=date(2999, 12, 1))
    caching.clear_all()
    assert answer(client.get("/v1/models/openmoji-17/")) == shown | {"shutdown_date": "2999-12-01"}
    assert client.get("/v1/models/a/b").status_code == 404


def test_a_session_of_the_pages_is_not_enough_below_v1(alice: User) -> None:
    browser = Client()
    browser.force_login(alice)
    assert browser.get("/v1/models").status_code == 401


# --- The requests of a call ---


def test_seeds_count_up_and_each_image_may_be_cached_by_its_index() -> None:
    metadata = {"seed": 4_294_967_293, "useCache": True}
    drafts = call(n=3, vga={"metadata": metadata}).drafts
    assert [draft.metadata["seed"] for draft in drafts] == [4_294_967_293, 4_294_967_294, 0]
    assert [draft.metadata["useCache"] for draft in drafts] == [True, True, True]
    assert [draft.variation for draft in drafts] == [0, 1, 2]
    assert [draft.options and draft.options.seed for draft in drafts] == [4_294_967_293, 4_294_967_294, 0]


def test_options_that_no_model_has_are_dropped_and_named() -> None:
    ProviderModel.objects.filter(provider="clipart").update(capabilities=["seed"], sizes={"3:2": [48, 32]})
    found = call(quality="high", output_format="webp", size="100x100", vga={"metadata": {"seed": 1}})
    assert found.ignored == ["quality", "output_format"]
    assert found.quality == "auto"
    [draft] = found.drafts
    assert draft.metadata == {"rawPrompt": True, "seed": 1, "aspectRatio": "3:2"}


def test_the_end_user_is_kept_with_the_request() -> None:
    [draft] = call(user="u1", safety_identifier="s1").drafts
    assert draft.metadata["endUser"] == "s1"


@pytest.mark.parametrize(
    ("size", "first"),
    [((1024, 1024), "1:1"), ((1000, 1001), "1:1"), ((1792, 1024), "7:4"), ((99_999, 1), "3:2"), ((1, 99_999), "2:3")],
)
def test_the_nearest_aspect_ratio_comes_first(size: tuple[int, int], first: str) -> None:
    assert settings.PROVIDERS == ["clipart"]
    assert catalogue.nearest_ratios(*size)[0] == first


@pytest.mark.parametrize(
    ("size", "resolution", "ratio"),
    [
        ("1536x1024", None, "3:2"),
        ("1024x1024", None, "1:1"),
        ("2048x2048", "2K", "1:1"),
        ("2560x1440", "2K", "16:9"),
        ("3840x2160", "4K", "16:9"),
        ("9999x9999", "4K", "1:1"),
    ],
)
def test_a_size_stands_for_a_ratio_and_a_resolution(size: str, resolution: str | None, ratio: str) -> None:
    [draft] = call(size=size).drafts
    assert draft.metadata.get("aspectRatio") == ratio
    assert draft.metadata.get("resolution") == resolution


def test_a_size_that_no_model_makes_becomes_a_smaller_one() -> None:
    ProviderModel.objects.filter(provider="clipart").update(sizes={"3:2": [48, 32]}, larger_sizes={})
    [draft] = call(size="3840x2160").drafts
    assert draft.metadata == {"rawPrompt": True, "aspectRatio": "3:2"}


def test_a_resolution_of_its_own_is_kept_beside_a_size() -> None:
    [draft] = call(size="1024x1024", vga={"metadata": {"resolution": "4K"}}).drafts
    assert draft.metadata == {"rawPrompt": True, "aspectRatio": "1:1", "resolution": "4K"}


# --- rawPrompt ---


def test_a_raw_prompt_is_sent_without_phrases(alice: User) -> None:
    [choice] = catalogue.choices(GenerationOptions())
    metadata = {"imageStyle": "cartoon", "title": "Pip"}
    usual = prompts.build(queued(alice, type="cover", metadata=metadata), choice)
    raw = prompts.build(queued(alice, type="cover", metadata=metadata | {"rawPrompt": True}), choice)
    assert PromptStyle.objects.get(scope="type", name="cover").phrase in usual.prompt
    assert raw.prompt == PROMPT
    assert raw.title == "Pip", "an option, which some models have"


def test_a_raw_prompt_has_results_of_its_own_in_the_cache() -> None:
    assert changing({"rawPrompt": True}) != changing({})
    assert changing({"rawPrompt": False}) == changing({}), "what was cached before the option existed stays valid"


def test_a_submit_may_ask_for_a_raw_prompt(alice: User) -> None:
    client = client_of(alice)
    created = answer(post_json(client, body(metadata={"rawPrompt": True}), at=SUBMIT))
    status = client.get(f"/api/visual-generation/status/{created['requestId']}").json()
    assert status["metadata"]["rawPrompt"] is True
