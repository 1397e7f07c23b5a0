"""What staff set for providers and owners on the admin's pages."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from generation.models import Budget, ProviderState, Spending
from generation.providers import budgets, circuit_breaker

pytestmark = pytest.mark.django_db(transaction=True)

STATES = "admin:generation_providerstate_changelist"


@pytest.fixture
def chief(bob: User, client: Client) -> Client:
    """Bob's browser, who may do everything."""
    bob.is_superuser = True
    bob.save()
    client.force_login(bob)
    return client


def call_again(client: Client, name: str) -> int:
    body = {"action": "call_again", "_selected_action": [name]}
    return client.post(reverse(STATES), body).status_code


def test_an_open_breaker_is_shown_with_its_reason_and_can_be_closed(chief: Client) -> None:
    circuit_breaker.failed("openai", "auth", wait=timedelta(0))
    page = chief.get(reverse(STATES)).content.decode()
    assert "The provider rejected the API key" in page
    assert call_again(chief, "openai") == 302
    assert not circuit_breaker.is_open("openai")


def test_a_viewer_cannot_close_a_breaker(bob: User, client: Client) -> None:
    bob.user_permissions.add(Permission.objects.get(codename="view_providerstate"))
    client.force_login(bob)
    circuit_breaker.failed("openai", "auth", wait=timedelta(0))
    assert client.get(reverse(STATES)).status_code == 200
    call_again(client, "openai")
    assert circuit_breaker.is_open("openai")


def test_limits_are_set_and_the_breaker_is_not(chief: Client) -> None:
    address = reverse("admin:generation_providerstate_add")
    body = {"provider": "openai", "max_concurrent": "3", "calls": "50", "per_seconds": "60", "failures": "9"}
    assert chief.post(address, body).status_code == 302
    state = ProviderState.objects.get(provider="openai")
    assert (state.max_concurrent, state.calls, state.per_seconds, state.failures) == (3, 50, 60, 0)


def test_half_a_rate_is_refused_on_the_page(chief: Client) -> None:
    address = reverse("admin:generation_providerstate_add")
    answer = chief.post(address, {"provider": "openai", "calls": "50"})
    assert answer.status_code == 200
    assert not ProviderState.objects.filter(provider="openai").exists()


def test_one_owner_gets_a_budget(chief: Client, alice: User) -> None:
    assert chief.post(reverse("admin:generation_budget_add"), {"owner": alice.pk, "per_day": "2.50"}).status_code == 302
    assert Budget.objects.get().owner == alice
    assert str(budgets.limit(alice.pk)) == "2.50"


def test_spending_is_shown_and_not_editable(chief: Client, alice: User) -> None:
    Spending.objects.create(owner=alice, day=budgets.today(), cost=Decimal("0.03"), calls=1)
    assert chief.get(reverse("admin:generation_spending_changelist")).status_code == 200
    assert chief.get(reverse("admin:generation_spending_add")).status_code == 403
