"""The page of a request that has previews."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.visitor import PATIENCE, Visitor
from tests.faults.house import House

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
