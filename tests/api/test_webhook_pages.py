"""The pages of webhooks as sent by the server: ownership, content, filters and escaping."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from generation.models import WebhookDelivery
from generation.requests import services
from generation.requests.new_request import NewRequest, Webhook
from generation.webhooks import outbox, signatures
from tests.api.helpers import completed
from tests.support.deliveries import attempt, delivery_of
from tests.support.queries import queries_of
from tests.support.webhooks import SECRET, endpoint_of

HTML = "<img src=x onerror=alert(1)></script><b>\"bold'"
UNKNOWN = "vgw_1700000000000000_000000000000000000"


@pytest.fixture
def page(alice: User) -> Client:
    """Alice's browser."""
    client = Client()
    client.force_login(alice)
    return client


def text(client: Client, path: str) -> str:
    """The page's text, with each run of white space as one."""
    answer = client.get(path)
    assert answer.status_code == 200, answer.status_code
    body = answer.content.decode().partition("<main")[2].partition("<dialog")[0]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


@pytest.mark.parametrize("at", ["/webhooks", "/webhooks/calls", f"/webhooks/{UNKNOWN}"])
def test_webhook_pages_need_a_signed_in_user(client: Client, db: None, at: str) -> None:
    answer = client.get(at)
    assert (answer.status_code, answer["Location"]) == (302, f"/sign-in?next={at}")


def test_the_list_shows_own_endpoints_and_why_one_is_disabled(page: Client, alice: User, charlie: User) -> None:
    endpoint_of(charlie, url="https://charlie.example/")
    endpoint_of(alice, url="https://one.example/", description="Shop", project_id="spring")
    endpoint_of(alice, url="https://two.example/", enabled=False, disabled_reason="gone")
    endpoint_of(alice, url="https://three.example/", enabled=False)
    endpoint_of(alice, url="https://four.example/", failing_since=timezone.now() - timedelta(days=1))
    seen = text(page, "/webhooks")
    assert "charlie.example" not in seen
    for words in (
        "https://one.example/ Enabled Shop",
        "Project spring",
        "https://two.example/ Disabled It answered 410 Gone.",
        "https://three.example/ Disabled Events",
        "https://four.example/ Failing Nothing could be delivered since",
    ):
        assert words in seen, words


def test_the_last_success_and_the_waiting_ones_are_shown(page: Client, alice: User) -> None:
    endpoint = endpoint_of(alice)
    assert "Last success None yet" in text(page, "/webhooks")
    delivery_of(endpoint, state="delivered", attempts=[attempt(500, "rejected"), attempt(200)])
    delivery_of(endpoint, state="failed", attempts=[attempt(500, "rejected")])
    delivery_of(endpoint)
    for at in ("/webhooks", f"/webhooks/{endpoint.pk}"):
        assert "Last success 1 Mar 2026, 12:00:00 UTC Waiting 1" in text(page, at)


def test_the_eleventh_endpoint_is_not_offered(page: Client, alice: User) -> None:
    for _ in range(10):
        endpoint_of(alice)
    seen = page.get("/webhooks").content.decode()
    assert "You have 10 webhooks" in seen
    assert re.search(r'data-action="add" disabled', seen)


def test_another_users_endpoint_looks_like_an_unknown_one(page: Client, charlie: User) -> None:
    def seen(webhook_id: str) -> tuple[int, str]:
        answer = page.get(f"/webhooks/{webhook_id}")
        return answer.status_code, re.sub(r'value="\w{64}"', "", answer.content.decode())

    never = seen(UNKNOWN)
    assert never[0] == 404
    assert "Webhook not found" in never[1]
    assert seen(endpoint_of(charlie).pk) == never
    assert seen("x") == never


def test_staff_do_not_see_the_pages_of_others(alice: User, bob: User) -> None:
    client = Client()
    client.force_login(bob)
    assert client.get(f"/webhooks/{endpoint_of(alice).pk}").status_code == 404


def test_a_delivery_tells_what_was_sent_and_what_came_of_it(page: Client, alice: User) -> None:
    endpoint = endpoint_of(alice)
    request = completed(alice)
    failed = [attempt(None, "timeout", 15_000), attempt(301, "redirect"), attempt(500, "rejected")]
    delivery_of(endpoint, request_id=request.pk, state="failed", attempts=failed)
    due = datetime.now(UTC) + timedelta(hours=2)
    waiting = delivery_of(endpoint, event="webhook.test", attempts=[attempt(None, "certificate")], next_attempt_at=due)
    at = f"/webhooks/{endpoint.pk}"
    seen = text(page, at)
    for words in (
        "Failed request.completed",
        f"Request {request.pk} HTTP 500 after 12 ms, 1 Mar 2026, 12:00:00 UTC",
        "3 attempts",
        "HTTP 301. Redirects are not followed",
        "No answer within 15 s",
        "Pending webhook.test",
        "The certificate is not valid for this host",
        f"Next attempt {due:%-d %b %Y, %H:%M:%S} UTC",
    ):
        assert words in seen, words
    sent = page.get(at).content.decode()
    assert f'href="/requests/{request.pk}"' in sent
    assert f'data-redeliver="{waiting.pk}"' not in sent
    assert sent.count("data-redeliver=") == 1


