"""The endpoints of webhooks and deliveries, and the webhook of a single call."""

from __future__ import annotations

import ipaddress
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.cache import cache
from rest_framework.test import APIClient

from generation.api import webhooks
from generation.models import GenerationBatch, GenerationRequest, WebhookDelivery, WebhookEndpoint, WebhookSecret
from generation.states import DEFAULT_WEBHOOK_EVENTS
from generation.webhooks import endpoints, signatures
from tests.api.helpers import PREFIX, SUBMIT, assert_error, assert_refused_field, batch_body, body, post_json
from tests.support.keys import key_client
from tests.support.webhooks import SECRET, delivery_of, endpoint_of

pytestmark = pytest.mark.django_db

WEBHOOKS = f"{PREFIX}/webhooks"
URL = "https://192.0.2.7/hooks"
WANTED: dict[str, Any] = {"url": URL, "events": ["request.completed", "request.failed"]}
ENDS = [str(event) for event in DEFAULT_WEBHOOK_EVENTS]


@pytest.fixture(autouse=True)
def _addresses(settings: Any) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = [ipaddress.ip_network("192.0.2.0/24")]
    cache.clear()


def call(client: APIClient, method: str, at: str, data: Any = None) -> Any:
    text: Any = json.dumps({} if data is None else data)
    return client.generic(method, at, text, content_type="application/json")


def made(client: APIClient, **more: Any) -> dict[str, Any]:
    response = post_json(client, WANTED | more, at=WEBHOOKS)
    assert response.status_code == 201, response.content
    webhook: dict[str, Any] = response.json()
    return webhook


def one(webhook: dict[str, Any], *more: str) -> str:
    return "/".join([WEBHOOKS, webhook["webhookId"], *more])


def test_a_new_webhook_shows_its_secret_once(api: APIClient, alice: User) -> None:
    response = post_json(api, WANTED, at=WEBHOOKS)
    webhook = response.json()
    assert response["Cache-Control"] == "no-store"
    secret = webhook.pop("secret")
    assert call(api, "GET", one(webhook)).json() == webhook
    assert call(api, "GET", WEBHOOKS).json() == {"results": [webhook], "next": None, "previous": None}
    stored = WebhookEndpoint.objects.get()
    assert secret not in stored.secret
    assert signatures.decrypt(stored.secret) == secret
    assert LogEntry.objects.filter(user=alice, change_message__contains="Made a webhook endpoint").exists()
    assert secret not in "".join(LogEntry.objects.values_list("change_message", flat=True))


@pytest.mark.parametrize(
    ("values", "path", "code"),
    [
        ({"url": "http://192.0.2.7/"}, "url", "not_https"),
        ({"url": "https://a:b@192.0.2.7/"}, "url", "credentials"),
        ({"url": "https://127.0.0.1/"}, "url", "not_allowed"),
        ({"url": "https://no-such-host.invalid/"}, "url", "unresolvable"),
        ({"url": "https://192.0.2.7:99999/"}, "url", "invalid"),
        ({"url": f"https://192.0.2.7/{'a' * 2048}"}, "url", None),
        ({"url": 7}, "url", "invalid"),
        ({"events": []}, "events", "empty"),
        ({"events": ["request.deleted"]}, "events[0]", "invalid_choice"),
        ({"events": ["webhook.test"]}, "events[0]", "invalid_choice"),
        ({"events": "request.failed"}, "events", "not_a_list"),
        ({"description": "a" * 201}, "description", "max_length"),
        ({"projectId": "a" * 256}, "projectId", "max_length"),
    ],
)
def test_a_webhook_is_bounded(api: APIClient, values: dict[str, Any], path: str, code: str | None) -> None:
    assert_refused_field(post_json(api, WANTED | values, at=WEBHOOKS), path, code)
    assert not WebhookEndpoint.objects.exists()


def test_the_eleventh_webhook_is_refused(api: APIClient, alice: User, charlie: User) -> None:
    endpoint_of(charlie)
    for _ in range(endpoints.MOST_ENDPOINTS):
        endpoint_of(alice)
    assert_error(post_json(api, WANTED, at=WEBHOOKS), 409, "too_many")


