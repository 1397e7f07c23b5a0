"""Stability's REST adapter against the fake, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.fakes.control import FakeProvider
from tests.support.callers import PROMPT, Caller, calling
from workers.image_check import check
from workers.providers.stability import StabilityProvider

KEY = "sk-very-secret-0123456789"


@pytest.fixture(scope="module")
def vendor() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def fake(vendor: FakeProvider) -> FakeProvider:
    vendor.reset()
    return vendor


def provider(base_url: str, **options: Any) -> StabilityProvider:
    usual: dict[str, Any] = {"api_key": KEY, "base_url": base_url, "timeout": 20.0}
    return StabilityProvider(**usual | options)


@pytest.fixture
def caller(fake: FakeProvider) -> Iterator[Caller]:
    with calling(provider(fake.stability_url), model="core") as caller:
        yield caller


# --- What works -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "endpoint", "field"),
    [
        ("ultra", "ultra", None),
        ("core", "core", None),
        ("sd3.5-large", "sd3", "sd3.5-large"),
        ("sd3.5-large-turbo", "sd3", "sd3.5-large-turbo"),
        ("sd3.5-medium", "sd3", "sd3.5-medium"),
    ],
)
def test_the_name_of_the_model_says_where_it_is_called(
    caller: Caller, fake: FakeProvider, model: str, endpoint: str, field: str | None
) -> None:
    assert caller.generate(model=model).model == model
    options = fake.journal()[0].options
    assert (options["endpoint"], options.get("model")) == (endpoint, field)


@pytest.mark.parametrize("ratio", ["21:9", "16:9", "3:2", "5:4", "1:1", "4:5", "2:3", "9:16", "9:21"])
def test_every_aspect_ratio_is_sent_as_it_was_asked_for(caller: Caller, fake: FakeProvider, ratio: str) -> None:
    caller.generate(aspect_ratio=ratio)
    assert fake.journal()[0].options["aspect_ratio"] == ratio


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_every_format_comes_back_as_itself(caller: Caller, output_format: str) -> None:
    answer = caller.generate(output_format=output_format)
    assert check(answer.data).content_type == answer.content_type == f"image/{output_format}"


@pytest.mark.parametrize("seed", [1, 4_294_967_294])
def test_a_seed_is_sent_and_comes_back(caller: Caller, fake: FakeProvider, seed: int) -> None:
    assert caller.generate(seed=seed).seed == seed
    assert fake.journal()[0].options["seed"] == str(seed)


def test_a_seed_of_0_is_sent_too_and_the_answer_has_the_one_that_was_used(caller: Caller, fake: FakeProvider) -> None:
    assert caller.generate(seed=0).seed == 1_000_001
    assert fake.journal()[0].options["seed"] == "0"


def test_the_same_seed_makes_the_same_image_and_another_seed_another(caller: Caller) -> None:
    first, again, other = (caller.generate(seed=seed).data for seed in (7, 7, 8))
    assert first == again != other


def test_options_not_given_are_left_to_the_vendor(caller: Caller, fake: FakeProvider) -> None:
    caller.generate(image_style="watercolor", width=1536, height=1024)
    assert fake.journal()[0].options == {
        "endpoint": "core",
        "accept": "image/*",
        "aspect_ratio": "1:1",
        "output_format": "png",
        "authorized": True,
        "too_large": False,
    }


# --- What the vendor refuses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marker", "code"),
    [
        ("moderation=output;content-type=application/json", "refused_output"),
        ("status=402", "quota_exhausted"),
        ("status=403;code=permission_denied", "auth"),
        ("status=413", "invalid_request"),
        ("status=500;malformed", "unavailable"),
        ("status=402;inside", "quota_exhausted"),
        ("moderation=output;other", "refused_output"),
        ("empty;other", "empty_result"),
    ],
)
def test_each_answer_without_an_image_has_its_code_and_is_not_repeated(
    caller: Caller, fake: FakeProvider, marker: str, code: str
) -> None:
    error = caller.fail(f"{PROMPT} [[{marker}]]")
    assert error.code == code
    assert fake.stats().count == 1
    assert error.provider_request_id.startswith("req_fake_")


def test_a_filtered_image_with_status_200_is_a_refusal(caller: Caller, fake: FakeProvider) -> None:
    error = caller.fail(f"{PROMPT} [[moderation=output]]")
    assert (error.code, error.detail) == ("refused_output", {"stage": "output", "categories": []})
    assert fake.journal()[0].outcome == "200"


def test_a_refused_prompt_is_told_from_a_key_that_may_not(caller: Caller) -> None:
    error = caller.fail(f"{PROMPT} [[moderation=input]]")
    assert (error.detail["stage"], error.detail["categories"]) == ("input", [])
    assert error.message == "Stability's safety system refused the prompt"


@pytest.mark.parametrize(
    ("option", "field"),
    [
        ({"aspect_ratio": "7:3"}, "aspect_ratio"),
        ({"seed": 4_294_967_295}, "seed"),
        ({"seed": -1}, "seed"),
        ({"output_format": "gif"}, "output_format"),
        ({"negative_prompt": "x" * 10_001}, "negative_prompt"),
    ],
)
def test_a_parameter_the_vendor_refuses_is_named(caller: Caller, option: dict[str, Any], field: str) -> None:
    error = caller.fail(**option)
    assert error.code == "invalid_request"
    assert error.message == f"Stability does not accept the request (status 400: {field})"


@pytest.mark.parametrize("model", ["nova", "sd3.5-huge"])
def test_a_model_that_is_gone_is_retired_wherever_it_was_called(caller: Caller, model: str) -> None:
    error = caller.fail(model=model)
    assert (error.code, error.message) == ("model_retired", f"Stability has no model {model}")


@pytest.mark.parametrize("model", ["", "../../../v1/user/account", "core?x=1", "CORE", "sd3.5 large", "c" * 65])
def test_the_name_of_a_model_cannot_lead_to_another_address(caller: Caller, fake: FakeProvider, model: str) -> None:
    assert caller.fail(model=model).code == "model_retired"
    assert fake.stats().count == 0


def test_an_option_the_vendor_lacks_is_refused_before_the_call(caller: Caller, fake: FakeProvider) -> None:
    error = caller.fail(quality="high")
    assert (error.code, error.message) == ("invalid_request", "Stability does not support quality")
    assert fake.stats().count == 0


@pytest.mark.parametrize("said", ["text/plain", "application/octet-stream", "application/json"])
def test_the_declared_type_does_not_matter_after_a_success_of_stability(caller: Caller, said: str) -> None:
    answer = caller.generate(f"{PROMPT} [[content-type={said}]]", output_format="webp")
    assert check(answer.data).content_type == answer.content_type == "image/webp"


# --- The fake ---------------------------------------------------------------------------------------------------------


def post(fake: FakeProvider, **fields: str) -> httpx2.Response:
    return httpx2.post(
        f"{fake.stability_url}/v2beta/stable-image/generate/core",
        headers={"accept": "application/json", "authorization": "Bearer k"},
        files={name: (None, value) for name, value in fields.items()},
    )


def test_the_fake_answers_in_json_too(fake: FakeProvider) -> None:
    said = post(fake, prompt=f"{PROMPT} [[moderation=output]]", seed="5").json()
    assert (said["finish_reason"], said["seed"]) == ("CONTENT_FILTERED", 5)


@pytest.mark.parametrize("fields", [{"seed": "1"}, {"prompt": ""}, {"prompt": "x", "size": "1024x1024"}])
def test_the_fake_takes_no_more_than_the_vendor_does(fake: FakeProvider, fields: dict[str, str]) -> None:
    refused = post(fake, **fields)
    assert (refused.status_code, refused.json()["name"]) == (400, "bad_request")
    assert fake.stats().count == 0
