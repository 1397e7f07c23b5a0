"""The owner of a queued request changes its priority on its page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from tests.browser.visitor import Visitor

pytestmark = pytest.mark.usefixtures("calm")


def test_the_priority_of_a_request_for_later_is_changed_with_the_keyboard(alice: Visitor) -> None:
    page = alice.page
    later = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    request_id = alice.submit_by_api("A mole with a map under a meadow", notBefore=later)
    page.goto(f"/requests/{request_id}")
    alice.wait_live()
    expect(page.locator("#facts dl")).to_contain_text("Not before")
    choice = page.locator("#priority")
    expect(choice).to_have_value("normal")
    choice.focus()
    page.keyboard.type("U")
    expect(page.locator("#announcer")).to_have_text("Priority: Urgent.")
    expect(choice).to_have_value("urgent")
    expect(choice).to_be_focused()
    page.reload()
    expect(choice).to_have_value("urgent")


def test_a_request_that_has_ended_has_no_choice_of_priority(alice: Visitor) -> None:
    later = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    request_id = alice.submit_by_api("A mole with a lamp under a meadow", notBefore=later)
    alice.page.goto(f"/requests/{request_id}")
    alice.wait_live()
    alice.page.locator("#cancel").click()
    expect(alice.page.locator("#facts .badge").first).to_have_text("Cancelled")
    expect(alice.page.locator("#priority")).to_have_count(0)