def test_a_webhook_is_changed_and_deleted(api: APIClient) -> None:
    webhook = made(api, projectId="p")
    wanted = {"url": "https://192.0.2.8/", "events": ["batch.completed"], "description": "The press", "enabled": False}
    changed = call(api, "PATCH", one(webhook), wanted).json()
    assert {name: changed[name] for name in wanted} == wanted
    assert changed["projectId"] == "p"
    assert_refused_field(call(api, "PATCH", one(webhook), {"url": "https://10.0.0.1/"}), "url", "not_allowed")
    assert call(api, "PATCH", one(webhook), {}).json() == changed
    assert call(api, "DELETE", one(webhook)).status_code == 204
    assert_error(call(api, "GET", one(webhook)), 404, "not_found")


def test_disabling_ends_what_waits_and_enabling_forgets_failures(api: APIClient, alice: User) -> None:
    endpoint = endpoint_of(alice, url=URL, failing_since=datetime.now(UTC))
    waiting = delivery_of(endpoint, state="pending", next_attempt_at=datetime.now(UTC))
    at = f"{WEBHOOKS}/{endpoint.pk}"
    assert call(api, "PATCH", at, {"enabled": False}).json()["enabled"] is False
    waiting.refresh_from_db()
    assert (waiting.state, waiting.attempts[-1]["error"]) == ("failed", "endpoint_disabled")
    WebhookEndpoint.objects.update(disabled_reason="failing")
    assert call(api, "GET", at).json()["disabledReason"] == "failing"
    enabled = call(api, "PATCH", at, {"enabled": True}).json()
    assert (enabled["enabled"], enabled["disabledReason"], enabled["failingSince"]) == (True, None, None)


def test_a_new_url_gets_what_waits(api: APIClient, alice: User) -> None:
    endpoint = endpoint_of(alice, url=URL)
    delivery = delivery_of(endpoint, state="pending", next_attempt_at=datetime.now(UTC))
    call(api, "PATCH", f"{WEBHOOKS}/{endpoint.pk}", {"url": "https://192.0.2.9/new"})
    delivery.refresh_from_db()
    assert (delivery.url, delivery.host) == ("https://192.0.2.9/new", "192.0.2.9")


def test_a_rotation_gives_a_new_secret(api: APIClient, alice: User) -> None:
    endpoint = endpoint_of(alice, url=URL)
    response = call(api, "POST", f"{WEBHOOKS}/{endpoint.pk}/rotate", {"overlapHours": 2})
    secret = response.json()["secret"]
    assert response["Cache-Control"] == "no-store"
    endpoint.refresh_from_db()
    assert signatures.valid_secrets(endpoint, now=datetime.now(UTC)) == [secret, SECRET]
    assert signatures.valid_secrets(endpoint, now=datetime.now(UTC) + timedelta(hours=3)) == [secret]
    call(api, "POST", f"{WEBHOOKS}/{endpoint.pk}/rotate", {"overlapHours": 0})
    endpoint.refresh_from_db()
    assert len(signatures.valid_secrets(endpoint, now=datetime.now(UTC))) == 1
    refused = call(api, "POST", f"{WEBHOOKS}/{endpoint.pk}/rotate", {"overlapHours": 73})
    assert_refused_field(refused, "overlapHours", "max_value")


def test_a_rotation_starts_from_the_secret_of_an_earlier_one(api: APIClient, alice: User) -> None:
    """Of two rotations at once, the second one keeps the secret that the first one has answered."""
    endpoint = endpoint_of(alice)
    stale = WebhookEndpoint.objects.get(pk=endpoint.pk)
    first = endpoints.rotate(endpoint, overlap=timedelta(hours=1), by=alice, address="")
    second = endpoints.rotate(stale, overlap=timedelta(hours=1), by=alice, address="")
    row = WebhookEndpoint.objects.get(pk=endpoint.pk)
    assert signatures.valid_secrets(row, now=datetime.now(UTC)) == [second, first]


def test_the_default_secret_is_made_once_and_rotated(api: APIClient, stranger: APIClient, alice: User) -> None:
    first = call(api, "GET", f"{WEBHOOKS}/secret").json()["secret"]
    assert call(api, "GET", f"{WEBHOOKS}/secret").json()["secret"] == first
    assert call(stranger, "GET", f"{WEBHOOKS}/secret").json()["secret"] != first
    second = call(api, "POST", f"{WEBHOOKS}/secret/rotate").json()["secret"]
    row = WebhookSecret.objects.get(owner=alice)
    assert signatures.valid_secrets(row, now=datetime.now(UTC)) == [second, first]


