"""Deadlines of requests, and the limits of API keys that workers and the dispatcher keep."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import F

from generation.access import api_keys
from generation.access.grants import limited_user
from generation.caching import clear_all
from generation.db.functions import Now
from generation.models import ApiKey, GenerationAttempt, GenerationQueue, GenerationRequest, StatusChange
from generation.providers.pricing import OverBudgetError
from generation.queue import control, run_limits
from generation.requests import lifecycle, maintenance, permits, services
from generation.requests.claims import AttemptFailure
from generation.requests.new_request import NewRequest
from generation.states import AttemptOutcome, ErrorCode, Reason, Status
from tests.support.keys import key_of
from tests.support.races import at_once
from tests.support.requests import PROMPT, RESULT

pytestmark = pytest.mark.django_db(transaction=True)
DRAFT = NewRequest(type="cover", prompt=PROMPT, priority="normal")


def caller(owner: User, **columns: Any) -> User:
    """Return the owner as a call with a new key sees it."""
    _, secret = key_of(owner, **columns)
    found = api_keys.find(secret, address="")
    assert found is not None
    return limited_user(found.owner, found.grant)


def submit(user: User, **more: Any) -> GenerationRequest:
    draft = NewRequest(type="cover", prompt=PROMPT, priority="normal", **more)
    return services.submit(owner=user, draft=draft)


def held() -> list[bool]:
    return list(GenerationQueue.objects.order_by("pk").values_list("held", flat=True))


# --- Deadlines --------------------------------------------------------------------------------------------------------


def overdue(request: GenerationRequest) -> None:
    GenerationRequest.objects.filter(pk=request.pk).update(cancel_at=Now() - timedelta(seconds=1))


def test_a_deadline_is_counted_from_the_submit(alice: User) -> None:
    request = submit(alice, cancel_after=timedelta(minutes=5))
    found = GenerationRequest.objects.get(pk=request.pk)
    assert found.cancel_at == found.created_at + timedelta(minutes=5)
    assert GenerationRequest.objects.get(pk=submit(alice).pk).cancel_at is None


def test_what_has_not_ended_at_its_deadline_is_cancelled(alice: User) -> None:
    waiting, running, later, without = (
        submit(alice, cancel_after=after)
        for after in (timedelta(minutes=5), timedelta(minutes=5), timedelta(hours=1), None)
    )
    claim = lifecycle.claim(running.pk, worker="worker-1")
    assert claim is not None
    permits.begin_call(
        claim, provider="clipart", model="m", prompt="p", deadline=timedelta(minutes=1), estimate=Decimal("0.05")
    )
    for request in (waiting, running):
        overdue(request)
    assert maintenance.cancel_overdue() == 2
    assert maintenance.cancel_overdue() == 0
    for request in (waiting, running):
        found = GenerationRequest.objects.get(pk=request.pk)
        assert (found.status, found.cancel_reason) == (Status.CANCELLED, "deadline")
        assert StatusChange.objects.filter(request=found).latest("pk").reason == Reason.DEADLINE
    attempt = GenerationAttempt.objects.get(request=running)
    assert (attempt.outcome, attempt.error_code, attempt.booked_cost) == (
        AttemptOutcome.ABANDONED,
        "",
        Decimal("0.05"),
    )
    assert set(GenerationQueue.objects.values_list("pk", flat=True)) == {later.pk, without.pk}


def test_an_ended_request_has_no_deadline_any_more(alice: User) -> None:
    request = submit(alice, cancel_after=timedelta(minutes=5))
    claim = lifecycle.claim(request.pk, worker="worker-1")
    assert claim is not None
    lifecycle.complete(claim, result=RESULT, model="m")
    overdue(request)
    assert maintenance.cancel_overdue() == 0


def test_a_retry_clears_deadline_and_reason(alice: User) -> None:
    request = submit(alice, cancel_after=timedelta(minutes=5))
    overdue(request)
    maintenance.cancel_overdue()
    retried = services.retry(user=alice, request=GenerationRequest.objects.get(pk=request.pk))
    found = GenerationRequest.objects.get(pk=retried.pk)
    assert (found.status, found.cancel_at, found.cancel_reason) == (Status.QUEUED, None, "")
    assert maintenance.cancel_overdue() == 0


def test_the_reason_of_a_cancel_names_its_actor(alice: User, bob: User) -> None:
    bob.is_superuser = True
    bob.save()
    for user, reason in ((alice, "client"), (bob, "staff")):
        request = submit(alice)
        services.cancel(user=user, request_id=request.pk)
        assert GenerationRequest.objects.get(pk=request.pk).cancel_reason == reason


def test_a_client_that_left_cancels_only_what_is_queued(alice: User) -> None:
    waiting, running = submit(alice), submit(alice)
    assert lifecycle.claim(running.pk, worker="worker-1")
    assert services.cancel_unsent(user=alice, request_ids=[waiting.pk, running.pk]) == [waiting.pk]
    assert GenerationRequest.objects.get(pk=running.pk).status == Status.IN_PROGRESS
    assert GenerationRequest.objects.get(pk=waiting.pk).cancel_reason == "client"


# --- At most so many in progress --------------------------------------------------------------------------------------


def test_a_key_has_at_most_so_many_requests_in_progress(alice: User) -> None:
    user = caller(alice, max_active=2)
    requests = [submit(user) for _ in range(5)]
    assert held() == [False, False, True, True, True]
    claims = [lifecycle.claim(request.pk, worker="worker-1") for request in requests]
    assert [bool(claim) for claim in claims] == [True, True, False, False, False]
    first = claims[0]
    assert first is not None
    lifecycle.complete(first, result=RESULT, model="m")
    assert held() == [False, True, True]
    assert lifecycle.claim(requests[2].pk, worker="worker-1")
    assert lifecycle.claim(requests[3].pk, worker="worker-1") is None


def test_requests_of_others_do_not_wait_for_a_key(alice: User) -> None:
    user = caller(alice, max_active=1)
    submit(user)
    submit(user)
    assert lifecycle.claim(submit(alice).pk, worker="worker-1")
    assert lifecycle.claim(submit(caller(alice, max_active=1)).pk, worker="worker-1")


def test_a_batch_keeps_both_limits(alice: User) -> None:
    user = caller(alice, max_active=3)
    _, requests = services.submit_batch(owner=user, drafts=[DRAFT] * 6, priority="normal", max_concurrent=2)
    started = [bool(lifecycle.claim(request.pk, worker="worker-1")) for request in requests]
    assert sum(started) == 2
    more = [submit(user) for _ in range(3)]
    assert sum(bool(lifecycle.claim(request.pk, worker="worker-1")) for request in more) == 1


@pytest.mark.parametrize("end", ["cancel", "fail", "snooze", "rescue"])
def test_each_end_gives_the_slot_to_the_next(alice: User, end: str) -> None:
    user = caller(alice, max_active=1)
    first, second = submit(user), submit(user)
    claim = lifecycle.claim(first.pk, worker="worker-1")
    assert claim is not None
    failure = AttemptFailure(message="", code=ErrorCode.UNAVAILABLE, retryable=True)
    if end == "cancel":
        lifecycle.cancel([first.pk], actor=alice)
    elif end == "fail":
        lifecycle.fail(claim, failure)
    elif end == "snooze":
        lifecycle.snooze(claim, failure, delay=timedelta(hours=1))
    else:
        GenerationRequest.objects.filter(pk=first.pk).update(lease_expires_at=Now() - timedelta(seconds=1))
        maintenance.rescue_expired()
        run_limits.fill_all(10)
        first, second = second, first
    if end == "rescue":
        assert sum(not value for value in held()) == 1
    else:
        assert lifecycle.claim(second.pk, worker="worker-1")


def test_a_freed_slot_that_was_not_filled_is_found(alice: User) -> None:
    user = caller(alice, max_active=1)
    submit(user)
    GenerationQueue.objects.update(held=True, dispatched_at=None, redispatch_at=None)
    assert maintenance.fill_free_slots() == 1
    assert maintenance.fill_free_slots() == 0


def test_a_limit_that_comes_later_holds_for_what_is_queued(alice: User) -> None:
    key, secret = key_of(alice)
    found = api_keys.find(secret, address="")
    assert found is not None
    requests = [submit(limited_user(found.owner, found.grant)) for _ in range(3)]
    api_keys.change(key, {"max_active": 1}, by=alice, address="")
    assert [bool(lifecycle.claim(request.pk, worker="w")) for request in requests] == [True, False, False]
    api_keys.change(key, {"max_active": None}, by=alice, address="")
    maintenance.fill_free_slots()
    assert all(lifecycle.claim(request.pk, worker="w") for request in requests[1:])


def test_requests_are_sent_when_the_limit_of_their_key_is_removed(alice: User) -> None:
    user = caller(alice, max_active=1)
    requests = [submit(user) for _ in range(3)]
    assert held() == [False, True, True]
    api_keys.change(ApiKey.objects.get(pk=requests[0].api_key_id), {"max_active": None}, by=alice, address="")
    assert maintenance.fill_free_slots() == 2
    assert held() == [False, False, False]


def may_start() -> list[str]:
    return list(GenerationQueue.objects.filter(held=False).order_by("pk").values_list("pk", flat=True))


def test_a_batch_sends_nothing_that_its_key_has_no_slot_for(alice: User) -> None:
    user = caller(alice, max_active=1)
    services.submit_batch(owner=user, drafts=[DRAFT] * 5, priority="normal", max_concurrent=4)
    [first] = may_start()
    claim = lifecycle.claim(first, worker="worker-1")
    assert claim is not None
    assert (maintenance.fill_free_slots(), may_start()) == (0, [])
    lifecycle.complete(claim, result=RESULT, model="m")
    assert len(may_start()) == 1


def test_a_full_batch_keeps_no_slot_of_its_key(alice: User) -> None:
    user = caller(alice, max_active=3)
    services.submit_batch(owner=user, drafts=[DRAFT] * 9, priority="normal", max_concurrent=1)
    other = submit(user)
    first, second = may_start()
    assert lifecycle.claim(first, worker="worker-1")
    assert (maintenance.fill_free_slots(), second) == (0, other.pk)
    assert lifecycle.claim(other.pk, worker="worker-1")


def test_a_paused_request_keeps_no_slot_of_its_key(alice: User) -> None:
    user = caller(alice, max_active=1)
    paused = submit(user)
    other = services.submit(owner=user, draft=replace(DRAFT, type="illustration"))
    control.pause("type", "cover", reason="", by=alice)
    assert lifecycle.claim(paused.pk, worker="worker-1") is None
    assert maintenance.fill_free_slots() == 1
    assert lifecycle.claim(other.pk, worker="worker-1")


# --- Budgets ----------------------------------------------------------------------------------------------------------


def test_a_key_has_a_daily_budget(alice: User) -> None:
    user, other = caller(alice, daily_budget=Decimal("0.10")), caller(alice)
    cost = {"estimated_cost": Decimal("0.04")}
    submit(user, **cost)
    submit(user, **cost)
    with pytest.raises(OverBudgetError, match="budget of the API key is USD 0"):
        submit(user, **cost)
    submit(other, **cost)
    submit(alice, **cost)
    submit(user, estimated_cost=Decimal(0))


def spend(user: User, cost: str) -> GenerationRequest:
    """Let a request cost so much."""
    request = submit(user, estimated_cost=Decimal(cost))
    claim = lifecycle.claim(request.pk, worker="worker-1")
    assert claim is not None
    lifecycle.complete(claim, result=RESULT, model="m", cost=cost)
    return request


def test_what_a_key_spent_today_counts(alice: User) -> None:
    user = caller(alice, daily_budget=Decimal("0.10"))
    spend(user, "0.07")
    with pytest.raises(OverBudgetError, match="07 is spent"):
        submit(user, estimated_cost=Decimal("0.04"))
    GenerationAttempt.objects.update(finished_at=F("finished_at") - timedelta(days=1))
    submit(user, estimated_cost=Decimal("0.04"))


def test_a_call_beyond_the_budget_of_the_key_is_not_sent(alice: User) -> None:
    user = caller(alice, daily_budget=Decimal("0.10"))
    spend(user, "0.07")
    request = submit(user, estimated_cost=Decimal("0.02"))
    claim = lifecycle.claim(request.pk, worker="worker-1")
    assert claim is not None
    call: dict[str, Any] = {"provider": "clipart", "model": "m", "prompt": "p", "deadline": timedelta(minutes=1)}
    assert permits.needs_budget(claim, billable=True, estimate=Decimal("0.05"))
    assert permits.begin_call(claim, **call, estimate=Decimal("0.05")).over_budget
    assert permits.begin_call(claim, **call, estimate=Decimal("0.02")).granted


def test_concurrent_submits_stay_within_the_budget_of_a_key(alice: User) -> None:
    user = caller(alice, daily_budget=Decimal("0.10"))

    def one() -> bool:
        try:
            submit(user, estimated_cost=Decimal("0.03"))
        except OverBudgetError:
            return False
        return True

    assert sum(at_once(*[one] * 12)) == 3


def test_a_changed_budget_counts_within_seconds(alice: User) -> None:
    key, secret = key_of(alice, daily_budget=Decimal("0.01"))
    found = api_keys.find(secret, address="")
    assert found is not None
    user = limited_user(found.owner, found.grant)
    with pytest.raises(OverBudgetError):
        submit(user, estimated_cost=Decimal("0.04"))
    api_keys.change(key, {"daily_budget": None}, by=alice, address="")
    clear_all()
    submit(user, estimated_cost=Decimal("0.04"))
