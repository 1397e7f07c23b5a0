"""Several images of one prompt: they are submitted together, shown side by side, and one is chosen."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.visitor import PATIENCE, Visitor, wait_status

pytestmark = pytest.mark.usefixtures("calm")


def test_one_of_four_images_is_chosen_with_the_keyboard(alice: Visitor) -> None:
    alice.wait_loaded()
    page, keys = alice.page, alice.page.keyboard
    page.locator("[name=variations][value='1']").focus()
    keys.press("ArrowRight")
    keys.press("ArrowRight")
    expect(page.locator("#submit")).to_have_text("Generate 4 images")
    card = alice.submit("A tortoise with a lantern in a garden")
    cards = page.locator(".card", has_text="A tortoise with a lantern")
    expect(cards).to_have_count(4)
    for index in range(4):
        wait_status(cards.nth(index), "completed")
    card.locator(".frame").click()
    shown = page.locator("#variations li")
    expect(shown).to_have_count(4)
    expect(page.locator("#variations img")).to_have_count(4, timeout=PATIENCE)
    sources = {image.get_attribute("src") for image in page.locator("#variations img").all()}
    assert len(sources) == 4
    page.locator("#reject-2").focus()
    keys.press("Enter")
    expect(page.locator("#reject-2")).to_have_attribute("aria-pressed", "true")
    page.locator("#approve-1").focus()
    keys.press("Enter")
    expect(page.locator("#approve-1")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#approve-1")).to_be_focused()
    expect(page.locator("#announcer")).to_have_text("Approved.")
    keys.press("Enter")
    expect(page.locator("#approve-1")).to_have_attribute("aria-pressed", "false")
    page.locator("#approve-this").click()
    expect(page.locator("#approve-0")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#facts .approval")).to_have_text("Approved")
    alice.studio("?approval=approved")
    expect(cards).to_have_count(1, timeout=PATIENCE)
    expect(cards.locator(".approval")).to_have_text("Approved")
    expect(cards.locator(".frame")).to_have_attribute("aria-label", re.compile("Approved, details$"))


def test_approving_another_image_of_a_page_takes_the_first_back(alice: Visitor) -> None:
    page = alice.page
    request_id = alice.submit_by_api("A heron on one leg in a pond", variations=2, projectId="Ponds", pageId="4")
    page.goto(f"/requests/{request_id}")
    alice.wait_live()
    expect(page.locator("#variations img")).to_have_count(2, timeout=PATIENCE)
    for place, other in (("0", "1"), ("1", "0")):
        page.locator(f"#approve-{place}").click()
        expect(page.locator(f"#approve-{place}")).to_have_attribute("aria-pressed", "true")
        expect(page.locator(f"#approve-{other}")).to_have_attribute("aria-pressed", "false")