def test_an_unreadable_default_secret_is_replaced(api: APIClient, settings: Any) -> None:
    first = call(api, "GET", f"{WEBHOOKS}/secret").json()["secret"]
    settings.SECRET_KEY = "another-secret-key-that-is-long-enough-for-it"
    second = call(api, "GET", f"{WEBHOOKS}/secret").json()["secret"]
    assert second != first
    assert call(api, "GET", f"{WEBHOOKS}/secret").json()["secret"] == second


def test_a_test_is_queued(api: APIClient, alice: User) -> None:
    webhook = made(api)
    response = call(api, "POST", one(webhook, "test"))
    assert response.status_code == 202
    delivery = WebhookDelivery.objects.get(pk=response.json()["deliveryId"])
    assert (delivery.event, delivery.state, delivery.owner) == ("webhook.test", "pending", alice)
    call(api, "PATCH", one(webhook), {"enabled": False})
    assert_error(call(api, "POST", one(webhook, "test")), 409, "disabled")


def test_tests_have_a_rate_of_their_own(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    # In a rate by the minute, a new minute may begin meanwhile. Making the endpoint counts as well.
    monkeypatch.setattr(webhooks, "_RATE", "4/h")
    webhook = made(api)
    codes = [call(api, "POST", one(webhook, "test")).status_code for _ in range(4)]
    assert codes == [202, 202, 202, 429]


def test_deliveries_are_listed_newest_first_in_pages(api: APIClient, alice: User) -> None:
    endpoint = endpoint_of(alice, url=URL)
    ids = [delivery_of(endpoint).pk for _ in range(3)]
    at = f"{WEBHOOKS}/{endpoint.pk}/deliveries"
    page = call(api, "GET", f"{at}?limit=2").json()
    assert [row["deliveryId"] for row in page["results"]] == ids[:0:-1]
    following = api.get(page["next"]).json()
    assert [row["deliveryId"] for row in following["results"]] == ids[:1]
    assert following["results"][0] == {
        "deliveryId": ids[0],
        "webhookId": endpoint.pk,
        "url": URL,
        "event": "webhook.test",
        "requestId": None,
        "batchId": None,
        "sequence": 0,
        "state": "failed",
        "attempts": [],
        "nextAttemptAt": None,
        "createdAt": following["results"][0]["createdAt"],
    }


def test_deliveries_are_filtered(api: APIClient, alice: User) -> None:
    endpoint, other = endpoint_of(alice, url=URL), endpoint_of(alice, url=URL)
    failed = delivery_of(endpoint, event="request.failed", request_id="vga_1700000000000000_000000000000000001")
    delivered = delivery_of(endpoint, event="request.completed", state="delivered")
    elsewhere = delivery_of(other, event="request.failed")

    def listed(query: str, at: str = f"{WEBHOOKS}/{endpoint.pk}/deliveries") -> list[str]:
        return [row["deliveryId"] for row in call(api, "GET", f"{at}?{query}").json()["results"]]

    assert listed("state=failed") == [failed.pk]
    assert listed("event=request.completed") == [delivered.pk]
    assert listed("state=pending") == []
    everything = f"{WEBHOOKS}/deliveries"
    assert listed("", everything) == [elsewhere.pk, delivered.pk, failed.pk]
    assert listed(f"requestId={failed.request_id}", everything) == [failed.pk]
    assert_refused_field(call(api, "GET", f"{everything}?state=lost"), "state", "invalid_choice")
    assert_refused_field(call(api, "GET", f"{everything}?status=failed"), "status", "unknown")
    assert_refused_field(call(api, "GET", f"{everything}?cursor=x"), "cursor", "invalid")


def test_a_delivery_is_sent_again_under_its_id(api: APIClient, alice: User) -> None:
    endpoint = endpoint_of(alice, url=URL)
    delivery = delivery_of(endpoint, tries=10)
    at = f"{PREFIX}/deliveries/{delivery.pk}/redeliver"
    response = call(api, "POST", at)
    assert (response.status_code, response.json()["deliveryId"]) == (202, delivery.pk)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.tries) == ("pending", 0)
    assert_error(call(api, "POST", at), 409, "pending")
    WebhookEndpoint.objects.update(enabled=False)
    WebhookDelivery.objects.update(state="failed", next_attempt_at=None)
    assert_error(call(api, "POST", at), 409, "disabled")


