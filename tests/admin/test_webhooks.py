"""Webhooks in the admin: all users' endpoints and deliveries are seen and acted on, and no secret is shown."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from generation.access import roles
from generation.models import WebhookDelivery, WebhookEndpoint
from generation.webhooks import signatures
from tests.admin.pages import text, told
from tests.support.deliveries import attempt, delivery_of
from tests.support.queries import queries_of
from tests.support.webhooks import SECRET, endpoint_of

pytestmark = pytest.mark.django_db

ENDPOINTS = "/admin/generation/webhookendpoint/"
DELIVERIES = "/admin/generation/webhookdelivery/"


def page_of(row: WebhookEndpoint | WebhookDelivery) -> str:
    return f"{ENDPOINTS if isinstance(row, WebhookEndpoint) else DELIVERIES}{row.pk}/change/"


def shown(client: Client, at: str, **query: str) -> set[str]:
    """The hosts of the rows that a list shows."""
    body = text(client.get(at, query))
    return {host for host in ("one", "two", "three") if f"{host}.example" in body}


@pytest.fixture
def endpoints(alice: User, charlie: User) -> dict[str, WebhookEndpoint]:
    """An endpoint in each state, by the name of its host."""
    return {
        "one": endpoint_of(alice, url="https://one.example/hook?token=hidden-token"),
        "two": endpoint_of(alice, url="https://two.example/", failing_since=timezone.now(), events=["batch.completed"]),
        "three": endpoint_of(charlie, url="https://three.example/", enabled=False, disabled_reason="gone"),
    }


@pytest.fixture
def rows(endpoints: dict[str, WebhookEndpoint]) -> dict[str, WebhookDelivery]:
    """A delivery in each state."""
    return {
        "one": delivery_of(endpoints["one"], state="delivered", attempts=[attempt(200)]),
        "two": delivery_of(endpoints["two"], event="webhook.test"),
        "three": delivery_of(endpoints["three"], state="failed", attempts=[attempt(410, "gone")]),
    }


def test_the_list_of_endpoints_is_filtered(viewer: Client, endpoints: dict[str, WebhookEndpoint]) -> None:
    assert shown(viewer, ENDPOINTS) == {"one", "two", "three"}
    for name, value, expected in (
        ("state", "enabled", {"one", "two"}),
        ("state", "failing", {"two"}),
        ("state", "disabled", {"three"}),
        ("event", "batch.completed", {"two"}),
        ("owner", "charlie", {"three"}),
        ("owner", "unknown", set()),
        ("q", "two.exam", {"two"}),
        ("q", "alice", {"one", "two"}),
        ("q", endpoints["three"].pk, {"three"}),
        ("q", "hidden-token", set()),
        ("q", "%", set()),
    ):
        assert shown(viewer, ENDPOINTS, **{name: value}) == expected, (name, value)


def test_the_list_of_deliveries_is_filtered(viewer: Client, rows: dict[str, WebhookDelivery]) -> None:
    assert shown(viewer, DELIVERIES) == {"one", "two", "three"}
    for name, value, expected in (
        ("state", "pending", {"two"}),
        ("state", "failed", {"three"}),
        ("event", "webhook.test", {"two"}),
        ("owner", "alice", {"one", "two"}),
        ("q", rows["one"].pk, {"one"}),
        ("q", str(rows["two"].endpoint_id), {"two"}),
        ("q", "charlie", {"three"}),
    ):
        assert shown(viewer, DELIVERIES, **{name: value}) == expected, (name, value)


@pytest.mark.parametrize("at", [ENDPOINTS, DELIVERIES])
@pytest.mark.parametrize("query", [{"q": "\0"}, {"owner": "\0"}, {"state": "\0"}, {"event": "odd"}, {"p": "older.\0"}])
def test_odd_addresses_lead_to_no_error(viewer: Client, at: str, query: dict[str, str]) -> None:
    assert viewer.get(at, query).status_code in {200, 302}


def test_pages_show_no_secret(
    viewer: Client, endpoints: dict[str, WebhookEndpoint], rows: dict[str, WebhookDelivery]
) -> None:
    signatures.rotate(endpoints["one"], overlap=timedelta(hours=1))
    endpoints["one"].save()
    for at in (ENDPOINTS, DELIVERIES, page_of(endpoints["one"]), page_of(rows["one"])):
        sent = viewer.get(at).content.decode()
        assert "one.example" in sent
        for secret in (SECRET, endpoints["one"].secret, endpoints["one"].previous_secret, "hidden-token"):
            assert secret not in sent


def test_pages_say_what_happened(
    viewer: Client, endpoints: dict[str, WebhookEndpoint], rows: dict[str, WebhookDelivery]
) -> None:
    assert "It answered 410 Gone." in text(viewer.get(page_of(endpoints["three"])))
    assert "HTTP 410. It is gone, so the webhook was disabled" in text(viewer.get(page_of(rows["three"])))
    assert "Not sent yet" in text(viewer.get(page_of(rows["two"])))


def test_an_operator_disables_and_enables(operator: Client, endpoints: dict[str, WebhookEndpoint]) -> None:
    endpoint = endpoints["two"]
    waiting = delivery_of(endpoint)
    answer = operator.post(f"{ENDPOINTS}act/", {"action": "disable", "id": endpoint.pk})
    assert "Disabled 1 webhook." in told(operator, answer)
    endpoint.refresh_from_db()
    waiting.refresh_from_db()
    assert (endpoint.enabled, endpoint.disabled_reason, waiting.state) == (False, "staff", "failed")
    assert "The staff disabled it." in text(operator.get(page_of(endpoint)))
    answer = operator.post(f"{ENDPOINTS}act/", {"action": "disable", "id": endpoint.pk})
    assert "Skipped 1 webhook, already disabled." in told(operator, answer)
    answer = operator.post(f"{ENDPOINTS}act/", {"action": "enable", "id": endpoint.pk})
    assert "Enabled 1 webhook." in told(operator, answer)
    endpoint.refresh_from_db()
    assert (endpoint.enabled, endpoint.disabled_reason) == (True, "")
    logged = LogEntry.objects.filter(object_id=endpoint.pk).values_list("change_message", flat=True)
    assert [entry.partition(",")[0] for entry in logged] == [
        "Enabled a webhook endpoint",
        "Disabled a webhook endpoint",
    ]


def test_an_operator_acts_on_selected_rows(
    operator: Client, endpoints: dict[str, WebhookEndpoint], rows: dict[str, WebhookDelivery]
) -> None:
    def act(at: str, action: str, chosen: Any) -> str:
        data = {"action": action, "_selected_action": [row.pk for row in chosen.values()]}
        return told(operator, operator.post(at, data))

    said = act(DELIVERIES, "redeliver_selected", rows)
    assert "1 delivery will be sent again." in said
    assert "Skipped 2 deliveries: pending, or of a disabled webhook." in said
    assert WebhookDelivery.objects.get(pk=rows["one"].pk).state == "pending"
    assert LogEntry.objects.get(object_id=rows["one"].pk).change_message.startswith("Sent a webhook delivery again")
    said = act(ENDPOINTS, "disable_selected", endpoints)
    assert "Disabled 2 webhooks." in said
    assert "Skipped 1 webhook, already disabled." in said


def test_a_delivery_is_sent_again_from_its_page(operator: Client, rows: dict[str, WebhookDelivery]) -> None:
    assert "Send again" in text(operator.get(page_of(rows["one"])))
    answer = operator.post(f"{DELIVERIES}act/", {"action": "redeliver", "id": rows["one"].pk})
    assert "1 delivery will be sent again." in told(operator, answer)
    assert "Send again" not in text(operator.get(page_of(rows["one"])))


def test_a_viewer_may_not_act(
    viewer: Client, endpoints: dict[str, WebhookEndpoint], rows: dict[str, WebhookDelivery]
) -> None:
    for row, at, action in ((endpoints["one"], ENDPOINTS, "disable"), (rows["one"], DELIVERIES, "redeliver")):
        sent = viewer.get(page_of(row)).content.decode()
        assert 'name="action"' not in sent
        assert viewer.post(f"{at}act/", {"action": action, "id": row.pk}).status_code == 403
        data = {"action": f"{action}_selected", "_selected_action": [row.pk]}
        assert viewer.post(at, data).status_code in {200, 302, 403}
    assert WebhookEndpoint.objects.get(pk=endpoints["one"].pk).enabled
    assert WebhookDelivery.objects.get(pk=rows["one"].pk).state == "delivered"
    assert LogEntry.objects.filter(change_message__startswith="Refused").count() == 2


def test_unknown_rows_and_methods_are_refused(operator: Client, endpoints: dict[str, WebhookEndpoint]) -> None:
    for at in (ENDPOINTS, DELIVERIES):
        assert operator.get(f"{at}act/").status_code == 405
        for data in ({"action": "disable", "id": "\0"}, {"action": "odd", "id": endpoints["one"].pk}, {}):
            assert "It does not exist." in told(operator, operator.post(f"{at}act/", data))
        assert operator.get(f"{at}vgw_1/change/").status_code == 302
        assert operator.post(f"{at}{endpoints['one'].pk}/delete/").status_code == 403
        assert operator.get(f"{at}add/").status_code == 403


def test_without_a_role_nothing_is_seen(
    browser_of: Callable[..., Client], endpoints: dict[str, WebhookEndpoint], rows: dict[str, WebhookDelivery]
) -> None:
    stranger = browser_of()
    for at in (ENDPOINTS, DELIVERIES, page_of(endpoints["one"]), page_of(rows["one"])):
        assert stranger.get(at).status_code == 403
    assert stranger.post(f"{ENDPOINTS}act/", {"action": "disable", "id": endpoints["one"].pk}).status_code == 403


def test_the_migration_gave_the_roles_their_rights() -> None:
    rights = {
        name: set(Group.objects.get(name=name).permissions.values_list("codename", flat=True)) for name in roles.GROUPS
    }
    for name in roles.GROUPS:
        assert {"view_webhookendpoint", "view_webhookdelivery"} <= rights[name]
    assert "change_webhookendpoint" not in rights[roles.VIEWER]
    for name in (roles.OPERATOR, roles.ADMINISTRATOR):
        assert {"change_webhookendpoint", "change_webhookdelivery"} <= rights[name]


def test_the_lists_ask_as_much_for_many_rows(viewer: Client, alice: User) -> None:
    def add() -> None:
        delivery_of(endpoint_of(alice), state="delivered", attempts=[attempt(200)])

    add()
    few = [len(queries_of(lambda: viewer.get(at))) for at in (ENDPOINTS, DELIVERIES)]
    for _ in range(10):
        add()
    assert [len(queries_of(lambda: viewer.get(at))) for at in (ENDPOINTS, DELIVERIES)] == few
