"""What a page does while it cannot hear, and when it can again."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.visitor import PATIENCE, Visitor, wait_status

pytestmark = pytest.mark.usefixtures("calm")


def test_a_lost_connection_is_told_and_what_was_missed_comes_after_it(alice: Visitor) -> None:
    alice.wait_loaded()
    stack = alice.house.stack
    alice.house.provider.script(default="hold=1")
    card = alice.submit("A ship that comes home late", provider="openai")
    wait_status(card, "in-progress")
    alice.house.wait_for_active_calls(1)
    notice = alice.page.locator("#notice")
    stack.stop("realtime")
    try:
        expect(notice).to_contain_text("Live updates are interrupted", timeout=PATIENCE)
        expect(alice.page.locator("#connection")).to_have_text("Offline")
        alice.house.provider.release()
        request_id = str(card.get_attribute("data-id"))
        alice.house.wait_for(request_id, "completed")
    finally:
        stack.start("realtime")
    wait_status(card, "completed")
    expect(notice).to_be_hidden(timeout=PATIENCE)
    expect(alice.page.locator("#connection")).to_have_text("Live")


def test_without_a_network_nothing_typed_is_lost_and_nothing_drawn_twice(alice: Visitor) -> None:
    alice.wait_loaded()
    prompt = "A bridge between two islands"
    alice.page.context.set_offline(offline=True)
    expect(alice.page.locator("#notice")).to_be_visible(timeout=PATIENCE)
    alice.page.locator("#prompt").fill(prompt)
    alice.page.locator("#submit").click()
    expect(alice.page.locator("#composer-error")).to_contain_text("cannot be reached")
    alice.page.context.set_offline(offline=False)
    alice.wait_live()
    expect(alice.page.locator("#prompt")).to_have_value(prompt)
    # The answer is lost on its way, and the page sends the call again.
    alice.page.route("**/submit", lambda route: (route.fetch(), route.abort()), times=1)
    alice.page.locator("#submit").click()
    expect(alice.page.locator("#composer-error")).to_contain_text("cannot be reached")
    alice.page.locator("#submit").click()
    wait_status(alice.card(prompt), "completed")
    rows = alice.house.rows("SELECT count(*) AS n FROM generation_requests WHERE prompt = %s", prompt)
    assert rows[0]["n"] == 1


def test_a_list_that_cannot_be_loaded_says_so_and_can_be_asked_for_again(alice: Visitor) -> None:
    alice.wait_loaded()
    alice.page.route(
        "**/requests?*", lambda route: route.fulfill(status=503, json={"error": "It is away", "code": "x"})
    )
    alice.page.locator("#filter [name=type]").select_option("cover")
    expect(alice.page.get_by_role("heading", name="The images could not be loaded")).to_be_visible(timeout=PATIENCE)
    expect(alice.page.locator("#state")).to_contain_text("It is away")
    alice.page.unroute("**/requests?*")
    alice.page.get_by_role("button", name="Try again").click()
    expect(alice.page.get_by_role("heading", name="could not be loaded")).to_be_hidden(timeout=PATIENCE)


def test_a_signed_out_user_is_told_and_led_back(visit: Visit) -> None:
    alice = visit("alice", new_session=True)
    alice.studio("?type=cover")
    other = alice.page.context.new_page()
    other.goto("/")
    other.get_by_role("button", name="Sign out").click()
    other.wait_for_url("**/sign-in")
    other.close()
    alice.page.locator("#prompt").fill("What is typed stays where it is")
    alice.page.locator("#submit").click()
    expect(alice.page.locator("#notice")).to_contain_text("You are signed out", timeout=PATIENCE)
    expect(alice.page.locator("#prompt")).to_have_value("What is typed stays where it is")
    alice.page.get_by_role("button", name="Sign in").click()
    alice.page.wait_for_url("**/sign-in?next=*")
    alice.page.get_by_label("Username").fill("alice")
    alice.page.get_by_label("Password").fill("wrong")
    alice.page.get_by_role("button", name="Sign in").click()
    expect(alice.page.get_by_role("alert")).to_have_text("Wrong username or password.")
