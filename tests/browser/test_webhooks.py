"""The pages of webhooks, with a receiver that gets what they send."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from standardwebhooks import Webhook

from tests.browser.conftest import Visit
from tests.browser.visitor import PATIENCE, Visitor
from tests.faults.house import House
from tests.support.receiver import Received, Receiver

SECRET = re.compile(r"whsec_[0-9A-Za-z+/]{43}=")
_STORED = "() => JSON.stringify([{...localStorage}, {...sessionStorage}, history.state])"


@pytest.fixture
def clean(house: House) -> Iterator[None]:
    """Remove the webhooks of all users, before and after the test."""
    tables = "generation_webhook_deliveries, generation_webhook_endpoints, generation_webhook_secrets"
    house.execute(f"TRUNCATE {tables}, generation_webhook_events CASCADE")
    yield
    house.execute(f"TRUNCATE {tables}, generation_webhook_events CASCADE")


pytestmark = pytest.mark.usefixtures("calm", "clean")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server that accepts deliveries."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def visitor(visit: Visit) -> Visitor:
    """Alice on her page of webhooks, who may use the clipboard."""
    alice = visit("alice", permissions=["clipboard-read", "clipboard-write"])
    alice.page.get_by_role("link", name="Webhooks").click()
    expect(alice.page.get_by_role("heading", name="Webhooks", exact=True)).to_be_visible()
    return alice


@pytest.fixture
def page(visitor: Visitor) -> Page:
    """Alice's page of webhooks."""
    return visitor.page


def fill_new(page: Page, url: str) -> Locator:
    """Open the form of a new webhook and enter the address; return the dialog."""
    page.get_by_role("button", name="New webhook").click()
    editor = page.get_by_role("dialog", name="New webhook")
    editor.get_by_label("Address").fill(url)
    return editor


def take_secret(page: Page, title: str, *, once: bool = True) -> str:
    """Copy the secret that the dialog with this title shows, and close it."""
    dialog = page.get_by_role("dialog", name=title)
    copy = dialog.get_by_role("button", name="Copy secret")
    expect(copy).to_be_focused(timeout=PATIENCE)
    expect(dialog.locator("#secret-once")).to_be_visible(visible=once)
    copy.click()
    expect(dialog.get_by_role("status")).to_have_text("Copied.")
    secret = str(page.evaluate("navigator.clipboard.readText()"))
    assert SECRET.fullmatch(secret), "the clipboard has no secret"
    dialog.get_by_role("button", name="Done").click()
    expect(dialog).to_be_hidden()
    for text in (page.content(), page.evaluate(_STORED), page.url, json.dumps(page.context.storage_state())):
        assert not SECRET.search(text)
    return secret


def add(page: Page, url: str) -> str:
    """Add a webhook; return its secret."""
    fill_new(page, url).get_by_role("button", name="Add webhook").click()
    return take_secret(page, "The secret of your new webhook")


def card(page: Page, url: str) -> Locator:
    return page.get_by_role("listitem").filter(has=page.get_by_role("link", name=url, exact=True))


def opened(page: Page, url: str) -> Page:
    """Go to the page of a webhook."""
    page.get_by_role("link", name=url, exact=True).click()
    expect(page.get_by_role("heading", name="Deliveries", exact=True)).to_be_visible()
    return page


def verified(received: Received, secret: str) -> Any:
    """The body, if the official library accepts the signature."""
    return Webhook(secret).verify(received.body, received.headers)


def test_the_empty_page_says_what_a_webhook_is_for(page: Page) -> None:
    expect(page.locator("#endpoints")).to_contain_text("No webhooks yet")
    expect(page.get_by_role("button", name="New webhook")).to_have_count(1)


def test_a_webhook_is_added_and_its_test_is_followed(page: Page, receiver: Receiver) -> None:
    secret = add(page, receiver.url)
    expect(page.get_by_role("button", name="New webhook")).to_be_focused()
    shown = card(page, receiver.url)
    expect(shown.locator(".badge")).to_have_text("Enabled")
    expect(shown).to_contain_text("request.completedrequest.failedrequest.cancelled")
    expect(shown).to_contain_text("None yet")
    shown.get_by_role("button", name="Send a test").click()
    page.wait_for_url("**/webhooks/vgw_*")
    delivery = page.locator(".delivery")
    expect(delivery).to_contain_text("webhook.test")
    expect(delivery.locator(".badge")).to_have_text("Delivered", timeout=PATIENCE)
    expect(delivery).to_contain_text("HTTP 200")
    assert verified(receiver.wait_for(1)[0], secret)["type"] == "webhook.test"


def test_an_image_is_told_and_its_page_says_so(visitor: Visitor, receiver: Receiver, house: House) -> None:
    page = visitor.page
    secret = add(page, receiver.url)
    request_id = visitor.submit_by_api("A friendly dragon playing in a garden")
    house.wait_for(request_id, "completed")
    assert verified(receiver.wait_for(1)[0], secret)["data"]["requestId"] == request_id
    opened(page, receiver.url).get_by_role("link", name=request_id).click()
    expect(page.locator("#deliveries .badge")).to_have_text("Delivered", timeout=PATIENCE)
    expect(page.locator("#deliveries")).to_contain_text("request.completed")
    page.locator("#deliveries").get_by_role("link", name=receiver.url).click()
    expect(page.get_by_role("heading", name=receiver.url)).to_be_visible()