@pytest.mark.parametrize(
    "error",
    ["endpoint_disabled", "expired", "request_deleted", "secret_unreadable", "internal", "unknown_word"],
)
def test_each_error_has_words(page: Client, alice: User, error: str) -> None:
    endpoint = endpoint_of(alice)
    delivery_of(endpoint, state="failed", attempts=[attempt(None, error)])
    assert (error in text(page, f"/webhooks/{endpoint.pk}")) == (error == "unknown_word")


def test_a_disabled_endpoint_offers_no_redelivery(page: Client, alice: User) -> None:
    endpoint = endpoint_of(alice, enabled=False)
    delivery_of(endpoint, state="failed", attempts=[attempt(500, "rejected")])
    sent = page.get(f"/webhooks/{endpoint.pk}").content.decode()
    assert "data-redeliver=" not in sent
    assert 'data-action="test"' not in sent
    assert 'data-action="enable"' in sent


def test_deliveries_are_filtered_and_paged(page: Client, alice: User) -> None:
    endpoint = endpoint_of(alice)
    made = [delivery_of(endpoint, state="failed" if number % 2 else "delivered").pk for number in range(60)]
    at = f"/webhooks/{endpoint.pk}"

    def shown(query: str) -> tuple[list[str], str]:
        sent = page.get(at + query).content.decode()
        older = re.search(r'href="(\?[^"]*before=[^"]*)"', sent)
        return re.findall(r'<li class="delivery" id="(\w+)"', sent), unescape(older[1]) if older else ""

    seen, query = [], ""
    for _ in range(3):
        ids, query = shown(query)
        seen += ids
    assert (seen, query) == (made[::-1], "")
    ids, query = shown("?state=failed")
    assert ids == made[::-1][::2][:25]
    assert shown(query)[0] == made[::-1][::2][25:]
    for odd in ("?state=unknown", "?before=x", "?before=%00", "?state=%00"):
        assert shown(odd)[0] == made[::-1][:25]


def test_the_number_of_queries_does_not_grow(page: Client, alice: User) -> None:
    endpoint = endpoint_of(alice)
    at = f"/webhooks/{endpoint.pk}"
    delivery_of(endpoint, state="failed")
    few = queries_of(lambda: page.get(at))
    for _ in range(20):
        delivery_of(endpoint, state="failed")
    many = queries_of(lambda: page.get(at))
    assert len(many) == len(few)


def test_secrets_are_on_no_page(page: Client, alice: User) -> None:
    endpoint = endpoint_of(alice)
    default = signatures.decrypt(signatures.default(alice).secret)
    for at in ("/webhooks", f"/webhooks/{endpoint.pk}", "/webhooks/calls"):
        sent = page.get(at).content.decode()
        assert SECRET not in sent
        assert default not in sent
        assert endpoint.secret not in sent


def test_deliveries_of_calls_have_a_page(page: Client, alice: User, charlie: User) -> None:
    endpoint = endpoint_of(alice)
    delivery_of(endpoint, event="request.failed")
    for owner, url in ((alice, "https://calls.example/hook"), (charlie, "https://charlie.example/")):
        outbox.add(
            [outbox.delivery(owner_id=owner.pk, endpoint_id=None, url=url, event="request.completed", snapshot={})]
        )
    seen = text(page, "/webhooks/calls")
    assert "to https://calls.example/hook" in seen
    assert "charlie.example" not in seen
    assert "request.failed" not in seen


def test_a_requests_page_lists_its_deliveries(page: Client, alice: User, bob: User) -> None:
    webhook = Webhook(url="https://calls.example/hook?token=x", events=("request.completed",))
    request = services.submit(
        owner=alice, draft=NewRequest(type="cover", prompt="A fox in the snow", priority="normal", webhook=webhook)
    )
    at = f"/requests/{request.pk}"
    assert "Webhook https://calls.example/hook?token=x" in text(page, at)
    row = outbox.delivery(
        owner_id=alice.pk,
        endpoint_id=None,
        url=webhook.url,
        event="request.completed",
        snapshot={},
        request_id=request.pk,
    )
    outbox.add([row])
    WebhookDelivery.objects.update(state="failed", next_attempt_at=None, attempts=[attempt(404, "rejected")])
    seen = text(page, at)
    assert "Failed request.completed" in seen
    assert "to https://calls.example/hook?token=x HTTP 404" in seen
    assert "data-redeliver" in page.get(at).content.decode()
    staff = Client()
    staff.force_login(bob)
    sent = staff.get(at).content.decode()
    assert "to https://calls.example/hook?…" in text(staff, at)
    assert "token=x" not in sent
    assert "data-redeliver=" not in sent


def test_texts_of_users_are_escaped(page: Client, alice: User) -> None:
    endpoint = endpoint_of(
        alice, url=f"https://hooks.example.org/{HTML}", description=HTML, project_id=HTML, events=[HTML]
    )
    delivery_of(endpoint, attempts=[attempt(None, HTML)])
    for at in ("/webhooks", f"/webhooks/{endpoint.pk}"):
        answer = page.get(at)
        sent = answer.content.decode()
        assert "<img src=x" not in sent
        assert "</script><b>" not in sent
        assert not re.search(r"<style|\sstyle=|javascript:", sent)
        for attributes in re.findall(r"<script([^>]*)>", sent):
            assert "src=" in attributes or 'type="application/json"' in attributes
