"""Stability's REST adapter against the fake, over real HTTP."""

from __future__ import annotations

import logging
import traceback
import tracemalloc
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fakes.control import FakeProvider
from tests.support.callers import PROMPT, Caller, calling, gone, with_nobody_there
from tests.support.stack import wait_until
from workers.image_check import check
from workers.providers import support
from workers.providers.base import Provider, ProviderError
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


def test_the_answer_is_an_image_that_passes_the_image_check(caller: Caller) -> None:
    answer = caller.generate()
    assert isinstance(caller.provider, Provider)
    assert (answer.model, answer.content_type, answer.usage) == ("core", "image/png", {"images": 1})
    assert answer.provider_request_id.startswith("req_fake_")
    assert (check(answer.data).width, check(answer.data).height) == (64, 64)


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


@pytest.mark.parametrize(
    "prompt", ["Ein Drache – mit „Flügeln“ 🐉", "two\r\nlines\n", '--x\r\nname="seed"\r\n\r\n1', "a&b=c"]
)
def test_a_prompt_arrives_as_it_is(caller: Caller, fake: FakeProvider, prompt: str) -> None:
    caller.generate(prompt, negative_prompt=prompt[::-1])
    call = fake.journal()[0]
    assert (call.prompt, call.options["negative_prompt"]) == (prompt, prompt[::-1])


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


def test_20_calls_in_a_row_share_one_connection(caller: Caller, fake: FakeProvider) -> None:
    for _ in range(20):
        caller.generate()
    assert (fake.stats().count, fake.stats().connections) == (20, 1)


def test_an_error_leaves_the_connection_to_the_next_call(caller: Caller, fake: FakeProvider) -> None:
    for marker in ("status=400", "status=429", "status=500", "moderation=input", "moderation=output"):
        caller.fail(f"{PROMPT} [[{marker}]]")
    assert (fake.stats().count, fake.stats().connections) == (5, 1)


def test_calls_at_once_have_a_connection_each_and_the_next_ones_reuse_them(caller: Caller, fake: FakeProvider) -> None:
    fake.script(default="hold")
    caller.at_once(fake, 20)
    caller.at_once(fake, 20)
    assert (fake.stats().max_concurrent, fake.stats().connections) == (20, 20)


# --- What the vendor refuses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marker", "code"),
    [
        ("moderation=input", "refused_input"),
        ("moderation=output", "refused_output"),
        ("moderation=output;content-type=application/json", "refused_output"),
        ("quota", "quota_exhausted"),
        ("status=400", "invalid_request"),
        ("status=401", "auth"),
        ("status=402", "quota_exhausted"),
        ("status=403", "refused_input"),
        ("status=403;code=permission_denied", "auth"),
        ("status=404", "model_retired"),
        ("status=413", "invalid_request"),
        ("status=422", "invalid_request"),
        ("status=429", "rate_limited"),
        ("status=500", "unavailable"),
        ("status=500;malformed", "unavailable"),
        ("status=503", "unavailable"),
        ("status=502;html", "unavailable"),
        ("status=403;html", "invalid_request"),
        ("status=429;inside", "rate_limited"),
        ("status=402;inside", "quota_exhausted"),
        ("moderation=output;other", "refused_output"),
        ("empty;other", "empty_result"),
        ("html", "unavailable"),
        ("empty", "empty_result"),
    ],
)
def test_each_answer_without_an_image_has_its_code_and_is_not_repeated(
    caller: Caller, fake: FakeProvider, marker: str, code: str
) -> None:
    error = caller.fail(f"{PROMPT} [[{marker}]]")
    assert error.code == code
    assert fake.stats().count == 1
    if "html" not in marker:
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
    assert (error.code, error.message) == ("invalid_request", "Stability knows no quality")
    assert fake.stats().count == 0


@pytest.mark.parametrize(("marker", "seconds"), [("status=429", None), ("status=429;retry-after=7", 7)])
def test_how_long_to_wait_is_kept_where_it_is_said(caller: Caller, marker: str, seconds: float | None) -> None:
    assert caller.fail(f"{PROMPT} [[{marker}]]").retry_after == seconds


@pytest.mark.parametrize("marker", ["picture=truncated", "malformed"])
def test_a_broken_image_does_not_pass_the_image_check(caller: Caller, marker: str) -> None:
    with pytest.raises(ProviderError) as caught:
        check(caller.generate(f"{PROMPT} [[{marker}]]").data)
    assert caught.value.code == "invalid_image"


