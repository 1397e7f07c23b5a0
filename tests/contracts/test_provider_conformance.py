"""What every adapter does alike, whatever the vendor: over real connections, against the fakes."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
import traceback
import tracemalloc
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import pytest

from generation import event_loop
from generation.states import ErrorCode
from tests.fakes.control import FakeProvider
from tests.support import adapters as adapters_module
from tests.support.adapters import ADAPTERS, Adapter
from tests.support.callers import PROMPT, Caller, gone
from tests.support.executors import on_loop
from tests.support.stack import closed_port, wait_until
from tests.support.traces import everything_logged
from workers import image_check
from workers.providers import support as vendors_module
from workers.providers.base import ImageAnswer, Provider, ProviderError, track_progress
from workers.runtime import AttemptCancelled, RunningAttempt

KEY = "sk-proj-very-secret-0123456789"
#: Text in the fakes' errors, which must not be repeated.
VENDORS_WORDS = ("sk-secret", "not for your eyes", "secret sauce", "nginx")
OPTIONS = [
    *(("quality", quality) for quality in ("low", "medium", "high")),
    *(("output_format", name) for name in ("jpeg", "webp")),
    *(("seed", seed) for seed in (0, 7)),
    ("aspect_ratio", "16:9"),
    ("negative_prompt", "no cats"),
]
#: How the fake answers → our code.
FAULTS = {
    "moderation=input": "refused_input",
    "moderation=output": "refused_output",
    "quota": "quota_exhausted",
    "status=302;location=http://169.254.169.254/": "invalid_request",
    "status=400": "invalid_request",
    "status=401": "auth",
    "status=403": "auth",
    "status=404": "model_retired",
    "status=408": "unavailable",
    "status=422": "invalid_request",
    "status=429": "rate_limited",
    "status=500": "unavailable",
    "status=500;html": "unavailable",
    "status=502;html": "unavailable",
    "status=503": "unavailable",
    "status=504": "unknown_outcome",
    "html": "unavailable",
    **{f"status={status};html": "invalid_request" for status in (400, 401, 402, 403, 422)},
    "status=404;html": "unavailable",
    "status=429;html": "rate_limited",
    "status=504;html": "unknown_outcome",
    "status=400;says=Your request was rejected by the safety system": "refused_input",
    "status=403;code=permission_denied;says=The prompt was flagged": "refused_input",
    "status=500;says=content_policy_violation": "refused_input",
    "status=429;inside": "rate_limited",
    "status=401;inside": "auth",
    "status=503;inside": "unavailable",
    "moderation=input;inside": "refused_input",
    "status=503;encoding=gzip": "unavailable",
    "status=503;encoding=broken": "unavailable",
    "status=503;encoding=unknown": "unavailable",
    "status=503;encoding=bomb": "unavailable",
    "status=400;encoding=gzip": "invalid_request",
    "encoding=broken": "invalid_image",
    "encoding=unknown": "invalid_image",
    "encoding=bomb": "invalid_image",
    "empty": "empty_result",
    "malformed": "invalid_image",
    "reset=unread": "unknown_outcome",
    "reset=before": "unknown_outcome",
    "reset=after": "unknown_outcome",
    "image=truncated": "invalid_image",
    "image=svg": "invalid_image",
    "image=bomb": "invalid_image",
}
#: After these the vendor's id of the request is known.
ANSWERED = ("status", "moderation", "quota", "empty")
#: The same image, however it is written.
SPELLINGS = (
    *(f"base64={spelling}" for spelling in ("data-url", "lines", "urlsafe", "unpadded", "escaped", "quoted")),
    *(f"content-type={kind}" for kind in ("text/plain", "application/octet-stream", "none")),
    "content-type=application/json",
    "content-type=text/html",
    *(f"encoding={kind}" for kind in ("gzip", "deflate", "raw-deflate", "twice", "lie")),
    "other",
    "other;content-type=application/octet-stream",
    "other;content-type=text/plain",
    "bom",
    "bom;content-type=none",
)
FLOODS = {
    # with its length said in advance nothing is read, and without one no more than the bound
    "huge=100;declared": 10,
    # After the bound of 80 MB, sockets may take another 37 MB (the largest ``tcp_rmem`` and ``tcp_wmem`` seen). A fake
    # that could write all of its answer would not see the end of the connection.
    "huge=200": 100,
    "huge=1000000": 100,
    "encoding=bomb": 100,
}
PROMPTS = ("Ein Drache – mit „Flügeln“ 🐉", "two\r\nlines\n", '--x\r\nname="seed"\r\n\r\n1', "a&b=c")
#: An error is judged by its status, whatever follows.
ERROR_FLOODS = ("huge=100;declared;status=500", "huge=100;status=500", "encoding=bomb;status=503")


@pytest.fixture(scope="module")
def vendors() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def fake(vendors: FakeProvider) -> FakeProvider:
    vendors.reset()
    return vendors


@pytest.fixture(params=ADAPTERS, ids=lambda adapter: adapter.name, scope="module")
def adapter(request: pytest.FixtureRequest) -> Adapter:
    assert isinstance(request.param, Adapter)
    if request.param.needs:
        pytest.importorskip(request.param.needs, reason="there is none for Python 3.13")
    return request.param


class Checking(Caller):
    """As the executor does: what comes is an image only if it passes our own check."""

    def generate(self, prompt: str = PROMPT, **more: Any) -> ImageAnswer:
        answer = super().generate(prompt, **more)
        image_check.check(answer.data)
        return answer


@pytest.fixture(scope="module")
def callers() -> Iterator[dict[str, Caller]]:
    """By the names of their adapters. pytest would end a fixture with a parameter at each change of the parameter."""
    callers: dict[str, Caller] = {}
    yield callers
    for caller in callers.values():
        caller.close()


@pytest.fixture
def caller(adapter: Adapter, fake: FakeProvider, callers: dict[str, Caller]) -> Caller:
    """One for all calls, as in a worker: whatever went wrong before, the next call is as good as ever."""
    if adapter.name not in callers:
        callers[adapter.name] = Checking(adapter.make(fake, KEY), model=adapter.model)
        callers[adapter.name].generate()  # loads what logs on first use
        fake.reset()
    return callers[adapter.name]


@pytest.fixture
def fresh(adapter: Adapter, fake: FakeProvider) -> Iterator[Caller]:
    """One without connections: the fake numbers them from its reset on."""
    caller = Checking(adapter.make(fake, KEY), model=adapter.model)
    yield caller
    caller.close()


def job() -> RunningAttempt:
    claim: Any = SimpleNamespace(key=("vga_1", 1), number=1, lease_requested_at=time.monotonic())
    return RunningAttempt(claim)


def _pairs(scripts: Mapping[str, str]) -> list[tuple[Adapter, str, str]]:
    """Each adapter with each script that can happen on its wire, and the code that the script leads to."""
    found = [
        (adapter, script, adapter.expected(script, usual)) for adapter in ADAPTERS for script, usual in scripts.items()
    ]
    return [pair for pair in found if pair[2]]


def _ids(pairs: list[tuple[Adapter, str, str]]) -> list[str]:
    return [f"{adapter.name}-{script}" for adapter, script, _ in pairs]


def on_each_wire(scripts: Iterable[str]) -> pytest.MarkDecorator:
    """Run the test for each adapter and each script that can happen on its wire."""
    pairs = _pairs(dict.fromkeys(scripts, "any"))
    values = [(adapter, script) for adapter, script, _ in pairs]
    return pytest.mark.parametrize(("adapter", "script"), values, ids=_ids(pairs), indirect=["adapter"])


def with_codes(scripts: Mapping[str, str]) -> pytest.MarkDecorator:
    """Run the test as ``on_each_wire`` does, with the code that each script leads to; the usual ones are given."""
    pairs = _pairs(scripts)
    return pytest.mark.parametrize(("adapter", "script", "code"), pairs, ids=_ids(pairs), indirect=["adapter"])


def told(error: ProviderError) -> str:
    """All that can be seen of an error."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))


