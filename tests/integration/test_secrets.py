"""A provider's key is nowhere to be found, however its calls fail: vendors that quote it included."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User

from generation import caching, event_loop
from generation.models import GenerationAttempt, GenerationRequest, ProviderModel, ProviderState
from generation.states import Status
from tests.conftest import client_of
from tests.fakes.control import FakeProvider
from tests.support.adapters import ADAPTERS, Adapter
from tests.support.executors import executor
from tests.support.requests import queued
from tests.support.stack import closed_port
from tests.support.traces import everything_logged, tapped_redis, traces
from workers.providers.base import Provider

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]

CANARY = "sk-canary-8c1f5e0d7b"
PREFIX = "/api/visual-generation"
SCRIPTS = [
    *("", "moderation=input", "moderation=output", "quota", "empty", "malformed", "html", "hang", "huge=100"),
    *(f"status={status}" for status in (302, 400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 501, 503)),
    *("status=500;html", "status=429;retry-after=7", "reset=unread", "reset=before", "reset=after"),
    *("image=truncated", "image=svg"),
]
#: Codes of these on every wire. A call that hangs was sent, so its outcome is unknown.
CODES = {
    *("auth", "empty_result", "invalid_image", "invalid_request", "model_retired", "quota_exhausted"),
    *("refused_input", "refused_output", "unavailable", "unknown_outcome"),
}


@pytest.fixture(scope="module")
def vendor() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture(params=ADAPTERS, ids=lambda adapter: adapter.name)
def adapter(request: pytest.FixtureRequest, settings: Any) -> Adapter:
    adapter: Adapter = request.param
    if adapter.needs:
        pytest.importorskip(adapter.needs, reason="there is none for Python 3.13")
    adapter.configure(settings)
    settings.PROVIDER_TIMEOUT = timedelta(seconds=3)
    return adapter


@pytest.fixture
def made(adapter: Adapter) -> Iterator[Callable[..., Provider]]:
    """Makes the adapter."""
    providers: list[Any] = []

    def make(fake: FakeProvider, key: str = CANARY) -> Provider:
        providers.append(adapter.make(fake, key))
        return providers[-1]  # type: ignore[no-any-return]

    yield make
    for provider in providers:
        event_loop.loop.submit(provider.aclose()).result(timeout=20)


def attempt(owner: User, provider: Provider) -> GenerationRequest:
    """One attempt by a worker that sees all breakers closed."""
    ProviderModel.objects.update(enabled=True)
    ProviderState.objects.update(failures=0, open_until=None)
    caching.clear_all()
    request = queued(owner, max_attempts=1)
    executor(provider).run(request.pk)
    request.refresh_from_db()
    return request


def answers(owner: User, *requests: GenerationRequest) -> str:
    """What the owner is told."""
    client = client_of(owner)
    addresses = [f"{PREFIX}/status/{request.pk}" for request in requests]
    addresses += [f"{PREFIX}/requests?limit=100", f"{PREFIX}/queue/status", f"{PREFIX}/metrics", "/api/schema"]
    told = [client.get(address) for address in addresses]
    assert [answer.status_code for answer in told] == [200] * len(told)
    return "".join(answer.content.decode() for answer in told)


def test_after_calls_that_fail_in_every_way_the_key_is_nowhere(
    made: Callable[..., Provider], vendor: FakeProvider, bob: User, caplog: pytest.LogCaptureFixture
) -> None:
    vendor.reset()
    provider = made(vendor)
    everything_logged(caplog)
    done = []
    with tapped_redis() as tap:
        for script in SCRIPTS:
            vendor.script(script)
            done.append(attempt(bob, provider))
        unreachable = FakeProvider()
        unreachable.base_url = f"http://127.0.0.1:{closed_port()}"
        done.append(attempt(bob, made(unreachable)))
        done += [attempt(bob, made(vendor, CANARY + spoilt)) for spoilt in ("\nx", "é")]
        told = answers(bob, *done)
    assert Status.COMPLETED in {request.status for request in done}
    assert set(GenerationAttempt.objects.values_list("error_code", flat=True)) >= CODES
    assert caplog.records
    assert tap.heard
    assert CANARY not in told
    assert traces(CANARY, caplog=caplog, tap=tap) == []


def test_words_that_are_there_are_found(
    alice: User, settings: Any, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    everything_logged(caplog)
    with tapped_redis() as tap:
        request = queued(alice, prompt=f"A dragon by the name of {CANARY}")
        logging.getLogger("workers.executor").debug("it failed", extra={"why": CANARY})
        settings.MEDIA_ROOT.mkdir(parents=True)
        (settings.MEDIA_ROOT / "receipt").write_text(CANARY)
        redis.Redis.from_url(settings.REDIS_URL).publish("vga", CANARY)
    assert traces(CANARY, caplog=caplog, tap=tap) == [
        f"file {settings.MEDIA_ROOT}/receipt",
        "logger workers.executor",
        "redis",
        "table generation_requests",
    ]
    assert CANARY in answers(alice, request)
