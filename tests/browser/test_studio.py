"""The Studio, as people use it."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.visitor import Visitor, wait_status


def test_what_is_submitted_is_seen_completed_without_loading_the_page_again(alice: Visitor) -> None:
    alice.wait_loaded()
    alice.page.evaluate("window.sameLoad = true")
    card = alice.submit("A friendly dragon playing in a garden")
    wait_status(card, "completed")
    image = card.locator("img")
    expect(image).to_be_visible()
    alice.page.wait_for_function("(image) => image.naturalWidth > 0", arg=image.element_handle())
    assert alice.page.evaluate("window.sameLoad")
    alice.page.screenshot(path="/tmp/shot1.png", full_page=True)
