"""The page of a request that has previews."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.browser.visitor import PATIENCE, Visitor
from tests.faults.house import House
from tests.support.stack import wait_until

pytestmark = pytest.mark.usefixtures("calm")

PROMPT = "An otter that paints a fence"


def test_a_request_shows_its_newest_preview_and_then_its_image(alice: Visitor, house: House, tmp_path: Path) -> None:
    house.provider.script(default="stream=steps")
    request_id = alice.submit_by_api(PROMPT, metadata={"provider": "openai", "previews": 2})
    page = alice.page
    page.goto(f"/requests/{request_id}")
    alice.wait_live()
    preview = page.locator("#image img.preview")
    preview.wait_for()
    first = preview.get_attribute("src")
    page.wait_for_function("document.querySelector('#image img.preview')?.naturalWidth > 0")
    page.screenshot(path=str(tmp_path / "preview.png"))
    house.provider.release()
    expect(preview).not_to_have_attribute("src", first or "", timeout=PATIENCE)
    house.provider.release()
    page.locator("#image a img").wait_for()
    assert preview.count() == 0
    assert alice.page.locator("#download").count() == 1


def test_a_preview_between_page_and_subscription_is_shown(alice: Visitor, house: House) -> None:
    house.provider.script(default="hold;stream=steps")
    request_id = alice.submit_by_api(PROMPT, metadata={"provider": "openai", "previews": 2})
    house.wait_for_active_calls(1)

    def connect(socket: WebSocketRoute) -> None:
        house.provider.release()
        preview = f"SELECT FROM generation_attempts WHERE request_id = '{request_id}' AND preview <> ''"
        wait_until(lambda: house.rows(preview))
        socket.connect_to_server()

    alice.page.route_web_socket("**", connect)
    alice.page.goto(f"/requests/{request_id}")
    expect(alice.page.locator("#image img.preview")).to_be_visible(timeout=PATIENCE)

    def is_completed() -> bool:
        house.provider.release()
        return house.status(request_id) == "completed"

    wait_until(is_completed)