def test_the_failures_of_an_outage_are_sent_again(api: APIClient, alice: User) -> None:
    endpoint = endpoint_of(alice, url=URL)
    at = f"{WEBHOOKS}/{endpoint.pk}/redeliver"
    now = datetime.now(UTC)
    old, recent = delivery_of(endpoint), delivery_of(endpoint)
    delivered = delivery_of(endpoint, state="delivered")
    WebhookDelivery.objects.filter(pk=old.pk).update(created_at=now - timedelta(days=2))
    delivery_of(endpoint_of(alice, url=URL))
    response = call(api, "POST", at, {"since": (now - timedelta(days=1)).isoformat()})
    assert (response.status_code, response.json()) == (202, {"success": True, "count": 1})
    assert list(WebhookDelivery.objects.filter(state="pending").values_list("pk", flat=True)) == [recent.pk]
    window = {"since": (now - timedelta(days=3)).isoformat(), "until": (now - timedelta(days=1)).isoformat()}
    assert call(api, "POST", at, window).json()["count"] == 1
    everything = {"since": (now - timedelta(days=3)).isoformat(), "onlyFailed": False}
    assert call(api, "POST", at, everything).json()["count"] == 1
    delivered.refresh_from_db()
    assert delivered.state == "pending"
    for since in ((now - timedelta(days=8)).isoformat(), (now + timedelta(hours=1)).isoformat()):
        assert_refused_field(call(api, "POST", at, {"since": since}), "since", "out_of_range")
    assert_refused_field(call(api, "POST", at), "since", "required")


def test_another_user_has_no_such_webhook_or_delivery(stranger: APIClient, alice: User) -> None:
    endpoint = endpoint_of(alice, url=URL)
    delivery = delivery_of(endpoint)
    for method, more in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/test"), ("GET", "/deliveries")):
        response = call(stranger, method, f"{WEBHOOKS}/{endpoint.pk}{more}")
        assert_error(response, 404, "not_found")
        never = call(stranger, method, f"{WEBHOOKS}/vgw_1700000000000000_000000000000000000{more}")
        assert response.content == never.content
    assert_error(call(stranger, "POST", f"{PREFIX}/deliveries/{delivery.pk}/redeliver"), 404, "not_found")
    assert call(stranger, "GET", f"{WEBHOOKS}/deliveries").json()["results"] == []
    endpoint.refresh_from_db()


# --- API keys ---------------------------------------------------------------------------------------------------------


def test_a_key_needs_the_scope(alice: User) -> None:
    endpoint = endpoint_of(alice, url=URL)
    others = key_client(alice, scopes=["requests:read", "requests:write"])
    for method, at in (("GET", WEBHOOKS), ("POST", WEBHOOKS), ("GET", f"{WEBHOOKS}/secret")):
        assert_error(call(others, method, at), 403, "scope_missing")
    having = key_client(alice, scopes=["webhooks"])
    assert call(having, "GET", f"{WEBHOOKS}/{endpoint.pk}").status_code == 200
    assert call(having, "POST", f"{WEBHOOKS}/{endpoint.pk}/test").status_code == 202


def test_a_key_of_a_project_has_the_webhooks_of_the_project(alice: User) -> None:
    everywhere, other = endpoint_of(alice, url=URL), endpoint_of(alice, url=URL, project_id="other")
    for endpoint in (everywhere, other):
        delivery_of(endpoint)
    client = key_client(alice, scopes=["webhooks"], allowed_projects=["book"])
    for wanted in (WANTED, WANTED | {"projectId": "other"}):
        assert_error(post_json(client, wanted, at=WEBHOOKS), 403, "not_allowed")
    webhook = made(client, projectId="book")
    assert [row["webhookId"] for row in call(client, "GET", WEBHOOKS).json()["results"]] == [webhook["webhookId"]]
    assert_error(call(client, "GET", f"{WEBHOOKS}/{everywhere.pk}"), 404, "not_found")
    assert call(client, "GET", f"{WEBHOOKS}/deliveries").json()["results"] == []


# --- The webhook of a call --------------------------------------------------------------------------------------------


def test_a_submit_may_have_a_webhook(api: APIClient) -> None:
    post_json(api, body(webhookUrl=URL))
    post_json(api, body(webhookUrl=URL, webhookEvents=["request.started", "request.started"]))
    post_json(api, body())
    found = GenerationRequest.objects.order_by("pk").values_list("webhook_url", "webhook_events")
    assert list(found) == [(URL, ENDS), (URL, ["request.started"]), ("", None)]