def assert_tells_no_secret(error: ProviderError) -> None:
    """Neither the key nor the prompt nor the vendor's own words are in the error."""
    seen = told(error)
    assert error.__cause__ is None  # a client's own errors hold the request, and with it the key
    assert not [words for words in (*VENDORS_WORDS, KEY, PROMPT) if words in seen]


def assert_logged_no_secret(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """Something was logged, and neither the key nor the prompt was, nor did a library write them to a file of ours."""
    written = caplog.text + "".join(capfd.readouterr())
    assert caplog.records
    assert KEY not in written
    assert PROMPT not in written


# --- What works -------------------------------------------------------------------------------------------------------


def test_a_sound_image_has_the_details_of_the_vendor(adapter: Adapter, caller: Caller) -> None:
    answer = caller.generate()
    assert isinstance(caller.provider, Provider)
    assert caller.provider.billable
    checked = image_check.check(answer.data)
    assert (answer.content_type, checked.content_type) == ("image/png", "image/png")
    assert (checked.width, checked.height) == (64, 64)
    assert answer.model == adapter.model
    assert "_fake_1" in answer.provider_request_id
    assert answer.usage == adapter.usage


def test_the_prompt_and_the_model_are_what_is_sent(adapter: Adapter, caller: Caller, fake: FakeProvider) -> None:
    caller.generate()
    [call] = fake.journal()
    assert call.prompt == PROMPT
    assert call.options["authorized"]
    assert adapter.model in call.options.values()


@pytest.mark.parametrize(("option", "value"), OPTIONS)
def test_an_option_is_sent_or_refused_and_never_dropped(
    adapter: Adapter, caller: Caller, fake: FakeProvider, option: str, value: Any
) -> None:
    if (option, value) in adapter.sends:
        caller.generate(**{option: value})
        name, sent = adapter.sends[option, value]
        assert fake.journal()[0].options[name] == sent
    else:
        assert caller.fail(**{option: value}).code == ErrorCode.INVALID_REQUEST
        assert fake.stats().count == 0


def test_options_that_were_not_asked_for_are_left_to_the_vendor(
    adapter: Adapter, caller: Caller, fake: FakeProvider
) -> None:
    caller.generate()
    for (option, value), (name, sent) in adapter.sends.items():
        if sent != [ANY] and (option in {"quality", "seed", "negative_prompt"} or value in {"jpeg", "webp"}):
            assert fake.journal()[0].options.get(name) != sent


def test_a_prompt_arrives_as_it_is(adapter: Adapter, caller: Caller, fake: FakeProvider) -> None:
    has_negative = ("negative_prompt", "no cats") in adapter.sends
    for prompt in PROMPTS:
        caller.generate(prompt, **({"negative_prompt": prompt[::-1]} if has_negative else {}))
    arrived = [(call.prompt, call.options.get("negative_prompt")) for call in fake.journal()]
    assert arrived == [(prompt, prompt[::-1] if has_negative else None) for prompt in PROMPTS]


def test_calls_one_after_the_other_share_a_connection(fresh: Caller, fake: FakeProvider) -> None:
    for _ in range(20):
        fresh.generate()
    assert [call.connection for call in fake.journal()] == [fake.journal()[0].connection] * 20


def test_an_error_leaves_the_connection_to_the_next_call(fresh: Caller, fake: FakeProvider) -> None:
    fake.script("", "status=400", "status=429", "status=500", "moderation=input", "moderation=output")
    fresh.generate()
    for _ in range(5):
        fresh.fail()
    assert [call.connection for call in fake.journal()] == [fake.journal()[0].connection] * 6


def test_concurrent_calls_do_not_wait_and_later_ones_reuse_connections(
    adapter: Adapter, fresh: Caller, fake: FakeProvider
) -> None:
    fake.script(default="hold")
    fresh.at_once(fake, 20)
    fresh.at_once(fake, 20)
    assert fake.max_concurrent == 20
    assert len({call.connection for call in fake.journal()}) == (20 if adapter.is_http else 1)


def test_each_event_loop_has_a_connection_of_its_own(fresh: Caller, fake: FakeProvider) -> None:
    async def once() -> None:
        await fresh.provider.generate(fresh.asked())
        await fresh.provider.aclose()

    fresh.generate()
    asyncio.run(once())
    fresh.generate()
    first, other, again = [call.connection for call in fake.journal()]
    assert first == again != other


def test_the_type_is_that_of_the_content_whatever_the_vendor_calls_it(caller: Caller, fake: FakeProvider) -> None:
    fake.script("image=jpeg")
    assert image_check.check(caller.generate().data).content_type == "image/jpeg"


@on_each_wire(SPELLINGS)
def test_an_image_is_found_however_it_is_written(caller: Caller, fake: FakeProvider, script: str) -> None:
    fake.script(script)
    assert image_check.check(caller.generate().data).content_type == "image/png"
    assert fake.stats().count == 1


# --- What the vendor answers instead ----------------------------------------------------------------------------------


@with_codes(FAULTS)
def test_each_fault_has_its_code_and_is_not_repeated(
    adapter: Adapter,
    caller: Caller,
    fake: FakeProvider,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    script: str,
    code: str,
) -> None:
    everything_logged(caplog)
    fake.script(script)
    error = caller.fail()
    assert error.code == code
    assert_tells_no_secret(error)
    assert_logged_no_secret(caplog, capfd)
    assert fake.stats().count == (0 if script == "reset=unread" else 1)
    if script.startswith("reset"):
        assert caller.generate().data
    if adapter.errors_have_ids and "html" not in script and script.startswith(ANSWERED):
        assert "_fake_1" in error.provider_request_id


@pytest.mark.parametrize("stage", ["input", "output"])
def test_a_refusal_names_its_stage_and_what_it_is_about(caller: Caller, fake: FakeProvider, stage: str) -> None:
    fake.script(f"moderation={stage}")
    error = caller.fail()
    assert error.detail["stage"] == stage
    assert all(isinstance(name, str) and name for name in error.detail["categories"])
    assert all(name in error.message for name in error.detail["categories"])


@pytest.mark.parametrize(
    ("said", "at_least", "at_most"),
    [
        ("7", 7, 7),
        ("0.5", 0.5, 0.5),
        ("1e9", 1e9, 1e9),
        (format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True), 1, 86_400),
    ],
    ids=["seconds", "half", "absurd", "date"],
)
@on_each_wire(["status=429;retry-after", "status=503;retry-after"])
def test_how_long_to_wait_is_kept(
    caller: Caller, fake: FakeProvider, script: str, said: str, at_least: float, at_most: float
) -> None:
    fake.script(f"{script}={said}")
    wait = caller.fail().retry_after
    assert wait is not None
    assert at_least <= wait <= at_most


