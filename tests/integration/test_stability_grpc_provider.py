"""Stability's older gRPC service, by our adapter, against the fake: over a real connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("stability_sdk", reason="there is none for Python 3.13")

from tests.fakes.control import FakeProvider
from tests.support.callers import PROMPT, Caller, calling, with_nobody_there
from tests.support.stack import wait_until
from workers.image_check import check
from workers.providers.stability_grpc import StabilityGrpcProvider

KEY = "sk-very-secret-0123456789"
ENGINE = "stable-diffusion-xl-1024-v1-0"


@pytest.fixture(scope="module")
def vendor() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def fake(vendor: FakeProvider) -> FakeProvider:
    vendor.reset()
    return vendor


def provider(host: str, **options: Any) -> StabilityGrpcProvider:
    usual: dict[str, Any] = {"api_key": KEY, "host": host, "timeout": 20.0}
    return StabilityGrpcProvider(**usual | options)


@pytest.fixture
def caller(fake: FakeProvider) -> Iterator[Caller]:
    with calling(provider(fake.grpc_host), model=ENGINE) as caller:
        yield caller


# --- What works -------------------------------------------------------------------------------------------------------


def test_the_requested_options_are_sent(caller: Caller, fake: FakeProvider) -> None:
    caller.generate(width=1344, height=768, seed=7, negative_prompt="no cats", request_id="vga_2")
    call = fake.journal()[0]
    assert (call.vendor, call.prompt, call.request_id) == ("stability", PROMPT, "vga_2")
    assert call.options == {
        "engine": ENGINE,
        "width": 1344,
        "height": 768,
        "samples": 1,
        "seed": [7],
        "negative_prompt": "no cats",
        "authorized": True,
    }


@pytest.mark.parametrize("seed", [1, 4_294_967_294])
def test_a_seed_comes_back(caller: Caller, seed: int) -> None:
    assert caller.generate(seed=seed).seed == seed


@pytest.mark.parametrize("seed", [None, 0])
def test_without_a_seed_each_call_has_a_new_one_named_in_the_answer(
    caller: Caller, fake: FakeProvider, seed: int | None
) -> None:
    answered = [caller.generate(seed=seed).seed for _ in range(2)]
    sent = [call.options["seed"] for call in fake.journal()]
    assert [[seed] for seed in answered] == sent
    assert sent[0] != sent[1]


def test_rest_and_grpc_share_script_and_journal(caller: Caller, fake: FakeProvider) -> None:
    from workers.providers.stability import StabilityProvider

    fake.script("status=429", "quota")
    rest = StabilityProvider(api_key=KEY, base_url=fake.stability_url, timeout=20)
    with calling(rest, model="core") as other:
        assert other.fail().code == "rate_limited"
    assert caller.fail().code == "quota_exhausted"
    assert [call.number for call in fake.journal()] == [1, 2]


# --- What the vendor refuses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marker", "code"),
    [
        ("moderation=classified", "refused_output"),
        ("code=OUT_OF_RANGE", "invalid_request"),
        ("code=FAILED_PRECONDITION", "invalid_request"),
        ("code=UNIMPLEMENTED", "invalid_request"),
        ("code=INTERNAL", "unavailable"),
        ("code=UNKNOWN", "unavailable"),
        ("code=ABORTED", "unavailable"),
        ("code=DATA_LOSS", "unavailable"),
        ("code=CANCELLED", "unknown_outcome"),
        ("code=DEADLINE_EXCEEDED", "unknown_outcome"),
        ("status=402", "quota_exhausted"),
    ],
)
def test_each_answer_without_an_image_has_its_code_and_is_not_repeated(
    caller: Caller, fake: FakeProvider, marker: str, code: str
) -> None:
    assert caller.fail(f"{PROMPT} [[{marker}]]").code == code
    assert fake.stats().count == 1


@pytest.mark.parametrize(
    ("marker", "stage", "categories"),
    [("input", "input", []), ("output", "output", []), ("classified", "output", ["violence"])],
)
def test_a_refusal_names_stage_and_reason_even_if_there_is_an_image(
    caller: Caller, marker: str, stage: str, categories: list[str]
) -> None:
    error = caller.fail(f"{PROMPT} [[moderation={marker}]]")
    assert error.detail == {"stage": stage, "categories": categories}
    assert error.provider_request_id == "ans_fake_1"
    assert PROMPT not in error.message


def test_a_model_that_is_gone_is_retired(caller: Caller) -> None:
    error = caller.fail(model="stable-diffusion-512-v2-1")
    assert (error.code, error.message) == ("model_retired", "Stability has no model stable-diffusion-512-v2-1")


def test_a_size_that_the_model_does_not_make_is_an_invalid_request(caller: Caller, fake: FakeProvider) -> None:
    assert caller.fail(width=1024, height=1536).code == "invalid_request"
    assert fake.stats().count == 1


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ({"quality": "high"}, "quality"),
        ({"output_format": "webp"}, "outputFormat webp over gRPC"),
        ({"width": 1824}, "size 1824x1024"),
        ({"seed": 4_294_967_295}, "seed 4294967295"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_an_option_the_vendor_lacks_is_refused_before_the_call(
    caller: Caller, fake: FakeProvider, option: dict[str, Any], what: str
) -> None:
    error = caller.fail(**option)
    assert (error.code, error.message) == ("invalid_request", f"Stability knows no {what}")
    assert fake.stats().count == 0


def test_the_declared_type_of_an_image_does_not_matter(caller: Caller) -> None:
    answer = caller.generate(f"{PROMPT} [[content-type=text/plain]]")
    assert check(answer.data).content_type == answer.content_type == "image/png"


# --- What goes wrong on the way ---------------------------------------------------------------------------------------


def test_an_address_without_a_server_is_unavailable_each_time() -> None:
    def call(address: str) -> None:
        with calling(provider(address), model=ENGINE) as caller:
            assert [caller.fail().code for _ in range(3)] == ["unavailable"] * 3

    with_nobody_there(call)


def test_concurrent_calls_without_a_server_are_all_unavailable() -> None:
    def call(address: str) -> None:
        with calling(provider(address), model=ENGINE) as caller:

            async def crowd() -> list[Any]:
                calls = (caller.provider.generate(caller.asked()) for _ in range(5))
                return await asyncio.gather(*calls, return_exceptions=True)

            assert [error.code for error in caller.run(crowd())] == ["unavailable"] * 5

    with_nobody_there(call)


def test_one_that_was_away_is_found_as_soon_as_it_is_back() -> None:
    with FakeProvider() as fake, calling(provider(fake.grpc_host), model=ENGINE) as caller:
        caller.generate()
        fake.stop()
        caller.fail()  # whichever it is: the connection may not have been missed yet
        assert [caller.fail().code for _ in range(2)] == ["unavailable"] * 2
        fake.start()
        assert caller.generate().data


def test_a_page_of_a_proxys_is_unavailable(fake: FakeProvider) -> None:
    with calling(provider(fake.base_url.removeprefix("http://")), model=ENGINE) as caller:
        assert caller.fail().code == "unavailable"


def test_a_stranger_is_not_sent_the_key_in_the_clear(fake: FakeProvider) -> None:
    # This leads to the fake, too, but it is no name that is known to stay on this machine: so TLS has to be spoken.
    host = f"ipv4:{fake.grpc_host}"
    with calling(provider(host), model=ENGINE) as caller:
        assert caller.fail().code == "unavailable"
    assert fake.stats().count == 0


@pytest.mark.parametrize("when", ["unread", "before", "after"])
def test_a_reset_leaves_the_outcome_unknown(caller: Caller, fake: FakeProvider, when: str) -> None:
    for _ in range(5):
        fake.script(f"reset={when}")
        assert caller.fail().code == "unknown_outcome"
        assert caller.generate().data


def test_a_channel_that_is_closed_under_a_call_does_not_look_like_a_cancel(caller: Caller, fake: FakeProvider) -> None:
    async def close() -> Any:
        call = asyncio.create_task(caller.provider.generate(caller.asked(f"{PROMPT} [[hang]]")))
        await asyncio.to_thread(wait_until, lambda: fake.stats().active == 1)
        await caller.provider.aclose()
        return await asyncio.gather(call, return_exceptions=True)

    [error] = caller.run(asyncio.wait_for(close(), 20))
    assert error.code == "unknown_outcome"
    assert caller.generate().data


# --- Secrets ----------------------------------------------------------------------------------------------------------


def test_neither_prompts_nor_addresses_are_logged(
    caller: Caller, fake: FakeProvider, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        caller.generate()
        caller.fail(f"{PROMPT} [[code=INTERNAL]]")
        caller.fail(f"{PROMPT} [[malformed]]")
    logged = caplog.text + "".join(capfd.readouterr())
    assert "Exception deserializing message" in logged  # the library's own remark, so its log is captured
    assert PROMPT not in logged
    assert fake.grpc_host not in logged