def test_a_failed_delivery_is_sent_again(page: Page, receiver: Receiver, house: House) -> None:
    add(page, f"{receiver.url}/500")
    card(page, f"{receiver.url}/500").get_by_role("button", name="Send a test").click()
    delivery = page.locator(".delivery")
    expect(delivery).to_contain_text("HTTP 500", timeout=PATIENCE)
    expect(delivery).to_contain_text("Next attempt")
    expect(delivery.get_by_role("button")).to_have_count(0)
    house.execute(
        "UPDATE generation_webhook_deliveries SET state = 'failed', next_attempt_at = NULL, leased_until = NULL"
    )
    page.reload()
    receiver.answer_all(200)
    page.get_by_role("link", name="Failed").click()
    expect(page.get_by_role("link", name="Failed")).to_have_attribute("aria-current", "true")
    before = len(receiver.received)
    delivery.get_by_role("button", name="again").click()
    expect(page.locator("#announcer")).to_have_text("It is being sent again.")
    again = receiver.wait_for(before + 1)[before]
    assert again.id == receiver.received[0].id
    page.get_by_role("link", name="All", exact=True).click()
    expect(delivery.locator(".badge")).to_have_text("Delivered", timeout=PATIENCE)
    delivery.get_by_text("attempts").click()
    expect(delivery.locator(".attempts")).to_contain_text("HTTP 500")


def test_a_range_is_sent_again(page: Page, receiver: Receiver) -> None:
    add(page, receiver.url)
    card(page, receiver.url).get_by_role("button", name="Send a test").click()
    expect(page.locator(".delivery .badge")).to_have_text("Delivered", timeout=PATIENCE)
    page.get_by_role("button", name="Send a range again").click()
    dialog = page.get_by_role("dialog", name="Send a range again")
    dialog.get_by_label("From").fill("2020-01-01T00:00")
    dialog.get_by_role("button", name="Send again").click()
    expect(dialog.locator("#since-error")).to_contain_text("within the last 7 days")
    expect(dialog.get_by_label("From")).to_be_focused()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Send a range again").click()
    dialog.get_by_role("button", name="Send again").click()
    expect(page.locator("#announcer")).to_have_text("No delivery of this time has to be sent again.")
    page.get_by_role("button", name="Send a range again").click()
    dialog.get_by_label("Only failed").uncheck()
    dialog.get_by_role("button", name="Send again").click()
    expect(page.locator("#announcer")).to_have_text("1 delivery will be sent again.")
    assert {received.id for received in receiver.wait_for(2)} == {receiver.received[0].id}


def test_a_webhook_is_edited_disabled_enabled_and_deleted(page: Page, receiver: Receiver) -> None:
    add(page, receiver.url)
    opened(page, receiver.url)
    page.get_by_role("button", name="Edit").click()
    editor = page.get_by_role("dialog", name="Edit webhook")
    expect(editor.get_by_label("Project")).to_be_hidden()
    editor.get_by_label("Description").fill("The shop")
    editor.get_by_label("batch.completed").check()
    with page.expect_request("**/api/**/webhooks/*") as sent:
        editor.get_by_role("button", name="Save").click()
    assert sent.value.post_data_json == {
        "description": "The shop",
        "events": ["request.completed", "request.failed", "request.cancelled", "batch.completed"],
    }
    expect(page.locator("#facts")).to_contain_text("The shop")
    expect(page.get_by_role("button", name="Edit")).to_be_focused()
    page.get_by_role("button", name="Disable").click()
    dialog = page.get_by_role("dialog", name="Disable this webhook?")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    dialog.get_by_role("button", name="Disable").click()
    expect(page.locator("#facts .badge")).to_have_text("Disabled")
    expect(page.get_by_role("button", name="Enable")).to_be_focused()
    expect(page.get_by_role("button", name="Send a range again")).to_have_count(0)
    page.get_by_role("button", name="Enable").click()
    expect(page.locator("#facts .badge")).to_have_text("Enabled")
    page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog", name="Delete this webhook?")
    expect(dialog).to_contain_text(receiver.url)
    dialog.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/webhooks")
    expect(page.locator("#endpoints")).to_contain_text("No webhooks yet")


def test_a_rotation_signs_with_both_secrets(page: Page, receiver: Receiver) -> None:
    first = add(page, receiver.url)
    opened(page, receiver.url)
    page.get_by_role("button", name="Rotate the secret").click()
    dialog = page.get_by_role("dialog", name="Rotate the secret of this webhook")
    expect(dialog.get_by_label("The current secret keeps signing")).to_have_value("24")
    dialog.get_by_role("button", name="Rotate").click()
    second = take_secret(page, "The new secret of this webhook")
    expect(page.locator("#facts")).to_contain_text("Signs as well until")
    page.get_by_role("button", name="Send a test").click()
    [received] = receiver.wait_for(1)
    assert verified(received, first) == verified(received, second)
    assert first != second


