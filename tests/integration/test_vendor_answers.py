"""What becomes of a request by what a vendor answers: who is asked, how often that is paid for, and what is kept."""

from __future__ import annotations

from base64 import b64encode

import pytest
from django.contrib.auth.models import User

from generation.models import ProviderModel, ProviderState
from generation.providers import circuit_breaker
from generation.requests import representations
from generation.states import Status
from tests.fakes.images import png
from tests.support.vendors import Vendors, attempts

pytestmark = pytest.mark.django_db(transaction=True)

REFUSALS = [
    ("openai", "status=400;code=content_policy_violation"),
    ("openai", "status=400;code=content_filter"),
    ("openai", "status=400;says=Your request was rejected by the safety system"),
    ("openai", "status=500;says=litellm.ContentPolicyViolationError"),
    ("openai", "moderation=input;inside"),
    ("google", "status=400;code=UNSAFE_GENERATION"),
    ("google", "status=400;says=The prompt violates our generative AI policies"),
    ("stability", "status=400;code=invalid_prompts;says=One or more prompts contains filtered words"),
    ("stability", "moderation=output;other"),
]


def order(first: str) -> list[str]:
    return [first, *(name for name in ("openai", "stability") if name != first), "clipart"]


def is_left_alone(provider: str) -> bool:
    return circuit_breaker.is_open(provider)


@pytest.mark.parametrize(("first", "script"), REFUSALS)
def test_a_refusal_in_any_spelling_is_not_asked_around(alice: User, vendors: Vendors, first: str, script: str) -> None:
    vendors.use(*order(first))
    vendors.fake.script(script)
    request = vendors.ask(alice)
    assert request.status == Status.FAILED
    assert request.error["code"] in {"refused_input", "refused_output"}
    assert vendors.called == [first]
    assert not is_left_alone(first)


@pytest.mark.parametrize("first", ["openai", "google", "stability"])
def test_a_400_without_a_name_is_not_asked_around(alice: User, vendors: Vendors, first: str) -> None:
    vendors.use(*order(first))
    vendors.fake.script("status=400")
    request = vendors.ask(alice)
    assert (request.status, request.error["code"]) == (Status.FAILED, "invalid_request")
    assert vendors.called == [first]


@pytest.mark.parametrize("first", ["openai", "google", "stability"])
@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_page_fails_its_request_and_closes_nothing(alice: User, vendors: Vendors, first: str, status: int) -> None:
    vendors.use(*order(first))
    vendors.fake.script(f"status={status};html")
    request = vendors.ask(alice)
    assert (request.status, request.error["code"]) == (Status.FAILED, "invalid_request")
    assert vendors.called == [first]
    assert vendors.ask(alice).result["provider"] == first


@pytest.mark.parametrize("first", ["openai", "google", "stability"])
def test_a_404_page_retires_no_model_and_closes_nothing(alice: User, vendors: Vendors, first: str) -> None:
    vendors.use(*order(first))
    before = set(ProviderModel.objects.filter(enabled=True))
    vendors.fake.script(*["status=404;html", ""] * 6)
    for _ in range(6):
        assert vendors.ask(alice).status == Status.COMPLETED
    assert set(ProviderModel.objects.filter(enabled=True)) == before
    assert not ProviderState.objects.filter(pk=first, failures__gt=0).exists()
    assert vendors.ask(alice).result["provider"] == first


def test_a_403_about_one_model_leaves_the_provider_open(alice: User, vendors: Vendors) -> None:
    vendors.use("openai", "stability")
    says = "Your organization must be verified to use the model `gpt-image-2`"
    vendors.fake.script(f"status=403;says={says}")
    request = vendors.ask(alice)
    assert request.status == Status.COMPLETED
    assert attempts(request)[0] == ("openai", "auth")
    assert not is_left_alone("openai")


def test_an_error_inside_a_200_counts_as_that_error(alice: User, vendors: Vendors) -> None:
    vendors.fake.script("status=429;inside")
    request = vendors.ask(alice, max_attempts=1)
    assert attempts(request) == [("openai", "rate_limited"), ("stability", "succeeded")]


@pytest.mark.parametrize(
    "script", ["base64=data-url", "base64=lines", "content-type=text/plain", "encoding=gzip", "other", "bom"]
)
def test_an_image_in_an_unusual_form_is_paid_for_once_and_kept(alice: User, vendors: Vendors, script: str) -> None:
    vendors.fake.script(script)
    request = vendors.ask(alice)
    assert (request.status, request.result["provider"]) == (Status.COMPLETED, "openai")
    assert vendors.called == ["openai"]


@pytest.mark.parametrize(
    "script", ["url=http://127.0.0.1:1/7.png", "url=ftp://x/7.png", "url=http://[::1", "malformed", "encoding=broken"]
)
def test_a_failure_that_is_sure_to_repeat_is_paid_for_once(alice: User, vendors: Vendors, script: str) -> None:
    vendors.fake.script(default=script)
    request = vendors.ask(alice, max_attempts=5)
    assert (request.status, request.error["code"]) == (Status.FAILED, "invalid_image")
    assert vendors.called == ["openai"]


def test_a_compressed_503_is_a_fault_that_another_provider_makes_up_for(alice: User, vendors: Vendors) -> None:
    vendors.fake.script("status=503;encoding=gzip")
    assert attempts(vendors.ask(alice)) == [("openai", "unavailable"), ("stability", "succeeded")]


def test_a_revised_prompt_keeps_its_words_and_emoji(alice: User, vendors: Vendors) -> None:
    revised = "A family 👨‍👩‍👧\nmrs.\u202e می‌خواهم\x00"
    image = b64encode(png("x")).decode()
    vendors.fake.answer({"data": [{"b64_json": image, "revised_prompt": revised}]})
    request = vendors.ask(alice)
    shown = representations.status(request)["result"]["revisedPrompt"]
    assert shown == "A family 👨‍👩‍👧 mrs. می‌خواهم"
