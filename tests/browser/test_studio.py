"""The Studio, as people use it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.visitor import PATIENCE, Visitor, wait_status
from tests.support.stack import wait_until

HTML = '<img src="/x" onerror="window.hurt = true"><script>window.hurt = true</script> in a garden'

pytestmark = pytest.mark.usefixtures("calm")


def test_a_submitted_request_completes_on_the_page_without_a_reload(alice: Visitor) -> None:
    alice.wait_loaded()
    alice.page.evaluate("window.sameLoad = true")
    card = alice.submit("A friendly dragon that waters its flowers")
    wait_status(card, "completed")
    image = card.locator("img")
    expect(image).to_be_visible()
    alice.page.wait_for_function("(image) => image.naturalWidth > 0", arg=image.element_handle())
    expect(image).to_have_attribute("alt", "A friendly dragon that waters its flowers")
    assert alice.page.evaluate("window.sameLoad")
    dragons = alice.page.locator(".card", has_text="A friendly dragon")
    before = dragons.count()
    card.get_by_role("button", name="New variation").click()
    expect(dragons).to_have_count(before + 1, timeout=PATIENCE)
    wait_status(alice.page.locator(".card").first, "completed")
    seeds = alice.house.rows("SELECT metadata FROM generation_requests ORDER BY id DESC LIMIT 2")
    assert "seed" in seeds[0]["metadata"]
    assert "seed" not in seeds[1]["metadata"]


def test_a_batch_is_submitted_and_watched_as_one(alice: Visitor) -> None:
    alice.wait_loaded()
    batches = "SELECT count(*) AS n FROM generation_batches"
    before = alice.house.rows(batches)[0]["n"]
    alice.page.get_by_label("Batch").check()
    alice.page.locator("#prompt").fill("A sheep on a green hill\n\n  A goose beside a pond  \nA hen with five chicks")
    expect(alice.page.locator("#submit")).to_have_text("Generate 3 images")
    alice.page.locator("#submit").click()
    for prompt in ("A sheep on a green hill", "A goose beside a pond", "A hen with five chicks"):
        wait_status(alice.card(prompt), "completed")
    assert alice.house.rows(batches)[0]["n"] == before + 1


def test_one_that_runs_is_cancelled_and_tried_again(alice: Visitor) -> None:
    alice.wait_loaded()
    alice.house.provider.script(default="hold=1")
    card = alice.submit("A castle that takes its time", provider="openai")
    wait_status(card, "in-progress")
    alice.house.wait_for_active_calls(1)
    card.get_by_role("button", name="Cancel").click()
    wait_status(card, "cancelled")
    wait_until(lambda: alice.house.provider.stats().active == 0, what="the end of the call")
    alice.house.provider.script(default="")
    card.get_by_role("button", name="Retry").click()
    wait_status(card, "completed")
    expect(card.locator("img")).to_be_visible()


def test_a_failure_is_told_in_words_with_what_to_do(alice: Visitor) -> None:
    alice.wait_loaded()
    alice.house.provider.script(default="moderation=input")
    card = alice.submit("An image that the provider refuses", provider="openai")
    wait_status(card, "failed")
    expect(card.locator(".error")).to_contain_text("safety system")
    expect(card.locator(".error")).to_contain_text("Rephrase the prompt")
    alice.house.provider.script(default="")
    card.get_by_role("button", name="Retry").click()
    wait_status(card, "completed")


def test_an_error_is_shown_at_its_field(alice: Visitor) -> None:
    alice.wait_loaded()
    page = alice.page
    page.locator("#prompt").fill("Too short")
    page.locator("#submit").click()
    expect(page.locator("#prompt-error")).to_have_text("At least 10 characters.")
    expect(page.locator("#prompt")).to_be_focused()
    page.locator("#prompt").fill("Something that is long enough")
    page.locator("#more summary").click()
    page.locator("#seed").fill("-5")
    page.locator("#submit").click()
    expect(page.locator("#seed")).to_have_attribute("aria-invalid", "true", timeout=PATIENCE)
    expect(page.locator("#seed-error")).not_to_be_empty()
    expect(page.locator("#prompt")).to_have_value("Something that is long enough")


def test_html_in_a_prompt_is_shown_as_text(alice: Visitor) -> None:
    alice.wait_loaded()
    card = alice.submit(HTML)
    wait_status(card, "completed")
    expect(card.locator(".prompt")).to_have_text(HTML)
    card.locator(".frame").click()
    expect(alice.page.get_by_role("heading", level=1)).to_have_text(HTML)
    assert alice.page.evaluate("window.hurt") is None


def test_the_list_is_filtered_and_has_no_end_until_there_is_one(visit: Visit) -> None:
    dora = visit("dora")
    expect(dora.page.get_by_role("heading", name="No images yet")).to_be_visible()
    with dora.house.stack.client("dora") as client:
        quick = {"type": "cover", "projectId": "Many", "metadata": {"provider": "openai"}}
        batch = [quick | {"prompt": f"The cover of book number {number}"} for number in range(25)]
        client.post("/batch", json={"requests": batch}).raise_for_status()
    dora.submit_by_api("A background of another project", name="dora", projectId="Another")
    dora.studio()
    cards = dora.page.locator(".card")
    expect(cards).to_have_count(24)
    dora.page.keyboard.press("End")
    expect(cards).to_have_count(26, timeout=PATIENCE)
    expect(dora.page.locator("#the-end")).to_be_visible()
    dora.page.locator("#filter [name=projectId]").fill("Another")
    expect(cards).to_have_count(1, timeout=PATIENCE)
    expect(dora.page).to_have_url(re.compile("projectId=Another"))
    dora.page.reload()
    dora.wait_loaded()
    expect(cards).to_have_count(1)
    dora.page.locator("#filter [name=status]").select_option("cancelled")
    expect(dora.page.get_by_role("heading", name="No matches")).to_be_visible(timeout=PATIENCE)
    dora.page.get_by_role("button", name="Clear filters").click()
    expect(cards).to_have_count(24, timeout=PATIENCE)


def test_everything_can_be_done_with_the_keyboard_alone(alice: Visitor) -> None:
    alice.wait_loaded()
    keys = alice.page.keyboard
    keys.press("Tab")
    expect(alice.page.get_by_role("link", name="Skip to content")).to_be_focused()
    keys.press("Enter")
    keys.press("Tab")
    expect(alice.page.locator("[name=mode][value=one]")).to_be_focused()
    keys.press("Tab")
    keys.press("ArrowRight")
    expect(alice.page.locator("[name=type][value=cover]")).to_be_checked()
    keys.press("Tab")
    keys.type("A lighthouse keeper and a seal")
    keys.press("Tab")
    keys.type("Salt and light")
    keys.press("Control+Enter")
    card = alice.card("A lighthouse keeper")
    wait_status(card, "completed")
    expect(alice.page.locator("#prompt")).to_be_focused()
    card.locator(".frame").focus()
    keys.press("Enter")
    alice.page.wait_for_url("**/requests/vga_*")
    alice.page.locator("#variation").focus()
    before = alice.page.url
    keys.press("Enter")
    alice.page.wait_for_url(lambda url: url != before and "/requests/vga_" in url)
    focus = alice.page.evaluate("getComputedStyle(document.querySelector('.breadcrumb a')).outlineStyle")
    assert focus == "none"
    keys.press("Tab")
    outlined = "getComputedStyle(document.activeElement).outlineStyle"
    assert alice.page.evaluate(outlined) == "solid"
