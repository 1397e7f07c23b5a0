"""When a breaker opens, for how long, and how it closes; for all workers, since its row decides."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from generation import caching
from generation.db.functions import Now
from generation.models import GenerationQueue, ProviderState
from generation.providers import circuit_breaker
from generation.requests import lifecycle, permits
from generation.states import ErrorCode, Status
from tests.support.executors import cancel_attempts
from tests.support.races import at_once
from tests.support.requests import claimed, queued
from tests.support.stack import wait_until
from tests.support.vendors import Vendors, attempts, end_pauses
from workers.policies.rate_limit import RateLimiter
from workers.runtime import Runtime

pytestmark = pytest.mark.django_db(transaction=True)

WAIT = timedelta(seconds=10)


def fail(code: str = "unavailable", *, times: int = 1, wait: timedelta = WAIT, probe: bool = False) -> None:
    for _ in range(times):
        circuit_breaker.failed("openai", code, wait=wait, probe=probe)


def permit(owner: User) -> Any:
    """What a new request hears that wants to call."""
    return permits.begin_call(
        claimed(owner), provider="openai", model="m", prompt="p", deadline=timedelta(minutes=3), billable=True
    )


# --- Trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["unavailable", "timeout", "unknown_outcome"])
def test_five_failures_in_a_row_open_the_breaker_for_30_seconds(alice: User, code: str) -> None:
    fail(code, times=4)
    assert permit(alice).granted
    fail(code)
    refused = permit(alice)
    assert not refused.granted
    assert refused.provider_suspended
    assert 25 < refused.wait.total_seconds() <= 30
    assert [(one.provider, one.reason, one.is_open) for one in circuit_breaker.open_breakers()] == [
        ("openai", code, True)
    ]


@pytest.mark.parametrize(
    "code",
    ["refused_input", "refused_output", "invalid_request", "empty_result", "invalid_image", "model_retired", "storage"],
)
def test_whatever_answer_comes_in_between_it_is_there(alice: User, code: str) -> None:
    fail(times=4)
    fail(code)
    fail(times=4)
    assert permit(alice).granted


def test_a_success_resets_the_count_of_failures(alice: User) -> None:
    fail(times=4)
    circuit_breaker.succeeded("openai")
    fail(times=4)
    assert permit(alice).granted


def test_a_fault_of_ours_says_nothing_of_the_provider(alice: User) -> None:
    fail(times=4)
    fail("internal", times=9)
    assert permit(alice).granted
    fail()
    assert not permit(alice).granted


def test_concurrent_failures_open_the_breaker_once_and_briefly(alice: User) -> None:
    def fails() -> bool:
        fail()
        return True

    at_once(*[fails] * 20)
    assert 25 < permit(alice).wait.total_seconds() <= 30


def test_another_provider_is_not_concerned(alice: User) -> None:
    fail(times=5)
    circuit_breaker.failed("stability", "unavailable", wait=WAIT)
    assert [one.provider for one in circuit_breaker.open_breakers()] == ["openai"]


# --- The probe --------------------------------------------------------------------------------------------------------


def test_when_the_pause_is_over_one_call_is_let_through_and_no_other(alice: User) -> None:
    fail(times=5)
    end_pauses()
    claims = [claimed(alice) for _ in range(4)]

    def granted(claim: Any) -> bool:
        return permits.begin_call(
            claim, provider="openai", model="m", prompt="p", deadline=timedelta(minutes=3)
        ).granted

    assert at_once(*(lambda claim=claim: granted(claim) for claim in claims)).count(True) == 1
    refused = permit(alice)
    assert (refused.granted, refused.provider_suspended) == (False, True)
    assert 170 < refused.wait.total_seconds() <= 180  # the deadline of the probe's call


def test_a_successful_probe_closes_the_breaker(alice: User) -> None:
    fail(times=5)
    end_pauses()
    assert permit(alice).probe
    circuit_breaker.succeeded("openai")
    for _ in range(3):
        found = permit(alice)
        assert (found.granted, found.probe) == (True, False)
    fail(times=4)
    assert permit(alice).granted


def test_each_probe_that_fails_doubles_the_pause_up_to_10_minutes(alice: User) -> None:
    fail(times=5)
    pauses = []
    for _ in range(7):
        pauses.append(round(permit(alice).wait.total_seconds()))
        end_pauses()
        assert permit(alice).probe
        fail(probe=True)
    assert pauses == pytest.approx([30, 60, 120, 240, 480, 600, 600], abs=3)


def test_calls_that_were_under_way_when_it_opened_lengthen_nothing(alice: User) -> None:
    fail(times=5)
    fail("timeout", times=10)
    fail("auth")
    assert permit(alice).wait.total_seconds() <= 30
    end_pauses()
    assert permit(alice).probe
    fail(times=10)  # of theirs, while the probe is on its way
    fail(probe=True)
    assert 50 < permit(alice).wait.total_seconds() <= 60


def test_an_answer_to_a_call_that_was_under_way_brings_it_back(alice: User) -> None:
    fail(times=5)
    circuit_breaker.succeeded("openai")
    assert permit(alice).granted


@pytest.mark.parametrize(
    "came_to_nothing", [lambda: fail("internal", probe=True), lambda: circuit_breaker.release_probe("openai")]
)
def test_a_probe_that_came_to_nothing_is_followed_by_another_at_once(alice: User, came_to_nothing: Any) -> None:
    fail(times=5)
    end_pauses()
    assert permit(alice).probe
    came_to_nothing()
    assert permit(alice).probe


def test_a_probe_lost_with_its_worker_is_repeated_after_its_deadline(alice: User) -> None:
    fail(times=5)
    end_pauses()
    assert permit(alice).probe
    assert not permit(alice).granted
    end_pauses()
    assert permit(alice).probe


# --- Rate limits, and failures that staff must fix --------------------------------------------------------------------


def test_a_rate_limited_provider_is_called_again_after_the_named_time(alice: User) -> None:
    fail("rate_limited", wait=timedelta(seconds=45))
    refused = permit(alice)
    assert (refused.granted, refused.provider_suspended) == (False, True)
    assert 40 < refused.wait.total_seconds() <= 45
    assert [one.is_open for one in circuit_breaker.open_breakers()] == [False]
    end_pauses()
    for _ in range(2):
        found = permit(alice)
        assert (found.granted, found.probe) == (True, False)


def test_the_longest_of_what_several_are_told_holds(alice: User) -> None:
    for seconds in (20, 60, 5):
        fail("rate_limited", wait=timedelta(seconds=seconds))
    assert 55 < permit(alice).wait.total_seconds() <= 60
    fail(times=5)
    assert 55 < permit(alice).wait.total_seconds() <= 60


def test_a_probe_that_is_asked_to_wait_has_got_an_answer(alice: User) -> None:
    fail(times=5)
    end_pauses()
    assert permit(alice).probe
    fail("rate_limited", wait=timedelta(seconds=7), probe=True)
    assert 3 < permit(alice).wait.total_seconds() <= 7
    end_pauses()
    assert not permit(alice).probe


@pytest.mark.parametrize("code", [ErrorCode.AUTH, ErrorCode.QUOTA_EXHAUSTED])
def test_a_failure_for_staff_opens_the_breaker_and_is_logged_once(
    alice: User, code: ErrorCode, caplog: pytest.LogCaptureFixture
) -> None:
    fail(code, times=3)
    assert 590 < permit(alice).wait.total_seconds() <= 600
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [(one.action, one.provider, one.code) for one in errors] == [  # type: ignore[attr-defined]
        ("breaker-open", "openai", code)
    ]
    assert code.label in errors[0].getMessage()
    end_pauses()
    assert permit(alice).probe
    fail(code, probe=True)
    assert 590 < permit(alice).wait.total_seconds() <= 600


# --- Bringing it back by hand -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["auth", "rate_limited"])
def test_staff_may_close_the_breaker(alice: User, code: str) -> None:
    fail(code)
    assert circuit_breaker.close("openai")
    found = permit(alice)
    assert (found.granted, found.probe) == (True, False)
    assert circuit_breaker.open_breakers() == []
    assert not circuit_breaker.close("openai")


def test_a_closed_breaker_cannot_be_closed(alice: User) -> None:
    assert not circuit_breaker.close("openai")
    fail(times=4)
    assert not circuit_breaker.close("openai")
    fail()
    assert not permit(alice).granted


def test_a_request_that_waits_for_it_is_woken(alice: User) -> None:
    fail("auth")
    theirs, others, cancelled = claimed(alice), claimed(alice), claimed(alice)
    for claim, provider in ((theirs, "openai"), (others, "stability"), (cancelled, "openai")):
        assert lifecycle.release(claim, delay=timedelta(minutes=10), waits_for=provider)
    lifecycle.cancel([cancelled.request.pk], actor=alice)
    assert circuit_breaker.close("openai")
    due = GenerationQueue.objects.filter(available_at__lte=Now())
    assert list(due.values_list("pk", "waits_for")) == [(theirs.request.pk, "")]


# --- What workers make of it ------------------------------------------------------------------------------------------


def test_a_provider_that_is_down_gets_five_calls_and_the_next_the_rest(alice: User, vendors: Vendors) -> None:
    vendors.fake.script(*["status=503", ""] * 5)
    requests = [vendors.ask(alice) for _ in range(7)]
    assert [request.status for request in requests] == [Status.COMPLETED] * 7
    assert vendors.called == ["openai", "stability"] * 5 + ["stability"] * 2
    assert attempts(requests[0]) == [("openai", "unavailable"), ("stability", "succeeded")]
    assert attempts(requests[-1]) == [("stability", "succeeded")]


def test_a_rate_limit_holds_for_all_requests_and_uses_no_attempt(alice: User, vendors: Vendors) -> None:
    vendors.use("openai")
    vendors.fake.script("status=429;retry-after=40")
    first = vendors.ask(alice, max_attempts=1)
    second = vendors.ask(alice, max_attempts=1)
    for request in (first, second):
        assert (request.status, request.attempts) == (Status.QUEUED, 0)
        later = GenerationQueue.objects.filter(pk=request.pk, available_at__gt=Now() + timedelta(seconds=30))
        assert later.exists()
    assert vendors.called == ["openai"]
    end_pauses()
    assert vendors.run_again(second).status == Status.COMPLETED
    assert vendors.run_again(first).status == Status.COMPLETED
    assert len(vendors.called) == 3


def test_a_probe_that_is_cancelled_leaves_the_way_open_for_the_next(alice: User, vendors: Vendors) -> None:
    vendors.use("openai")
    fail(times=5)
    end_pauses()
    vendors.fake.script("hang")
    request, runtime = queued(alice), Runtime(slots=1)

    def run() -> None:
        vendors.run(request, runtime=runtime)
        connection.close()

    worker = threading.Thread(target=run)
    worker.start()
    wait_until(lambda: vendors.fake.stats().active, what="the probe")
    assert circuit_breaker.is_open("openai")
    cancel_attempts(runtime)
    worker.join(20)
    assert not circuit_breaker.is_open("openai")
    assert vendors.ask(alice).status == Status.COMPLETED
    assert ProviderState.objects.get(pk="openai").failures == 0


def test_a_closed_breaker_starts_the_waiting_requests_at_once(alice: User, vendors: Vendors) -> None:
    vendors.use("openai")
    fail("auth")
    waiting = vendors.ask(alice)
    assert (waiting.status, waiting.attempts) == (Status.QUEUED, 0)
    end_pauses()
    assert vendors.ask(alice).status == Status.COMPLETED
    assert vendors.run(waiting).status == Status.COMPLETED


def test_a_cached_image_says_nothing_about_a_failing_provider(alice: User, vendors: Vendors) -> None:
    vendors.use("openai")
    wish = {"metadata": {"useCache": True}}
    assert vendors.ask(alice, **wish).status == Status.COMPLETED
    fail(times=5)
    assert vendors.ask(alice, **wish).result["cached"]
    assert circuit_breaker.is_open("openai")


# --- Rates ------------------------------------------------------------------------------------------------------------


def test_a_rate_limits_the_calls_begun_and_counts_only_those_sent(alice: User, vendors: Vendors) -> None:
    vendors.use("openai")
    ProviderState.objects.create(provider="openai", calls=2, per_seconds=3600, max_concurrent=1)
    caching.clear_all()
    busy = claimed(alice)
    assert permits.begin_call(
        busy, provider="openai", model="m", prompt="p", deadline=timedelta(minutes=1)
    ).granted  # by a process that has cached nothing
    for _ in range(3):
        assert vendors.ask(alice).status == Status.QUEUED
    lifecycle.cancel([busy.request.pk], actor=alice)
    permits.release_provider_slot(busy)
    results = [vendors.ask(alice) for _ in range(3)]
    assert [result.status for result in results] == [Status.COMPLETED, Status.COMPLETED, Status.QUEUED]
    assert results[-1].attempts == 0
    assert GenerationQueue.objects.filter(pk=results[-1].pk, available_at__gt=Now() + timedelta(minutes=50)).exists()


def test_without_redis_no_rate_is_enforced_and_no_call_waits(caplog: pytest.LogCaptureFixture) -> None:
    rates = RateLimiter("redis://127.0.0.1:1/0")
    assert [rates.take("openai", calls=1, per_seconds=60) for _ in range(5)] == [0.0] * 5
    assert caplog.text.count("is not enforced") == 1