@pytest.mark.parametrize("said", ["", "0", "-7", "abc", "nan", "inf", "6m0s", "Fri, 20 Nov 2020 12:00:00 GMT"])
@on_each_wire(["status=429;retry-after"])
def test_a_time_to_wait_that_makes_no_sense_is_none(caller: Caller, fake: FakeProvider, script: str, said: str) -> None:
    fake.script(f"{script}={said}")
    error = caller.fail()
    assert (error.code, error.retry_after) == (ErrorCode.RATE_LIMITED, None)


# --- What goes wrong on the way ---------------------------------------------------------------------------------------


def test_an_address_without_a_server_is_unavailable(adapter: Adapter) -> None:
    unreachable = FakeProvider()
    unreachable.base_url = f"http://127.0.0.1:{closed_port()}"
    caller = Checking(adapter.make(unreachable, KEY), model=adapter.model)
    error = caller.fail()
    assert (error.code, error.sent) == (ErrorCode.UNAVAILABLE, False)
    caller.close()


def test_an_answer_that_never_comes_leaves_the_outcome_unknown(
    adapter: Adapter, fake: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendors_module, "SPARE_SECONDS", 0.0)
    monkeypatch.setattr(adapters_module, "PATIENCE", 0.3)
    impatient = Checking(adapter.make(fake, KEY), model=adapter.model)
    fake.script("hang")
    assert impatient.fail().code == ErrorCode.UNKNOWN_OUTCOME
    wait_until(lambda: gone(fake), seconds=1, what="the end of the connection")
    impatient.close()


