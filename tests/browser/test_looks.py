"""How the pages look and whether they are accessible: in both themes, on a telephone and on a desk.

With ``SCREENSHOTS`` they are kept in that folder; ``make screenshots`` writes those of the README.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser import scene
from tests.browser.conftest import Visit
from tests.browser.visitor import PATIENCE, Visitor
from tests.faults.house import House
from tests.support.length import FULL

WIDTHS = {360: 780, 1440: 900}
#: Each width and each theme once; the two others take as long again.
_LOOKS = pytest.mark.parametrize(
    ("width", "theme"),
    [
        pytest.param(360, "dark", marks=pytest.mark.long),
        (1440, "light"),
        *([(360, "light"), (1440, "dark")] if FULL or os.environ.get("SCREENSHOTS") else []),
    ],
)
#: Of the staff's pages, those of which there are screenshots.
_KEPT = {"today", "requests", "request"}
_LOADED = """() => [...document.images].every((image) =>
  image.complete || image.getBoundingClientRect().top > innerHeight || !image.offsetParent)"""


@pytest.fixture(scope="module")
def shown(house: House) -> str:
    """Something to look at; the id of one request of it."""
    return scene.set_up(house)


def assert_usable(page: Page) -> None:
    """Nothing sticks out at the side, and axe finds nothing serious."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "wider than the window"
    found = Axe().run(page).response["violations"]
    grave = [
        (violation["id"], [(node["target"], node["failureSummary"]) for node in violation["nodes"]])
        for violation in found
        if violation["impact"] in {"serious", "critical"}
    ]
    assert grave == []