@pytest.mark.parametrize("said", ["text/plain", "application/octet-stream", "application/json"])
def test_the_declared_type_does_not_matter_after_a_success_of_stability(caller: Caller, said: str) -> None:
    answer = caller.generate(f"{PROMPT} [[content-type={said}]]", output_format="webp")
    assert check(answer.data).content_type == answer.content_type == "image/webp"


# --- What goes wrong on the way ---------------------------------------------------------------------------------------


def test_an_address_without_a_server_is_unavailable() -> None:
    def call(address: str) -> None:
        with calling(provider(f"http://{address}"), model="core") as caller:
            assert caller.fail().code == "unavailable"

    with_nobody_there(call)


@pytest.mark.parametrize("when", ["unread", "before", "after"])
def test_a_reset_leaves_the_outcome_unknown(caller: Caller, fake: FakeProvider, when: str) -> None:
    fake.script(f"reset={when}")
    assert caller.fail().code == "unknown_outcome"
    assert caller.generate().data


def test_an_answer_that_never_comes_leaves_the_outcome_unknown(
    fake: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "SPARE_SECONDS", 0.0)
    with calling(provider(fake.stability_url, timeout=0.3), model="core") as impatient:
        assert impatient.fail(f"{PROMPT} [[hang]]").code == "unknown_outcome"
    wait_until(lambda: gone(fake), seconds=1, what="the end of the connection")


@pytest.mark.parametrize("marker", ["hang", "drip=0.05"])
def test_a_time_limit_around_the_call_ends_it_and_closes_the_connection(
    caller: Caller, fake: FakeProvider, marker: str
) -> None:
    caller.run_out_of_time(f"{PROMPT} [[{marker}]]")
    wait_until(lambda: gone(fake), seconds=1, what="the end of the connection")


def test_cancelling_closes_the_connection_and_leaves_the_others_alone(caller: Caller, fake: FakeProvider) -> None:
    assert caller.cancel_one_of_two(fake).data
    assert [(call.outcome, call.disconnected) for call in fake.journal()] == [("gone", True), ("200", False)]


@pytest.mark.parametrize(
    ("marker", "megabytes"),
    [
        ("huge=100", 100),
        ("huge=100;declared", 10),
    ],
)
def test_an_answer_of_100_mb_is_given_up_before_it_fills_the_memory(
    caller: Caller, fake: FakeProvider, marker: str, megabytes: int
) -> None:
    caller.generate()  # what is loaded on first use is not the answer's
    tracemalloc.start()
    try:
        error = caller.fail(f"{PROMPT} [[{marker}]]")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (error.code, error.message) == ("invalid_image", "The provider's answer has more than 60 MB")
    assert peak < megabytes * 1024 * 1024
    wait_until(lambda: gone(fake), seconds=1, what="the end of the connection")


# --- Secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "marker", ["", "status=401", "status=500", "moderation=input", "html", "malformed", "reset=after", "huge=100"]
)
def test_the_key_is_in_no_log_and_no_error(caller: Caller, caplog: pytest.LogCaptureFixture, marker: str) -> None:
    told, cause = "", None
    with caplog.at_level(logging.DEBUG):
        for name in ("httpx2", "httpcore2"):
            caplog.set_level(logging.DEBUG, logger=name)
        try:
            caller.generate(f"{PROMPT} [[{marker}]]" if marker else PROMPT)
        except ProviderError as error:
            told = "".join(traceback.format_exception(error)) + repr(error.detail) + error.message
            cause = error.__cause__
    assert cause is None  # the client's errors hold the request, and with it the key
    assert "sk-" not in told
    assert PROMPT not in told
    assert caplog.records
    assert KEY not in caplog.text


def test_neither_prompts_nor_addresses_are_logged_at_info(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        caller.generate()
        caller.fail(f"{PROMPT} [[status=500]]")
    assert caplog.records == []


@pytest.mark.parametrize("key", [f"{KEY}\nx", f"{KEY}…"])
def test_a_key_that_cannot_be_sent_is_not_shown_either(fake: FakeProvider, key: str) -> None:
    with calling(provider(fake.stability_url, api_key=key), model="core") as broken:
        error = broken.fail()
    assert error.code == "auth"
    assert KEY not in "".join(traceback.format_exception(error))
    assert fake.stats().count == 0


# --- The fake ---------------------------------------------------------------------------------------------------------


def post(fake: FakeProvider, **fields: str) -> httpx.Response:
    return httpx.post(
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
