"""Every paid call is booked, and a budget is a limit."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

from generation import caching
from generation.db.functions import Now, database_now
from generation.models import (
    Budget,
    GenerationAttempt,
    GenerationQueue,
    GenerationRequest,
    ProviderModel,
    ProviderState,
    Spending,
)
from generation.models.options import GenerationOptions
from generation.providers import budgets, catalogue, circuit_breaker
from generation.providers.pricing import OverBudgetError
from generation.requests import lifecycle, permits, services
from generation.requests.claims import StaleClaimError
from generation.requests.new_request import NewRequest
from generation.states import Status
from generation.storage import images
from tests.integration.test_executor import execute
from tests.support.executors import cancel_attempts
from tests.support.requests import PROMPT, RESULT, claimed, expire, queued
from tests.support.stack import wait_until
from tests.support.vendors import Vendors, attempts
from workers.providers.base import ProviderError, mark_sent
from workers.runtime import Runtime

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]

#: The price of Stability's usual model.
PRICE = Decimal("0.03")


@pytest.fixture
def stability(vendors: Vendors) -> Vendors:
    vendors.use("stability")
    return vendors


def submit(owner: User, cost: Decimal | None = PRICE, **metadata: Any) -> GenerationRequest:
    draft = NewRequest(type="cover", prompt=PROMPT, priority="normal", estimated_cost=cost, metadata=metadata)
    return services.submit(owner=owner, draft=draft)


def spent(owner: User) -> Decimal:
    row = Spending.objects.filter(owner=owner).first()
    return row.cost if row else Decimal(0)


def has_room(owner: User, cost: Decimal = PRICE) -> bool:
    try:
        with budgets.reserve(owner.pk, [cost], key_id=None):
            return True
    except OverBudgetError:
        return False


# --- Booked ---


@pytest.mark.parametrize(
    ("behavior", "code"),
    [
        ("moderation=output", "refused_output"),
        ("image=truncated", "invalid_image"),
        ("reset=before", "unknown_outcome"),
        ("reset=after", "unknown_outcome"),
        ("empty", "empty_result"),
    ],
)
def test_a_call_that_may_be_billed_is_booked(alice: User, stability: Vendors, behavior: str, code: str) -> None:
    stability.fake.script(behavior)
    request = stability.ask(alice)
    assert attempts(request) == [("stability", code)]
    assert spent(alice) == PRICE
    assert Spending.objects.get(owner=alice).calls == 1
    assert GenerationAttempt.objects.get(request=request).booked_cost == PRICE


@pytest.mark.parametrize("behavior", ["moderation=input", "status=503", "status=429", "status=401", "quota"])
def test_a_call_that_cannot_be_billed_is_not_booked(alice: User, stability: Vendors, behavior: str) -> None:
    stability.fake.script(behavior)
    stability.ask(alice)
    assert not Spending.objects.exists()


def test_refused_images_use_up_the_budget(alice: User, stability: Vendors, settings: Any) -> None:
    settings.DAILY_BUDGET = Decimal("0.04")
    stability.fake.script(default="moderation=output")
    assert stability.run(submit(alice)).status == Status.FAILED
    with pytest.raises(OverBudgetError):
        submit(alice)


def test_an_unknown_cost_is_booked_at_the_estimate(alice: User, vendors: Vendors) -> None:
    vendors.use("openai")
    rule = {"per_million": {"output_audio": "30"}, "estimate": {"medium": "0.05"}}
    ProviderModel.objects.filter(name="gpt-image-2").update(price_rule=rule)
    caching.clear_all()
    request = vendors.ask(alice)
    attempt = GenerationAttempt.objects.get(request=request)
    assert (request.status, attempt.cost, attempt.booked_cost) == (Status.COMPLETED, None, Decimal("0.05"))
    assert spent(alice) == Decimal("0.05")


@pytest.mark.parametrize("lost", ["invalid_image", "storage"])
def test_the_known_cost_of_a_lost_image_is_booked(
    alice: User, vendors: Vendors, settings: Any, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    vendors.use("openai")
    settings.STORAGE_PATIENCE = timedelta(milliseconds=10)
    rule = {"per_million": {"output_image": "30"}}
    ProviderModel.objects.filter(name="gpt-image-2").update(price_rule=rule)
    caching.clear_all()
    if lost == "storage":

        def full(*_: Any) -> str:
            raise OSError("disk full")

        monkeypatch.setattr(images, "save", full)
    else:
        vendors.fake.script("image=truncated")
    request = vendors.ask(alice)
    attempt = GenerationAttempt.objects.get(request=request)
    assert attempt.error_code == lost
    assert attempt.booked_cost
    assert spent(alice) == attempt.booked_cost


def test_a_cancel_while_the_image_is_stored_books_the_known_cost(
    alice: User, stability: Vendors, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, runtime = submit(alice), Runtime(slots=1)

    def cancelled(*_: Any) -> str:
        # The price was raised since the call began.
        GenerationAttempt.objects.update(estimated_cost="0.01")
        services.cancel(user=alice, request_id=request.pk)
        cancel_attempts(runtime)
        raise OSError("disk full")

    monkeypatch.setattr(images, "save", cancelled)
    stability.run(request, runtime=runtime)
    assert (request.status, spent(alice), Spending.objects.get(owner=alice).calls) == (Status.CANCELLED, PRICE, 1)


@contextmanager
def under_way(request: GenerationRequest, vendors: Vendors) -> Iterator[Runtime]:
    """A worker whose call for this request is held by the vendor; it is answered at the end of the block."""
    vendors.fake.script("hold")
    runtime = Runtime(slots=1)

    def run() -> None:
        vendors.run(request, runtime=runtime)
        connection.close()

    worker = threading.Thread(target=run)
    worker.start()
    try:
        wait_until(lambda: vendors.fake.stats().active == 1, what="the call")
        yield runtime
    finally:
        vendors.fake.release()
        worker.join(20)


def test_a_cancel_during_the_call_books_it(alice: User, stability: Vendors, settings: Any) -> None:
    settings.DAILY_BUDGET = PRICE
    request = submit(alice)
    with under_way(request, stability) as runtime:
        assert services.cancel(user=alice, request_id=request.pk)
        assert spent(alice) == PRICE
        cancel_attempts(runtime)
    assert spent(alice) == PRICE
    with pytest.raises(OverBudgetError):
        submit(alice)
    assert len(stability.called) == 1


def test_a_cancel_before_the_call_books_nothing(alice: User, stability: Vendors) -> None:
    claim = claimed(alice)
    lifecycle.cancel([claim.request.pk], actor=alice)
    assert not Spending.objects.exists()


def test_a_cancel_books_each_owner_once(alice: User, bob: User, stability: Vendors) -> None:
    running = [begun(claimed(owner)).request.pk for owner in (alice, alice, bob)]
    lifecycle.cancel(running, actor=bob)
    lifecycle.cancel(running, actor=bob)
    assert [(row.owner, row.cost, row.calls) for row in Spending.objects.order_by("owner")] == [
        (alice, 2 * PRICE, 2),
        (bob, PRICE, 1),
    ]


def test_a_cancel_of_several_books_no_earlier_call_again(alice: User) -> None:
    again = begun(claimed(alice)).request.pk
    lifecycle.cancel([again], actor=alice)
    lifecycle.retry(again, actor=alice)
    lifecycle.cancel([again, begun(claimed(alice)).request.pk], actor=alice)
    assert (spent(alice), Spending.objects.get(owner=alice).calls) == (2 * PRICE, 2)


def begun(claim: Any, estimate: Decimal | None = PRICE, *, billable: bool = True) -> Any:
    permit = permits.begin_call(
        claim,
        provider="stability",
        model="core",
        prompt="p",
        deadline=timedelta(minutes=1),
        estimate=estimate,
        billable=billable,
    )
    assert permit.granted
    return claim


def test_a_late_answer_books_only_what_it_cost_more(alice: User) -> None:
    claim = begun(claimed(alice))
    lifecycle.cancel([claim.request.pk], actor=alice)
    for _ in range(2):  # an end whose answer got lost is written again
        assert not lifecycle.complete(claim, result=RESULT, model="core", cost="0.05", estimate="0.03")
    assert (spent(alice), Spending.objects.get(owner=alice).calls) == (Decimal("0.05"), 1)


def test_a_late_answer_that_cost_less_gives_nothing_back(alice: User) -> None:
    claim = begun(claimed(alice))
    lifecycle.cancel([claim.request.pk], actor=alice)
    lifecycle.complete(claim, result=RESULT, model="core", cost="0.01", estimate="0.03")
    assert spent(alice) == PRICE


def test_the_call_of_a_lost_worker_is_booked(alice: User) -> None:
    claim = begun(claimed(alice))
    expire(claim)
    assert lifecycle.rescue(claim.request.pk) == Status.QUEUED
    assert spent(alice) == PRICE


def test_a_free_call_is_never_booked(alice: User) -> None:
    claim = begun(claimed(alice), billable=False)
    expire(claim)
    assert lifecycle.rescue(claim.request.pk) == Status.QUEUED
    lifecycle.cancel([begun(claimed(alice), billable=False).request.pk], actor=alice)
    assert not Spending.objects.exists()


def test_a_price_of_a_free_provider_is_not_booked(alice: User, vendors: Vendors) -> None:
    vendors.use("clipart")
    ProviderModel.objects.filter(provider="clipart").update(price_rule={"per_image": "0.03"})
    caching.clear_all()
    assert vendors.ask(alice).status == Status.COMPLETED
    assert not Spending.objects.exists()


def test_spending_goes_by_the_day_of_the_database(
    alice: User, stability: Vendors, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(days=1)

    for module in ("providers.budgets", "db.functions"):
        monkeypatch.setattr(f"generation.{module}.datetime", Tomorrow, raising=False)
    stability.ask(alice)
    assert Spending.objects.get(owner=alice).day == datetime.now(UTC).date() == budgets.today()
    assert isinstance(budgets.today(), date)


def test_a_long_transaction_books_on_the_day_of_its_statement() -> None:
    with transaction.atomic():
        first = database_now()
        time.sleep(0.001)
        assert first < database_now()


# --- A budget is a limit ---


def dear_and_cheap(vendors: Vendors) -> None:
    vendors.use("stability", "openai")
    ProviderModel.objects.filter(provider="openai", name="gpt-image-2").update(price_rule={"per_image": "0.20"})
    ProviderModel.objects.filter(provider="stability", name="core").update(price_rule={"per_image": "0.01"})
    caching.clear_all()


def test_the_dearest_provider_of_the_route_is_reserved(vendors: Vendors) -> None:
    dear_and_cheap(vendors)
    assert catalogue.estimate(GenerationOptions()) == Decimal("0.20")
    assert catalogue.estimate(GenerationOptions.parse({"provider": "stability"})) == Decimal("0.01")
    ProviderModel.objects.filter(provider="openai").update(price_rule={})
    caching.clear_all()
    assert catalogue.estimate(GenerationOptions()) == Decimal("0.01")


def test_a_fallback_that_the_budget_cannot_pay_is_not_made(alice: User, vendors: Vendors, settings: Any) -> None:
    dear_and_cheap(vendors)
    settings.DAILY_BUDGET = Decimal("0.10")
    vendors.fake.script("quota")
    # Accepted when the dear provider was not configured yet.
    request = vendors.run(submit(alice, Decimal("0.01")))
    assert vendors.called == ["stability"]
    assert (request.status, request.error["code"]) == (Status.FAILED, "quota_exhausted")
    assert "budget" in request.error["message"]
    assert spent(alice) == 0


def test_a_provider_in_trouble_makes_no_way_around_the_budget(alice: User, vendors: Vendors, settings: Any) -> None:
    dear_and_cheap(vendors)
    settings.DAILY_BUDGET = Decimal("0.10")
    opened = {"failures": 5, "open_until": Now() + timedelta(minutes=10)}
    ProviderState.objects.update_or_create(provider="stability", defaults=opened)
    for _ in range(3):
        vendors.run(submit(alice, Decimal("0.01")))
    assert vendors.called == []
    assert spent(alice) == 0


def test_a_cheaper_provider_of_the_route_is_asked_instead(alice: User, vendors: Vendors, settings: Any) -> None:
    dear_and_cheap(vendors)
    vendors.use("openai", "stability")
    settings.DAILY_BUDGET = Decimal("0.10")
    request = vendors.run(submit(alice, Decimal("0.01")))
    assert (request.status, request.result["provider"]) == (Status.COMPLETED, "stability")


def test_a_model_that_is_set_aside_is_asked_where_the_others_are_too_dear(
    alice: User, vendors: Vendors, settings: Any
) -> None:
    dear_and_cheap(vendors)
    settings.DAILY_BUDGET = Decimal("0.10")
    for model in ProviderModel.objects.filter(provider="stability").values_list("name", flat=True):
        for _ in range(2):
            circuit_breaker.failed("stability", "model_retired", model=model)
    request = vendors.run(submit(alice, Decimal("0.01")))
    assert (request.status, vendors.called) == (Status.COMPLETED, ["stability"])
    assert request.result["model"] == "core"
    vendors.fake.script("quota")
    for _ in range(2):
        circuit_breaker.failed("stability", "model_retired", model="core")
    request = vendors.run(submit(alice, Decimal("0.01")))
    assert (request.status, request.error["code"]) == (Status.FAILED, "quota_exhausted")
    assert vendors.called == ["stability", "stability"]


def test_a_failed_call_leaves_less_for_the_next_one(alice: User, stability: Vendors, settings: Any) -> None:
    settings.DAILY_BUDGET = Decimal("0.05")
    stability.fake.script(default="empty")
    request = stability.run(submit(alice))
    assert (request.status, spent(alice)) == (Status.QUEUED, PRICE)
    stability.run_again(request)
    assert (request.status, request.error["code"]) == (Status.FAILED, "quota_exhausted")
    assert (len(stability.called), spent(alice)) == (1, PRICE)


def test_calls_under_way_count_against_the_budget(alice: User) -> None:
    Budget.objects.create(owner=alice, per_day=2 * PRICE)
    caching.clear_all()
    first, second, third = (claimed(alice) for _ in range(3))
    begun(first)
    begun(second)
    refused = permits.begin_call(
        third, provider="stability", model="core", prompt="p", deadline=timedelta(minutes=1), estimate=PRICE
    )
    assert (refused.granted, refused.over_budget) == (False, True)
    assert lifecycle.complete(first, result=RESULT, model="core", cost="0.01")
    lifecycle.cancel([second.request.pk], actor=alice)
    assert spent(alice) == Decimal("0.04")
    begun(third, Decimal("0.02"))


def test_a_permit_that_is_asked_for_again_counts_its_call_once(alice: User, settings: Any) -> None:
    settings.DAILY_BUDGET = PRICE
    claim = claimed(alice)
    for _ in range(2):  # the commit of the first time was not heard of
        begun(claim)


def test_a_stale_claim_gets_no_permit_under_a_budget(alice: User, settings: Any) -> None:
    settings.DAILY_BUDGET = Decimal(1)
    claim = claimed(alice)
    lifecycle.cancel([claim.request.pk], actor=alice)
    with pytest.raises(StaleClaimError):
        begun(claim)


# --- Asked again ---


@pytest.mark.parametrize("max_attempts", [1, 5])
def test_a_provider_that_hangs_is_called_twice_at_most(alice: User, settings: Any, max_attempts: int) -> None:
    settings.PROVIDER_TIMEOUT = timedelta(milliseconds=50)
    calls = []

    async def hang() -> bytes:
        mark_sent()
        calls.append(1)
        await asyncio.sleep(60)
        raise AssertionError

    request = queued(alice, max_attempts=max_attempts)
    for _ in range(4):
        execute(request, lambda _: hang())
        GenerationQueue.objects.update(available_at=Now())
    assert (request.status, request.error["code"]) == (Status.FAILED, "unknown_outcome")
    assert len(calls) == min(max_attempts, 2)


@pytest.mark.parametrize("first", ["internal", "unknown_outcome"])
def test_an_unclassified_error_after_sending_is_repeated_once(alice: User, first: str) -> None:
    calls: list[str] = []

    async def fail() -> bytes:
        mark_sent()
        calls.append(first)
        if first == "unknown_outcome" and len(calls) == 1:
            raise ProviderError("reset", code=first)
        raise RuntimeError("network: read timeout")

    request = queued(alice, max_attempts=5)
    for _ in range(4):
        execute(request, lambda _: fail())
        GenerationQueue.objects.update(available_at=Now())
    assert (request.status, request.error["code"]) == (Status.FAILED, "internal")
    assert len(calls) == 2


def test_a_time_out_before_sending_is_tried_as_often_as_allowed(alice: User, settings: Any) -> None:
    settings.PROVIDER_TIMEOUT = timedelta(milliseconds=50)
    request = queued(alice, max_attempts=4)
    for _ in range(4):
        execute(request, lambda _: asyncio.sleep(60))
        GenerationQueue.objects.update(available_at=Now())
    assert (request.status, request.error["code"]) == (Status.FAILED, "timeout")
    assert request.attempts == 4
    assert not Spending.objects.exists()


@pytest.mark.parametrize("metadata", [{}, {"model": "core"}, {"provider": "stability"}])
def test_a_broken_row_of_a_model_fails_no_request(alice: User, stability: Vendors, metadata: dict[str, str]) -> None:
    request = queued(alice, metadata=metadata, max_attempts=1)
    sizes = ProviderModel.objects.get(provider="stability", name="core").sizes
    for wrong, status in (("1024", Status.QUEUED), (sizes, Status.COMPLETED)):
        ProviderModel.objects.filter(provider="stability").update(sizes=wrong)
        caching.clear_all()
        assert stability.run_again(request).status == status
    assert (request.attempts, len(stability.called)) == (1, 1)