@pytest.mark.parametrize("script", ["hang", "drip=0.05"])
def test_the_runtimes_deadline_ends_the_call_and_the_connection(
    caller: Caller, fake: FakeProvider, script: str
) -> None:
    caller.generate()
    fake.script(script)
    started = time.monotonic()
    with pytest.raises(ProviderError) as caught:
        event_loop.loop.submit(job().call(caller.provider.generate(caller.asked()), limit=0.5)).result()
    assert caught.value.code == ErrorCode.UNKNOWN_OUTCOME
    assert time.monotonic() - started < 5
    wait_until(lambda: gone(fake), seconds=1, what="the end of the connection")


def test_a_cancel_closes_its_connection_at_once_and_no_other(caller: Caller, fake: FakeProvider) -> None:
    fake.script("hang", "hold")
    cancelled, other = job(), job()
    ends: list[object] = []

    def work(one: RunningAttempt) -> None:
        try:
            ends.append(event_loop.loop.submit(one.call(caller.provider.generate(caller.asked()), limit=60)).result())
        except AttemptCancelled as error:
            ends.append(error)

    first, second = (threading.Thread(target=work, args=(one,)) for one in (cancelled, other))
    first.start()
    wait_until(lambda: fake.stats().active == 1)
    second.start()
    wait_until(lambda: fake.stats().active == 2)
    on_loop(partial(cancelled.cancel, "cancelled"))
    wait_until(lambda: gone(fake), seconds=1, what="the end of the connection")
    first.join(timeout=5)
    fake.release()
    second.join(timeout=20)
    abandoned, answer = ends
    assert isinstance(abandoned, AttemptCancelled)
    assert isinstance(answer, ImageAnswer)
    assert [call.disconnected for call in fake.journal()] == [True, False]