def test_the_default_secret_is_shown_on_demand(page: Page) -> None:
    page.get_by_role("button", name="Show the secret").click()
    first = take_secret(page, "Your default secret", once=False)
    expect(page.get_by_role("button", name="Show the secret")).to_be_focused()
    page.get_by_role("button", name="Rotate").click()
    dialog = page.get_by_role("dialog", name="Rotate your default secret")
    dialog.get_by_role("button", name="Rotate").click()
    second = take_secret(page, "Your new default secret")
    expect(page.locator("#default")).to_contain_text("The old secret signs as well until")
    page.get_by_role("button", name="Show the secret").click()
    assert take_secret(page, "Your default secret", once=False) == second != first


def test_deliveries_of_a_single_request_are_listed(visitor: Visitor, receiver: Receiver, house: House) -> None:
    request_id = visitor.submit_by_api("A friendly dragon playing in a garden", webhookUrl=receiver.url)
    house.wait_for(request_id, "completed")
    receiver.wait_for(1)
    page = visitor.page
    page.locator("aside").get_by_role("link", name="Deliveries").click()
    expect(page.get_by_role("heading", name="Deliveries of single requests")).to_be_visible()
    delivery = page.locator(".delivery")
    expect(delivery).to_contain_text(f"to {receiver.url}")
    expect(delivery.locator(".badge")).to_have_text("Delivered", timeout=PATIENCE)
    delivery.get_by_role("button", name="again").click()
    receiver.wait_for(2)


def test_errors_are_shown_at_their_fields(page: Page) -> None:
    editor = fill_new(page, " ")
    for event in ("request.completed", "request.failed", "request.cancelled"):
        editor.get_by_label(event).uncheck()
    save = editor.get_by_role("button", name="Add webhook")
    save.click()
    expect(page.locator("#url-error")).to_have_text("Enter an address.")
    expect(page.locator("#events-error")).to_have_text("Choose at least one event.")
    expect(editor.get_by_label("Address")).to_be_focused()
    editor.get_by_label("request.completed").check()
    for url, words in (
        ("ftp://example.org/", "Must begin with https://."),
        ("https://user:password@example.org/", "Must not contain a user name"),
        ("https://10.0.0.1/", "its address is not a public one"),
        ("https://[::1]/", "its address is not a public one"),
        ("https://no-such-host.invalid/", "cannot be found"),
    ):
        editor.get_by_label("Address").fill(url)
        save.click()
        expect(page.locator("#url-error")).to_contain_text(words)
        expect(editor.get_by_label("Address")).to_be_focused()
        expect(editor.get_by_label("Address")).to_have_attribute("aria-invalid", "true")


def test_a_lost_connection_keeps_the_form(page: Page, receiver: Receiver) -> None:
    editor = fill_new(page, receiver.url)
    page.context.set_offline(offline=True)
    editor.get_by_role("button", name="Add webhook").click()
    expect(editor.get_by_role("alert")).to_contain_text("The server cannot be reached")
    page.context.set_offline(offline=False)
    editor.get_by_role("button", name="Add webhook").click()
    take_secret(page, "The secret of your new webhook")


def test_webhooks_are_added_and_deleted_by_keyboard_alone(page: Page, receiver: Receiver) -> None:
    page.get_by_role("button", name="New webhook").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#url")).to_be_focused()
    page.keyboard.type(receiver.url)
    page.keyboard.press("Enter")
    expect(page.locator("#secret-copy")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#secret-status")).to_have_text("Copied.")
    page.keyboard.press("Escape")
    expect(page.locator("#add")).to_be_focused()
    links = [page.locator("#endpoints").get_by_role("link", name=name) for name in (receiver.url, "Deliveries")]
    expect(links[0]).to_be_visible()  # the list is read again behind the dialog
    for link in links:
        page.keyboard.press("Tab")
        expect(link).to_be_focused()
    page.keyboard.press("Enter")
    page.locator("#remove").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/webhooks")


def test_the_webhooks_of_other_users_never_appear(page: Page, receiver: Receiver, visit: Visit) -> None:
    add(page, receiver.url)
    opened(page, receiver.url)
    for name in ("charlie", "bob"):  # bob is staff
        other = visit(name).page
        other.goto("/webhooks")
        expect(other.locator("#endpoints")).to_contain_text("No webhooks yet")
        other.goto(page.url)
        expect(other.get_by_role("heading", name="Webhook not found")).to_be_visible()


def test_without_javascript_the_pages_show_their_data(visit: Visit, page: Page, receiver: Receiver) -> None:
    add(page, receiver.url)
    opened(page, receiver.url).get_by_role("button", name="Send a test").click()
    expect(page.locator(".delivery .badge")).to_have_text("Delivered", timeout=PATIENCE)
    plain = visit("alice", java_script_enabled=False).page
    plain.goto("/webhooks")
    opened(plain, receiver.url)
    expect(plain.locator(".delivery")).to_contain_text("HTTP 200")
    plain.get_by_role("link", name="Failed").click()
    expect(plain.locator("#deliveries")).to_contain_text("Nothing has failed")
