"""What an owner may spend in a day, and who is refused when it is not enough."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from rest_framework.test import APIClient

from generation import caching
from generation.models import Budget, GenerationBatch, GenerationRequest, ProviderModel, Spending
from generation.providers import budgets
from generation.providers.pricing import OverBudgetError
from generation.requests import lifecycle, services
from generation.requests.new_request import NewRequest
from generation.states import Status
from tests.api.helpers import BATCH, SUBMIT, address, batch_body, body, post_json
from tests.conftest import client_of
from tests.support.races import at_once
from tests.support.requests import PROMPT, queued
from tests.support.vendors import Vendors

pytestmark = pytest.mark.django_db(transaction=True)

#: What Stability's usual model costs.
PRICE = Decimal("0.03")


@pytest.fixture(autouse=True)
def _a_vendor_that_costs_three_cents(vendors: Vendors) -> None:
    vendors.use("stability", "clipart")


@pytest.fixture
def for_ten(settings: Any) -> None:
    """A budget for ten images."""
    settings.DAILY_BUDGET = 10 * PRICE


def draft(cost: Decimal | None = PRICE) -> NewRequest:
    return NewRequest(type="cover", prompt=PROMPT, priority="normal", estimated_cost=cost)


def submit(owner: User, cost: Decimal | None = PRICE) -> GenerationRequest:
    return services.submit(owner=owner, draft=draft(cost))


def has_room(owner: User, cost: Decimal = PRICE) -> bool:
    try:
        with budgets.reserve(owner.pk, [cost], key_id=None):
            pass
    except OverBudgetError:
        return False
    return True


# --- Over HTTP --------------------------------------------------------------------------------------------------------


def assert_over_budget(response: Any) -> str:
    assert response.status_code == 402, response.content
    said = response.json()
    assert set(said) == {"error", "code"}
    assert said["code"] == "over_budget"
    return str(said["error"])


def test_a_submit_over_the_budget_gets_402_and_stores_nothing(api: APIClient, alice: User, settings: Any) -> None:
    settings.DAILY_BUDGET = Decimal("0.05")
    assert post_json(api, body()).status_code == 200
    said = assert_over_budget(post_json(api, body()))
    assert said == (
        "The budget is USD 0.05 a day: 0.00 is spent, 0.03 is reserved for active requests, 0.02 is left, and this may"
        " cost 0.03. A new day begins at 00:00 UTC."
    )
    assert GenerationRequest.objects.count() == 1


def test_a_refused_submit_uses_up_no_key(api: APIClient, alice: User, settings: Any) -> None:
    settings.DAILY_BUDGET = Decimal("0.01")
    key: Any = {"Idempotency-Key": "dragon-1"}
    assert_over_budget(api.post(SUBMIT, body(), format="json", headers=key))
    settings.DAILY_BUDGET = Decimal("0.03")
    assert api.post(SUBMIT, body(), format="json", headers=key).status_code == 200
    replayed = api.post(SUBMIT, body(), format="json", headers=key)
    assert replayed.headers["Idempotent-Replayed"] == "true"


def test_a_batch_is_covered_as_a_whole_or_not_at_all(api: APIClient, alice: User, for_ten: None) -> None:
    assert_over_budget(post_json(api, batch_body(11), at=BATCH))
    assert not GenerationRequest.objects.exists()
    assert not GenerationBatch.objects.exists()
    assert post_json(api, batch_body(10), at=BATCH).status_code == 200
    assert_over_budget(post_json(api, body()))


def test_a_retry_by_hand_has_to_be_covered_as_well(api: APIClient, alice: User, for_ten: None) -> None:
    request = submit(alice)
    assert services.cancel(user=alice, request_id=request.pk)
    for _ in range(10):
        submit(alice)
    assert_over_budget(api.post(address("retry", request.pk)))
    request.refresh_from_db()
    assert request.status == Status.CANCELLED
    services.cancel(user=alice, request_id=GenerationRequest.objects.filter(status=Status.QUEUED)[0].pk)
    assert api.post(address("retry", request.pk)).status_code == 200


def test_a_free_request_is_always_accepted(api: APIClient, alice: User, settings: Any) -> None:
    settings.DAILY_BUDGET = Decimal(0)
    assert post_json(api, body(metadata={"provider": "clipart"})).status_code == 200
    assert_over_budget(post_json(api, body(metadata={"provider": "stability"})))


def test_an_unknown_price_counts_as_nothing(api: APIClient, alice: User, settings: Any) -> None:
    settings.DAILY_BUDGET = Decimal("0.03")
    ProviderModel.objects.filter(name="core").update(price_rule={})
    assert [post_json(api, body()).status_code for _ in range(3)] == [200] * 3
    assert set(GenerationRequest.objects.values_list("estimated_cost", flat=True)) == {None}
    assert has_room(alice)


def test_without_a_budget_nothing_is_counted(api: APIClient, alice: User, settings: Any) -> None:
    assert settings.DAILY_BUDGET is None
    assert post_json(api, body()).status_code == 200
    assert not Spending.objects.exists()


def test_a_retry_by_staff_spends_the_owners_budget(alice: User, bob: User, settings: Any) -> None:
    request = submit(alice)
    services.cancel(user=alice, request_id=request.pk)
    settings.DAILY_BUDGET = Decimal("0.03")
    submit(bob)
    assert client_of(bob).post(address("retry", request.pk)).status_code == 200
    assert not has_room(alice)


# --- At once, and over the day ----------------------------------------------------------------------------------------


def test_steps_of_bulk_retries_do_not_wait_for_each_other(alice: User, bob: User, settings: Any) -> None:
    settings.DAILY_BUDGET = Decimal(100)
    staff = User.objects.create_superuser("root")
    cancelled = [submit(owner) for owner in (alice, bob, bob, alice) * 10]
    lifecycle.cancel([request.pk for request in cancelled], actor=staff)

    def step(ids: list[str]) -> bool:
        with transaction.atomic():
            return len(services.act(user=staff, action="retry", request_ids=ids).done) == len(ids)

    ids = [request.pk for request in cancelled]
    one = [pk for number, pk in enumerate(ids) if number % 4 < 2]
    other = [pk for number, pk in enumerate(ids) if number % 4 >= 2]
    assert at_once(lambda: step(one), lambda: step(other)) == [True, True]


def test_of_fifty_concurrent_submits_exactly_those_covered_are_accepted(alice: User, for_ten: None) -> None:
    def accepted() -> bool:
        try:
            submit(alice)
        except OverBudgetError:
            return False
        return True

    assert at_once(*[accepted] * 50).count(True) == 10
    assert GenerationRequest.objects.count() == 10


def test_an_owners_own_budget_overrides_the_default(alice: User, charlie: User, settings: Any) -> None:
    settings.DAILY_BUDGET = Decimal("0.03")
    Budget.objects.create(owner=alice, per_day="0.06")
    submit(alice)
    submit(alice)
    submit(charlie)
    assert not has_room(alice)
    assert not has_room(charlie)


def test_a_budget_of_nothing_is_a_budget(alice: User, charlie: User) -> None:
    Budget.objects.create(owner=alice, per_day=0)
    assert not has_room(alice)
    assert has_room(charlie)


def test_a_changed_budget_holds_within_seconds(alice: User, settings: Any) -> None:
    settings.DAILY_BUDGET = Decimal("0.01")
    assert not has_room(alice)
    Budget.objects.create(owner=alice, per_day=1)
    caching.clear_all()  # which every process does by itself after 5 s
    assert has_room(alice)


def test_the_real_cost_replaces_the_estimate(alice: User, vendors: Vendors, settings: Any) -> None:
    settings.DAILY_BUDGET = Decimal("1.00")
    request = queued(alice, estimated_cost=Decimal("0.99"))
    assert not has_room(alice, Decimal("0.02"))
    assert vendors.run(request).status == Status.COMPLETED
    assert Spending.objects.get(owner=alice).cost == PRICE
    assert has_room(alice, Decimal("0.97"))
    assert not has_room(alice, Decimal("0.98"))


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_failed_request_releases_its_estimate(alice: User, vendors: Vendors, for_ten: None, end: str) -> None:
    requests = [submit(alice) for _ in range(10)]
    assert not has_room(alice)
    if end == "failed":
        vendors.fake.script("moderation=input")
        assert vendors.run(requests[0]).status == Status.FAILED
    else:
        services.cancel(user=alice, request_id=requests[0].pk)
    assert has_room(alice)


def test_yesterdays_spending_does_not_count(alice: User, for_ten: None) -> None:
    Spending.objects.create(owner=alice, day=budgets.today() - timedelta(days=1), cost=100)
    assert has_room(alice)
    Spending.objects.filter(day=budgets.today()).update(cost=10 * PRICE - PRICE / 2)
    assert not has_room(alice)


def test_calls_of_many_requests_add_up(alice: User, vendors: Vendors) -> None:
    for _ in range(3):
        vendors.ask(alice)
    spent = Spending.objects.get(owner=alice)
    assert (spent.cost, spent.calls) == (3 * PRICE, 3)


def test_a_request_that_ends_up_free_spends_nothing(alice: User, vendors: Vendors) -> None:
    vendors.fake.script("status=503")
    request = vendors.ask(alice)
    assert request.result["provider"] == "clipart"
    assert not Spending.objects.exists()