@with_codes(dict.fromkeys(FLOODS, "invalid_image"))
def test_an_answer_without_end_is_given_up_before_it_fills_the_memory(
    adapter: Adapter, caller: Caller, fake: FakeProvider, script: str, code: str
) -> None:
    error = _fail_within(caller, fake, script, megabytes=FLOODS[script])
    assert error.code == code
    if "huge" in script:
        bound = 10 if not adapter.is_http and "declared" in script else 80  # gRPC bounds each message, too
        assert error.message == f"The provider's answer has more than {bound} MB"
        wait_until(lambda: gone(fake), seconds=1, what="the end of the connection")


@with_codes(dict.fromkeys(ERROR_FLOODS, "unavailable"))
def test_an_error_without_end_is_judged_by_its_status(
    caller: Caller, fake: FakeProvider, script: str, code: str
) -> None:
    assert _fail_within(caller, fake, script, megabytes=20).code == code


def _fail_within(caller: Caller, fake: FakeProvider, script: str, *, megabytes: int) -> ProviderError:
    """Return the error of a call, after checking how much memory it took at the most."""
    caller.generate()  # the memory of modules that are loaded on first use does not count
    fake.script(script)
    tracemalloc.start()
    try:
        error = caller.fail()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < megabytes * 1024 * 1024
    return error


# --- What was sent ----------------------------------------------------------------------------------------------------


def sent_by(caller: Caller, *, seconds: float = 20.0, **more: Any) -> tuple[bool, ProviderError | None]:
    """Whether a call, ended after a while, says that its request was sent; and its error."""

    async def call() -> tuple[bool, ProviderError | None]:
        progress = track_progress()
        try:
            async with asyncio.timeout(seconds):
                await caller.provider.generate(caller.asked(**more))
        except ProviderError as error:
            return progress.sent, error
        except TimeoutError:
            return progress.sent, None
        return progress.sent, None

    found: tuple[bool, ProviderError | None] = caller.run(call())
    return found


@pytest.mark.parametrize("script", ["", "hang", "status=503", "reset=before", "status=400"])
def test_a_request_that_left_us_counts_as_sent(caller: Caller, fake: FakeProvider, script: str) -> None:
    fake.script(script)
    sent, error = sent_by(caller, seconds=0.5 if script == "hang" else 20.0)
    assert sent
    assert error is None or error.sent


def test_an_option_that_is_refused_was_not_sent(caller: Caller) -> None:
    sent, error = sent_by(caller, quality="as good as it gets", negative_prompt="x", seed=-1)
    assert not sent
    assert error is not None
    assert (error.sent, error.scope) == (False, "model")


def test_a_server_that_never_completes_the_connection_was_sent_nothing(
    adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendors_module, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        unreachable = FakeProvider()
        # Over TLS, whose handshake it never answers; gRPC waits for the other side's settings anyway.
        unreachable.base_url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        unreachable._grpc_port = silent.getsockname()[1]
        caller = Checking(adapter.make(unreachable, KEY), model=adapter.model)
        sent, error = sent_by(caller)  # it gives up by itself
        caller.close()
    assert not sent
    assert error is not None
    assert (error.code, error.sent) == (ErrorCode.UNAVAILABLE, False)


# --- Secrets ----------------------------------------------------------------------------------------------------------


@on_each_wire(["", "huge=100;declared", "huge=100"])
def test_neither_key_nor_prompt_is_in_any_log_or_error(
    caller: Caller,
    fake: FakeProvider,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    script: str,
) -> None:
    """The same holds after each fault, see ``test_each_fault_has_its_code_and_is_not_repeated``."""
    everything_logged(caplog)
    fake.script(script)
    if script:
        assert_tells_no_secret(caller.fail())
    else:
        assert KEY not in repr(caller.generate())
    assert_logged_no_secret(caplog, capfd)


def test_a_worker_logs_nothing_of_a_call_however_it_ends(
    caller: Caller, fake: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caller.generate()
    fake.script("status=500")
    caller.fail()
    assert caplog.records == []


@pytest.mark.parametrize("spoilt", [f"{KEY}\nx", f"{KEY}é", f"{KEY}…"])
def test_a_key_that_cannot_be_sent_is_not_shown_either(
    adapter: Adapter, fake: FakeProvider, caplog: pytest.LogCaptureFixture, spoilt: str
) -> None:
    caplog.set_level(logging.DEBUG)
    caller = Checking(adapter.make(fake, spoilt), model=adapter.model)
    error = caller.fail()
    assert error.code == ErrorCode.AUTH
    assert KEY not in told(error)
    assert KEY not in caplog.text
    assert fake.stats().count == 0
    caller.close()