def keep(page: Page, name: str, *, whole: bool = False) -> None:
    """The window, or the ``whole`` page, as a file where that is wanted, with few colors, since it is committed."""
    if folder := os.environ.get("SCREENSHOTS"):
        taken = page.screenshot(animations="disabled", caret="hide", full_page=whole)
        image = Image.open(io.BytesIO(taken)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        image.save(Path(folder) / f"{name}.png", optimize=True)


def is_in_view(page: Page, selector: str) -> bool:
    """Whether the middle of the element is not covered."""
    middle = """(element) => {
      const {left, top, width, height} = element.getBoundingClientRect();
      return document.elementFromPoint(left + width / 2, top + height / 2) === element;
    }"""
    return bool(page.locator(selector).evaluate(middle))


def background(page: Page) -> int:
    """How bright the page is, from 0 to 255."""
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return int(color.partition("(")[2].partition(",")[0])


@_LOOKS
def test_every_page_is_usable(visit: Visit, shown: str, width: int, theme: str) -> None:
    look = {"viewport": {"width": width, "height": WIDTHS[width]}, "color_scheme": theme}
    alice = visit("alice", **look)
    alice.wait_loaded()
    assert (background(alice.page) > 128) == (theme == "light")
    expect(alice.page.locator(".card")).to_have_count(11)
    if width < 600:
        assert_usable(alice.page)
        alice.page.locator(".gallery").evaluate("(gallery) => gallery.scrollIntoView()")
    alice.page.wait_for_function(_LOADED)
    assert_usable(alice.page)
    keep(alice.page, f"studio-{theme}-{width}")
    alice.page.goto(f"/requests/{shown}")
    alice.wait_live()
    alice.page.wait_for_function(_LOADED)
    assert_usable(alice.page)
    keep(alice.page, f"request-{theme}-{width}", whole=True)
    alice.page.goto("/keys")
    expect(alice.page.locator("#keys .title")).to_have_count(3)
    assert_usable(alice.page)
    keep(alice.page, f"keys-{theme}-{width}")
    alice.assert_no_fault()
    bob = visit("bob", **look)
    bob.page.goto("/queue")
    bob.wait_live()
    expect(bob.page.locator("#running tbody tr")).to_have_count(scene.PLACES)
    assert_usable(bob.page)
    keep(bob.page, f"queue-{theme}-{width}")


@_LOOKS
def test_uploads_and_references_are_usable(visit: Visit, shown: str, width: int, theme: str) -> None:
    look = {"viewport": {"width": width, "height": WIDTHS[width]}, "color_scheme": theme}
    page = visit("charlie", **look).page
    page.goto("/uploads")
    expect(page.locator("#uploads-state")).to_contain_text("No uploads yet")
    page.locator("#files").set_input_files({"name": "notes.png", "mimeType": "image/png", "buffer": b"no image"})
    expect(page.locator("#transfers")).to_contain_text("neither PNG")
    assert_usable(page)
    alice = visit("alice", **look)
    page = alice.page
    page.goto("/uploads")
    expect(page.locator("#uploads .tile")).to_have_count(4)
    page.wait_for_function(_LOADED)
    assert_usable(page)
    keep(page, f"uploads-{theme}-{width}")
    page.get_by_role("button", name="Delete").first.click()
    assert_usable(page)
    page.keyboard.press("Escape")
    alice.studio(f"?editOf={shown}")
    page.locator("#characters button").click()
    page.get_by_role("button", name="Add reference").click()
    expect(page.locator("#picker-images .tile")).to_have_count(9)
    page.wait_for_function(_LOADED)
    assert_usable(page)
    page.get_by_role("radio", name="Uploads").check()
    page.locator("#from-uploads").get_by_role("button", name="Add").first.click()
    page.wait_for_function(_LOADED)
    assert_usable(page)
    page.get_by_role("button", name="Done").click()
    expect(page.locator("#reference-list > li")).to_have_count(2)
    page.locator("#prompt").fill("Dot waters the flowers")
    if width < 600:
        page.locator("#references").evaluate("(area) => area.scrollIntoView({block: 'center'})")
    else:
        page.locator("#references").scroll_into_view_if_needed()
    page.wait_for_function(_LOADED)
    assert_usable(page)
    keep(page, f"references-{theme}-{width}")


@_LOOKS
def test_the_choice_among_variations_is_usable(visit: Visit, house: House, shown: str, width: int, theme: str) -> None:
    page = visit("charlie", viewport={"width": width, "height": WIDTHS[width]}, color_scheme=theme).page
    [row] = house.rows("SELECT id FROM generation_requests WHERE approval = 'approved'")
    page.goto(f"/requests/{row['id']}")
    expect(page.locator("#variations img")).to_have_count(4)
    page.wait_for_function(_LOADED)
    assert_usable(page)
    page.locator("#variations").scroll_into_view_if_needed()
    page.locator("#variations").evaluate("(part) => part.scrollIntoView()")
    keep(page, f"variations-{theme}-{width}")
    page.goto("/")
    expect(page.locator(".card .approval:visible")).to_have_count(2)
    assert_usable(page)


@_LOOKS
def test_the_dialogs_of_keys_are_usable(visit: Visit, shown: str, width: int, theme: str) -> None:
    page = visit("charlie", viewport={"width": width, "height": WIDTHS[width]}, color_scheme=theme).page
    page.goto("/keys")
    expect(page.locator("#state")).to_contain_text("No API keys yet")
    assert_usable(page)
    page.get_by_role("button", name="New key").click()
    page.locator("#limits summary").click()
    page.locator("#rate").fill("many")
    page.locator("#save").click()
    page.locator("#name").fill("Importer")
    page.locator("#save").click()
    expect(page.locator("#rate-error")).to_be_visible()
    expect(page.locator("#rate")).to_be_focused()
    assert_usable(page)
    assert is_in_view(page, "#rate"), "the buttons cover the field"
    page.locator("#rate").fill("20/m")
    page.locator("#save").click()
    expect(page.locator("#secret-value")).to_contain_text("vgsk_")
    assert_usable(page)
    for _ in range(2):
        page.locator("#secret-done").click()
    for action, dialog in (("Rotate", "#rotation"), ("Revoke", "#revocation")):
        page.get_by_role("button", name=action, exact=True).click()
        expect(page.locator(dialog)).to_be_visible()
        assert_usable(page)
        page.keyboard.press("Escape")
    page.get_by_role("button", name="Revoke", exact=True).click()
    page.locator("#revocation .danger").click()
    expect(page.locator("#state")).to_contain_text("No API keys yet")


@_LOOKS
def test_the_pages_of_webhooks_are_usable(visit: Visit, shown: str, width: int, theme: str) -> None:
    look = {"viewport": {"width": width, "height": WIDTHS[width]}, "color_scheme": theme}
    page = visit("charlie", **look).page
    for address in ("/webhooks", "/webhooks/calls", "/webhooks/vgw_1700000000000000_000000000000000000"):
        page.goto(address)
        assert_usable(page)
    page = visit("alice", **look).page
    page.goto("/webhooks")
    expect(page.locator(".webhook")).to_have_count(3)
    assert_usable(page)
    keep(page, f"webhooks-{theme}-{width}")
    page.get_by_role("button", name="New webhook").click()
    page.locator("#save").click()
    expect(page.locator("#url-error")).to_be_visible()
    assert_usable(page)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Show the secret").click()
    expect(page.locator("#secret-value")).to_contain_text("whsec_")
    assert_usable(page)
    page.keyboard.press("Escape")
    page.get_by_role("link", name="https://shop.example.org/webhooks/images").click()
    expect(page.locator(".delivery")).to_have_count(6)
    page.locator(".delivery summary").first.click()
    assert_usable(page)
    page.evaluate("scrollTo(0, 0)")
    keep(page, f"webhook-{theme}-{width}", whole=True)
    for name in ("Rotate the secret", "Disable", "Delete", "Send a range again"):
        page.get_by_role("button", name=name).click()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert_usable(page)
        page.keyboard.press("Escape")


@_LOOKS
def test_the_pages_of_the_staff_are_usable(visit: Visit, house: House, shown: str, width: int, theme: str) -> None:
    bob = visit("bob", viewport={"width": width, "height": WIDTHS[width]}, color_scheme=theme)
    requests, keys = "/admin/generation/generationrequest/", "/admin/generation/apikey/"
    webhooks, deliveries = "/admin/generation/webhookendpoint/", "/admin/generation/webhookdelivery/"
    [webhook] = house.rows("SELECT id FROM generation_webhook_endpoints WHERE NOT enabled")
    [delivery] = house.rows("SELECT id FROM generation_webhook_deliveries WHERE state = 'failed'")
    [key] = house.rows("SELECT id FROM generation_api_keys WHERE name = 'Bookshop importer' AND revoked_at IS NULL")
    for name, address in {
        "today": "/admin/",
        "requests": requests,
        "none": f"{requests}?owner=unknown",
        "request": f"{requests}{shown}/change/",
        "act": f"{requests}act/?action=retry&ids={shown}",
        "pause": "/admin/generation/pause/",
        "refused": f"{requests}?unknown=1",
        "keys": keys,
        "key": f"{keys}{key['id']}/change/",
        "revoke": f"{keys}revoke/?ids={key['id']}",
        "webhooks": webhooks,
        "webhook": f"{webhooks}{webhook['id']}/change/",
        "deliveries": deliveries,
        "delivery": f"{deliveries}{delivery['id']}/change/",
    }.items():
        bob.page.goto(address)
        bob.page.wait_for_function(_LOADED)
        assert_usable(bob.page)
        if name in _KEPT:
            keep(bob.page, f"admin-{name}-{theme}-{width}")


@pytest.fixture
def root(house: House, visit: Visit) -> Iterator[Visit]:
    """Open a browser as bob, who is a superuser meanwhile."""
    house.execute("UPDATE auth_user SET is_superuser = true WHERE username = 'bob'")
    yield visit
    house.execute("UPDATE auth_user SET is_superuser = false WHERE username = 'bob'")


@_LOOKS
def test_the_pages_that_deactivate_users_are_usable(root: Visit, shown: str, width: int, theme: str) -> None:
    page = root("bob", viewport={"width": width, "height": WIDTHS[width]}, color_scheme=theme).page
    page.goto("/admin/auth/user/?q=alice")
    alice = page.locator("[name=_selected_action]").first.get_attribute("value")
    page.goto(f"/admin/auth/user/{alice}/deactivate/")
    expect(page.get_by_role("heading", name="Deactivate alice")).to_be_visible()
    expect(page.get_by_label("Cancel requests that are queued or in progress")).not_to_be_checked()
    assert_usable(page)
    page.goto(f"/admin/auth/user/{alice}/delete/")
    expect(page.get_by_role("link", name="Deactivate alice instead")).to_be_visible()
    assert_usable(page)


def test_rarely_seen_pages_are_usable(visit: Visit, shown: str) -> None:
    stranger = visit(None, color_scheme="dark")
    stranger.sign_in("alice", "wrong")
    expect(stranger.page.get_by_role("alert")).to_be_visible()
    assert_usable(stranger.page)
    alice: Visitor = visit("alice", color_scheme="dark")
    alice.wait_loaded()
    alice.page.locator("#more summary").click()
    alice.page.get_by_label("Batch").check()
    alice.page.locator("#prompt").fill("short")
    alice.page.locator("#submit").click()
    assert_usable(alice.page)
    alice.page.locator(".card[data-status=failed] .frame").click()
    expect(alice.page.locator("#facts .problem")).to_be_visible(timeout=PATIENCE)
    assert_usable(alice.page)
    alice.page.goto("/requests/vga_1700000000000000_000000000000000000")
    assert_usable(alice.page)
    alice.page.goto("/queue")
    expect(alice.page.get_by_role("heading", name="This page is for staff only")).to_be_visible()
    assert_usable(alice.page)