def test_a_batch_and_variations_have_one_webhook(api: APIClient) -> None:
    post_json(api, batch_body(2) | {"webhookUrl": URL, "webhookEvents": ["batch.completed"]}, at=f"{PREFIX}/batch")
    post_json(api, body(webhookUrl=URL, variations=2))
    found = GenerationBatch.objects.order_by("pk").values_list("webhook_url", "webhook_events")
    assert list(found) == [(URL, ["batch.completed"]), (URL, ENDS)]
    assert set(GenerationRequest.objects.values_list("webhook_url", flat=True)) == {""}


@pytest.mark.parametrize(
    ("values", "path", "code"),
    [
        ({"webhookUrl": "http://192.0.2.7/"}, "webhookUrl", "not_https"),
        ({"webhookUrl": "https://127.0.0.1/"}, "webhookUrl", "not_allowed"),
        ({"webhookUrl": URL, "webhookEvents": ["x"]}, "webhookEvents[0]", "invalid_choice"),
        ({"webhookEvents": ["request.failed"]}, "webhookUrl", "required"),
    ],
)
def test_the_webhook_of_a_call_is_checked(api: APIClient, values: dict[str, Any], path: str, code: str) -> None:
    assert_refused_field(post_json(api, body(**values)), path, code)
    assert_refused_field(post_json(api, batch_body(1) | values, at=f"{PREFIX}/batch"), path, code)


def test_a_request_of_a_batch_has_no_webhook_of_its_own(api: APIClient) -> None:
    items = {"requests": [body(webhookUrl=URL)]}
    assert_refused_field(post_json(api, items, at=f"{PREFIX}/batch"), "requests[0].webhookUrl", "unsupported")


def test_another_webhook_is_another_call(api: APIClient) -> None:
    first = api.post(SUBMIT, body(webhookUrl=URL), format="json", headers={"Idempotency-Key": "one"})
    again = api.post(SUBMIT, body(webhookUrl=URL), format="json", headers={"Idempotency-Key": "one"})
    other = api.post(SUBMIT, body(webhookUrl=f"{URL}/2"), format="json", headers={"Idempotency-Key": "one"})
    assert first.json()["requestId"] == again.json()["requestId"]
    assert_error(other, 409, "idempotency_key_reused")


def test_the_status_of_a_request_does_not_show_its_webhook(api: APIClient) -> None:
    request_id = post_json(api, body(webhookUrl=URL)).json()["requestId"]
    assert "webhook" not in api.get(f"{PREFIX}/status/{request_id}").content.decode()


def test_only_staff_enable_what_staff_disabled(api: APIClient, alice: User) -> None:
    endpoint = endpoint_of(alice, url=URL)
    staff = User.objects.create_user("sam", password="x", is_staff=True)
    assert endpoints.enable_by_staff(endpoint, enabled=False, by=staff, address="")
    at = f"{WEBHOOKS}/{endpoint.pk}"
    assert_error(call(api, "PATCH", at, {"enabled": True}), 409, "disabled_by_staff")
    for change in ({"enabled": False}, {"description": "The press"}):  # neither takes the reason away
        answered = call(api, "PATCH", at, change).json()
        assert (answered["enabled"], answered["disabledReason"]) == (False, "staff")
    assert_error(call(api, "PATCH", at, {"enabled": True, "events": ["request.failed"]}), 409, "disabled_by_staff")
    endpoint.refresh_from_db()
    assert endpoint.events != ["request.failed"]
    assert endpoints.enable_by_staff(endpoint, enabled=True, by=staff, address="")
    assert call(api, "PATCH", at, {"enabled": False}).json()["disabledReason"] is None


def test_what_is_sent_again_goes_to_the_present_url(api: APIClient, alice: User) -> None:
    endpoint = endpoint_of(alice, url="https://former.example.org/")
    failed, other = delivery_of(endpoint), delivery_of(endpoint)
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(url="https://present.example.org/")
    assert call(api, "POST", f"{PREFIX}/deliveries/{failed.pk}/redeliver").status_code == 202
    since = {"since": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}
    assert call(api, "POST", f"{WEBHOOKS}/{endpoint.pk}/redeliver", since).json()["count"] == 1
    rows = WebhookDelivery.objects.filter(pk__in=[failed.pk, other.pk])
    assert set(rows.values_list("url", "host")) == {("https://present.example.org/", "present.example.org")}
