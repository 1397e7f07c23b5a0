"""The pages of a request and of the queue."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.visitor import PATIENCE, Visitor

pytestmark = pytest.mark.usefixtures("calm")


def test_the_page_of_a_request_follows_it_to_its_image(alice: Visitor) -> None:
    alice.house.provider.script(default="hold=1")
    request_id = alice.submit_by_api("A garden seen from its gate", metadata={"provider": "openai"})
    alice.page.goto(f"/requests/{request_id}")
    alice.wait_live()
    badge = alice.page.locator("#facts .badge")
    expect(badge).to_have_text("In progress", timeout=PATIENCE)
    alice.house.wait_for_active_calls(1)
    alice.page.locator("#cancel").click()
    expect(badge).to_have_text("Cancelled", timeout=PATIENCE)
    alice.house.provider.script(default="")
    alice.page.locator("#retry").click()
    expect(badge).to_have_text("Completed", timeout=PATIENCE)
    image = alice.page.locator("#image img")
    alice.page.wait_for_function("(image) => image.naturalWidth > 0", arg=image.element_handle())
    steps = alice.page.locator(".timeline h3")
    expect(steps).to_have_text(
        [
            "Submitted by alice",
            "Started",
            "Cancelled by alice",
            "Retried manually by alice",
            "Started",
            "Image stored",
        ]
    )
    expect(alice.page.locator(".attempt").last).to_contain_text("openai")
    expect(alice.page.locator(".attempt").last).to_contain_text("cost: $")
    with alice.page.expect_download() as download:
        alice.page.locator("#download").click()
    assert download.value.suggested_filename == f"{request_id}.png"


def test_the_page_of_a_failure_says_what_to_do(alice: Visitor) -> None:
    alice.house.provider.script(default="moderation=input")
    request_id = alice.submit_by_api("This one must not be drawn", metadata={"provider": "openai"})
    alice.house.wait_for(request_id, "failed")
    alice.page.goto(f"/requests/{request_id}")
    problem = alice.page.locator("#facts .problem")
    expect(problem).to_contain_text("The provider's safety system refused the prompt")
    expect(problem).to_contain_text("What to do: Rephrase the prompt")


def test_the_queue_moves_by_itself(visit: Visit) -> None:
    bob = visit("bob")
    bob.page.get_by_role("link", name="Queue").click()
    bob.wait_live()
    expect(bob.page.locator("#processes tbody tr")).to_have_count(2)
    bob.house.provider.script(default="hold=1")
    request_id = bob.submit_by_api("This one has to wait a while", metadata={"provider": "openai"})
    running = bob.page.locator("#running")
    expect(running).to_contain_text("This one has to wait a while", timeout=PATIENCE)
    expect(running).to_contain_text("openai")
    bob.page.locator("#by-hour-table summary").click()
    bob.house.provider.script(default="")
    bob.house.provider.release()
    bob.house.wait_for(request_id, "completed")
    expect(running).to_contain_text("No requests are running", timeout=PATIENCE)
    expect(bob.page.locator("#by-hour-table")).to_have_attribute("open", "")
    bob.page.context.set_offline(offline=True)
    expect(bob.page.locator("#notice")).to_contain_text("cannot be reached", timeout=PATIENCE)
    expect(bob.page.locator("#connection")).to_have_text("Offline")
    bob.page.context.set_offline(offline=False)
    expect(bob.page.locator("#notice")).to_be_hidden(timeout=PATIENCE)
