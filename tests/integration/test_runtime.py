"""What a worker process keeps going: calls that end when they must, leases, signals."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from channels.layers import get_channel_layer
from django.contrib.auth.models import User

from generation import event_loop
from generation.db.functions import Now
from generation.models import GenerationQueue, GenerationRequest, WorkerProcess
from generation.requests import events, lifecycle, permits
from generation.requests.claims import Claim
from tests.support.executors import on_loop, working_on
from tests.support.requests import claimed, queued
from tests.support.stack import wait_until
from workers.providers.base import ProviderError
from workers.runtime import AttemptCancelled, RunningAttempt, Runtime

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]


@pytest.fixture
def runtime(settings: Any) -> Iterator[Runtime]:
    settings.LEASE = timedelta(seconds=2)
    settings.HEARTBEAT_INTERVAL = timedelta(milliseconds=200)
    runtime = Runtime(slots=3)
    runtime.start()
    yield runtime
    runtime.stop()


class Caller(threading.Thread):
    """A task that waits for its provider."""

    def __init__(self, job: RunningAttempt, seconds: float = 60, timeout: float = 60) -> None:
        super().__init__(daemon=True)
        self.job, self.seconds, self.timeout = job, seconds, timeout
        self.ended: BaseException | str = ""
        self.started_call = threading.Event()
        self.cancelled = threading.Event()
        self.start()

    async def _provider(self) -> str:
        self.started_call.set()
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "answer"

    def run(self) -> None:
        try:
            self.ended = event_loop.loop.submit(self.job.call(self._provider(), limit=self.timeout)).result()
        except (AttemptCancelled, ProviderError) as error:
            self.ended = error


def expired(request_id: str) -> bool:
    return GenerationRequest.objects.filter(pk=request_id, lease_expires_at__lt=Now()).exists()


def test_a_cancel_breaks_off_the_call(alice: User, runtime: Runtime) -> None:
    claim = claimed(alice, worker=runtime.name)
    with working_on(runtime, claim) as job:
        caller = Caller(job)
        assert caller.started_call.wait(5)
        lifecycle.cancel([claim.request.pk], actor=alice)
        assert caller.cancelled.wait(5)
        caller.join(5)
    assert isinstance(caller.ended, AttemptCancelled)


def test_a_late_signal_does_not_end_the_call_of_a_newer_claim(alice: User, runtime: Runtime) -> None:
    first = claimed(alice, worker=runtime.name)
    lifecycle.cancel([first.request.pk], actor=alice)
    lifecycle.retry(first.request.pk, actor=alice)
    newer = lifecycle.claim(first.request.pk, worker=runtime.name)
    assert newer is not None
    other = claimed(alice, worker=runtime.name)
    with working_on(runtime, newer) as job, working_on(runtime, other) as other_job:
        caller, other_caller = Caller(job), Caller(other_job)
        assert caller.started_call.wait(5)
        assert other_caller.started_call.wait(5)

        def signal(claim: Claim) -> None:
            message = {"type": "request.cancelled", "claims": {claim.request.pk: claim.number}}
            sending = get_channel_layer().group_send(events.CANCELLATIONS, message)  # type: ignore[union-attr]
            event_loop.loop.submit(sending).result(5)

        def other_ended() -> bool:
            signal(first)
            signal(other)  # read after the one before
            return other_caller.cancelled.wait(0.1)

        wait_until(other_ended, what="the signal of the other request")
        assert not caller.cancelled.is_set()
        on_loop(partial(job.cancel, "the test is over"))
        caller.join(5)


def test_a_cancel_whose_signal_got_lost_is_noticed_by_the_heartbeat(
    alice: User, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generation.requests.events._publish", lambda *_: None)
    claim = claimed(alice, worker=runtime.name)
    with working_on(runtime, claim) as job:
        caller = Caller(job)
        assert caller.started_call.wait(5)
        lifecycle.cancel([claim.request.pk], actor=alice)
        assert caller.cancelled.wait(5)
        caller.join(5)
    assert str(caller.ended) == "the claim is stale"


def test_the_heartbeat_keeps_the_lease_of_running_work_and_of_nothing_else(alice: User, runtime: Runtime) -> None:
    running, left = claimed(alice, worker=runtime.name), claimed(alice, worker=runtime.name)
    with working_on(runtime, running):
        # The claim without a running attempt runs out, although it has the same worker.
        wait_until(lambda: expired(left.request.pk), what="the end of the other lease")
        assert not expired(running.request.pk)


def test_a_worker_that_cannot_renew_its_lease_breaks_off_by_its_own_clock(
    alice: User, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def hang(claims: Any, **_: Any) -> set[Any]:
        over.wait(30)
        return set(claims)

    monkeypatch.setattr(permits, "extend_leases", hang)
    claim = claimed(alice, worker=runtime.name)
    begun = time.monotonic()
    with working_on(runtime, claim) as job:
        caller = Caller(job)
        assert caller.cancelled.wait(10)
        caller.join(5)
        over.set()
    assert str(caller.ended) == "the lease ran out"
    assert time.monotonic() - begun > 1.5


def test_a_call_that_was_abandoned_before_it_began_does_not_begin(alice: User, runtime: Runtime) -> None:
    with working_on(runtime, claimed(alice, worker=runtime.name)) as job:
        on_loop(partial(job.cancel, "cancelled"))
        caller = Caller(job)
        caller.join(5)
    assert isinstance(caller.ended, AttemptCancelled)
    assert not caller.started_call.is_set()


def test_a_call_that_comes_after_the_end_of_its_lease_does_not_begin(alice: User, runtime: Runtime) -> None:
    """As of a worker that was paused between the permission and the call."""
    job = RunningAttempt(claimed(alice, worker=runtime.name))
    job.extend_lease(time.monotonic() - 10)
    caller = Caller(job)
    caller.join(5)
    assert str(caller.ended) == "the lease ran out"
    assert not caller.started_call.is_set()


def test_a_call_ends_at_its_time_out(alice: User, runtime: Runtime) -> None:
    with working_on(runtime, claimed(alice, worker=runtime.name)) as job:
        caller = Caller(job, timeout=0.1)
        caller.join(5)
    assert isinstance(caller.ended, ProviderError)
    assert caller.ended.code == "timeout"


def test_an_answer_is_handed_over(alice: User, runtime: Runtime) -> None:
    with working_on(runtime, claimed(alice, worker=runtime.name)) as job:
        caller = Caller(job, seconds=0)
        caller.join(5)
    assert caller.ended == "answer"


def test_a_finishing_worker_sends_the_next_requests(alice: User, runtime: Runtime) -> None:
    request = queued(alice)
    GenerationQueue.objects.update(dispatched_at=None, redispatch_at=None)
    with working_on(runtime, claimed(alice, worker=runtime.name)):
        pass
    wait_until(
        lambda: GenerationQueue.objects.filter(pk=request.pk, redispatch_at__isnull=False).exists(),
        what="the next message",
    )


def test_a_worker_reports_itself_and_signs_off(db: None) -> None:
    runtime = Runtime(slots=3)
    runtime.start()
    wait_until(lambda: WorkerProcess.objects.filter(name=runtime.name, slots=3).exists(), what="the first heartbeat")
    runtime.stop()
    assert not WorkerProcess.objects.filter(name=runtime.name).exists()
