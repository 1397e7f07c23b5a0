"""Stability's older gRPC service, by our adapter, against the fake: over a real connection."""

from __future__ import annotations

import asyncio
import logging
import traceback
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("stability_sdk", reason="there is none for Python 3.13")

from tests.fakes.control import FakeProvider
from tests.support.callers import PROMPT, Caller, calling, gone, with_nobody_there
from tests.support.stack import wait_until
from workers.image_check import check
from workers.providers import support
from workers.providers.base import Provider, ProviderError
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


def test_the_answer_is_an_image_that_passes_the_image_check(caller: Caller) -> None:
    answer = caller.generate()
    assert isinstance(caller.provider, Provider)
    assert (answer.model, answer.content_type, answer.usage) == (ENGINE, "image/png", {"images": 1})
    assert answer.provider_request_id == "ans_fake_1"
    assert (check(answer.data).width, check(answer.data).height) == (64, 64)


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


def test_20_calls_in_a_row_share_one_connection(caller: Caller, fake: FakeProvider) -> None:
    for _ in range(20):
        caller.generate()
    assert (fake.stats().count, fake.stats().connections) == (20, 1)


def test_calls_at_once_share_it_too(caller: Caller, fake: FakeProvider) -> None:
    fake.script(default="hold")
    assert len(caller.at_once(fake, 20)) == 20
    assert (fake.stats().max_concurrent, fake.stats().connections) == (20, 1)


def test_each_event_loop_has_a_connection_of_its_own(caller: Caller, fake: FakeProvider) -> None:
    async def once() -> None:
        await caller.provider.generate(caller.asked())
        await caller.provider.aclose()

    asyncio.run(once())
    caller.generate()
    assert fake.stats().connections == 2


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
        ("moderation=input", "refused_input"),
        ("moderation=output", "refused_output"),
        ("moderation=classified", "refused_output"),
        ("quota", "quota_exhausted"),
        ("code=UNAUTHENTICATED", "auth"),
        ("code=PERMISSION_DENIED", "auth"),
        ("code=NOT_FOUND", "model_retired"),
        ("code=INVALID_ARGUMENT", "invalid_request"),
        ("code=OUT_OF_RANGE", "invalid_request"),
        ("code=FAILED_PRECONDITION", "invalid_request"),
        ("code=UNIMPLEMENTED", "invalid_request"),
        ("code=RESOURCE_EXHAUSTED", "quota_exhausted"),
        ("code=UNAVAILABLE", "unavailable"),
        ("code=INTERNAL", "unavailable"),
        ("code=UNKNOWN", "unavailable"),
        ("code=ABORTED", "unavailable"),
        ("code=DATA_LOSS", "unavailable"),
        ("code=CANCELLED", "unknown_outcome"),
        ("code=DEADLINE_EXCEEDED", "unknown_outcome"),
        ("status=402", "quota_exhausted"),
        ("status=403", "auth"),
        ("status=429", "quota_exhausted"),
        ("status=503", "unavailable"),
        ("empty", "empty_result"),
        ("malformed", "invalid_image"),
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


def test_a_truncated_image_does_not_pass_the_image_check(caller: Caller) -> None:
    with pytest.raises(ProviderError) as caught:
        check(caller.generate(f"{PROMPT} [[picture=truncated]]").data)
    assert caught.value.code == "invalid_image"


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


def test_an_answer_that_never_comes_leaves_the_outcome_unknown(
    fake: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "SPARE_SECONDS", 0.0)
    with calling(provider(fake.grpc_host, timeout=0.3), model=ENGINE) as impatient:
        assert impatient.fail(f"{PROMPT} [[hang]]").code == "unknown_outcome"
    wait_until(lambda: gone(fake), seconds=5, what="the end of the call")


@pytest.mark.parametrize("marker", ["hang", "drip=0.05"])
def test_a_time_limit_around_the_call_ends_it_at_the_vendors_too(
    caller: Caller, fake: FakeProvider, marker: str
) -> None:
    caller.run_out_of_time(f"{PROMPT} [[{marker}]]")
    wait_until(lambda: gone(fake), seconds=5, what="the end of the call")


def test_cancelling_ends_the_call_and_leaves_the_others_alone(caller: Caller, fake: FakeProvider) -> None:
    assert caller.cancel_one_of_two(fake).data
    assert [(call.outcome, call.disconnected) for call in fake.journal()] == [("gone", True), ("OK", False)]


def test_a_channel_that_is_closed_under_a_call_does_not_look_like_a_cancel(caller: Caller, fake: FakeProvider) -> None:
    async def close() -> Any:
        call = asyncio.create_task(caller.provider.generate(caller.asked(f"{PROMPT} [[hang]]")))
        await asyncio.to_thread(wait_until, lambda: fake.stats().active == 1)
        await caller.provider.aclose()
        return await asyncio.gather(call, return_exceptions=True)

    [error] = caller.run(asyncio.wait_for(close(), 20))
    assert error.code == "unknown_outcome"
    assert caller.generate().data


def test_a_message_of_100_mb_is_given_up_before_it_is_read(caller: Caller, fake: FakeProvider) -> None:
    error = caller.fail(f"{PROMPT} [[huge=100;declared]]")
    assert (error.code, error.message) == ("invalid_image", "The provider's answer has more than 10 MB")
    assert caller.generate().data


def test_100_messages_of_1_mb_are_given_up_before_they_fill_the_memory(caller: Caller, fake: FakeProvider) -> None:
    caller.generate()  # what is loaded on first use is not the answer's
    tracemalloc.start()
    try:
        error = caller.fail(f"{PROMPT} [[huge=100]]")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (error.code, error.message) == ("invalid_image", "The provider's answer has more than 60 MB")
    assert peak < 100 * 1024 * 1024
    wait_until(lambda: gone(fake), seconds=5, what="the end of the call")


# --- Secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "marker", ["", "code=UNAUTHENTICATED", "code=INTERNAL", "moderation=input", "malformed", "reset=after", "huge=100"]
)
def test_the_key_is_in_no_log_and_no_error(
    caller: Caller, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], marker: str
) -> None:
    told, cause = "", None
    with caplog.at_level(logging.DEBUG):
        try:
            caller.generate(f"{PROMPT} [[{marker}]]" if marker else PROMPT)
        except ProviderError as error:
            told = "".join(traceback.format_exception(error)) + repr(error.detail) + error.message
            cause = error.__cause__
    assert bool(told) == bool(marker)
    assert cause is None  # the library's errors hold what was said
    assert "sk-" not in told
    assert PROMPT not in told
    assert KEY not in caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize("key", [f"{KEY}\nx", f"{KEY}…"])
def test_a_key_that_cannot_be_sent_is_not_shown_either(fake: FakeProvider, key: str) -> None:
    with calling(provider(fake.grpc_host, api_key=key), model=ENGINE) as broken:
        error = broken.fail()
    assert error.code == "auth"
    assert KEY not in "".join(traceback.format_exception(error))
    assert fake.stats().count == 0


def test_neither_prompts_nor_addresses_are_logged(
    caller: Caller, fake: FakeProvider, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        caller.generate()
        caller.fail(f"{PROMPT} [[code=INTERNAL]]")
        caller.fail(f"{PROMPT} [[malformed]]")
    logged = caplog.text + "".join(capfd.readouterr())
    assert "Exception deserializing message" in logged  # the library's own remark, so there was somebody to listen
    assert PROMPT not in logged
    assert fake.grpc_host not in logged
