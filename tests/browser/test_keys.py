"""The page of API keys."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Visit
from tests.browser.visitor import PATIENCE, Visitor
from tests.faults.house import House

SECRET = re.compile(r"vgsk_[0-9A-Za-z]{8}_[0-9A-Za-z]{46}")
_STORED = "() => JSON.stringify([{...localStorage}, {...sessionStorage}, history.state])"


@pytest.fixture
def clean(house: House) -> Iterator[None]:
    """End the keys of all users, before and after the test."""
    revoke = "UPDATE generation_api_keys SET revoked_at = now() WHERE revoked_at IS NULL"
    house.execute(revoke)
    yield
    house.execute(revoke)


pytestmark = pytest.mark.usefixtures("calm", "clean")


@pytest.fixture
def page(visit: Visit) -> Page:
    """Alice's page of keys, which may use the clipboard."""
    alice = visit("alice", permissions=["clipboard-read", "clipboard-write"])
    return open_keys(alice)


def open_keys(visitor: Visitor) -> Page:
    """Go to the page by its link and wait until it has loaded."""
    visitor.page.get_by_role("link", name="Keys").click()
    return wait_loaded(visitor.page)


def wait_loaded(page: Page) -> Page:
    expect(page.locator("#keys")).to_have_attribute("aria-busy", "false", timeout=PATIENCE)
    return page


def fill_new(page: Page, name: str) -> Locator:
    """Open the form of a new key and enter a name; return the dialog."""
    page.get_by_role("button", name="New key").click()
    editor = page.get_by_role("dialog", name="New key")
    editor.get_by_label("Name").fill(name)
    return editor


def make(page: Page, name: str = "Importer") -> str:
    """Make a key, copy its secret and close the dialog; return the secret."""
    fill_new(page, name).get_by_role("button", name="Make key").click()
    return take_secret(page, f"Your new key “{name}”")


def take_secret(page: Page, title: str) -> str:
    """Copy the secret that the dialog with this title shows, and close it."""
    dialog = page.get_by_role("dialog", name=title)
    expect(dialog).to_contain_text("It is not shown again")
    copy = dialog.get_by_role("button", name="Copy key")
    expect(copy).to_be_focused()
    copy.click()
    expect(dialog.get_by_role("status")).to_have_text("Copied.")
    secret = str(page.evaluate("navigator.clipboard.readText()"))
    assert SECRET.fullmatch(secret), "the clipboard has no key"
    expect(dialog.locator("#secret-value")).to_have_text(secret)
    dialog.get_by_role("button", name="Done").click()
    expect(dialog).to_be_hidden()
    wait_loaded(page)
    return secret


def assert_gone(page: Page, secret: str) -> None:
    """Nothing that outlives the dialog has the secret: no element, storage, history or address."""
    for text in (page.content(), page.evaluate(_STORED), page.url, json.dumps(page.context.storage_state())):
        assert secret not in text
        assert not SECRET.search(text)


def card(page: Page, name: str = "Importer") -> Locator:
    return page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=name, exact=True))


def press(page: Page, action: str, name: str = "Importer") -> Locator:
    """Press the button of a key; return the dialog that it opens."""
    card(page, name).get_by_role("button", name=action).click()
    return page.get_by_role("dialog")


def accepted(house: House, secret: str) -> bool:
    """Return whether the API takes the secret."""
    headers = {"Authorization": f"Bearer {secret}"}
    answer = httpx2.get(f"{house.stack.base_url}/api/visual-generation/requests", headers=headers)
    assert answer.status_code in {200, 401}, answer.text
    return answer.status_code == 200


def key_row(house: House, secret: str) -> dict[str, Any]:
    """Return the columns of the key."""
    [row] = house.rows("SELECT * FROM generation_api_keys WHERE id = %s", secret.split("_")[1])
    return row


def test_the_empty_page_says_what_a_key_is_for(page: Page) -> None:
    state = page.locator("#state")
    expect(state).to_contain_text("No API keys yet")
    expect(state).to_contain_text("Make one for each program")
    expect(page.get_by_role("button", name="New key")).to_have_count(1)


def test_a_key_is_made_and_its_secret_is_shown_once(page: Page, house: House) -> None:
    secret = make(page)
    expect(page.get_by_role("button", name="New key")).to_be_focused()
    assert_gone(page, secret)
    shown = card(page)
    expect(shown).to_contain_text(f"{secret[:13]}_…")
    expect(shown).to_contain_text("requests:read requests:write".replace(" ", ""))
    expect(shown.locator(".limits")).to_have_text("None")
    expect(shown.locator(".expires")).to_contain_text("in 90 days")
    expect(shown.locator(".used")).to_have_text("Never")
    assert accepted(house, secret)
    wait_loaded(page).reload()
    expect(shown.locator(".used")).to_have_text("just now from 127.0.0.1")
    assert_gone(page, secret)


def test_a_secret_is_gone_when_the_page_was_left(page: Page) -> None:
    fill_new(page, "Importer").get_by_role("button", name="Make key").click()
    value = page.locator("#secret-value")
    expect(value).to_have_text(SECRET)
    secret = value.inner_text()
    page.goto("/")
    assert_gone(page, secret)
    page.go_back()
    wait_loaded(page)
    expect(card(page)).to_be_visible()
    assert_gone(page, secret)
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize("how", ["Escape", "Done"])
def test_closing_before_a_copy_warns_once(page: Page, how: str) -> None:
    fill_new(page, "Importer").get_by_role("button", name="Make key").click()
    dialog = page.get_by_role("dialog", name="Your new key")
    expect(dialog.get_by_role("button", name="Copy key")).to_be_focused()
    done = dialog.get_by_role("button", name="Done")

    def close() -> None:
        if how == "Done":
            done.click()
        else:
            page.keyboard.press(how)

    close()
    expect(dialog.get_by_role("status")).to_contain_text("You have not copied the key yet")
    close()
    expect(dialog).to_be_hidden()
    expect(page.locator("#secret-value")).to_be_empty()


def test_a_rotation_keeps_the_old_secret_for_its_overlap(page: Page, house: House) -> None:
    first = make(page)
    dialog = press(page, "Rotate")
    expect(dialog.get_by_label("The current secret keeps working")).to_have_value("24")
    dialog.get_by_role("button", name="Rotate").click()
    second = take_secret(page, "The new secret of “Importer”")
    expect(card(page).get_by_role("button", name="Rotate")).to_be_focused()
    expect(card(page)).to_contain_text("Works until")
    assert_gone(page, second)
    assert (accepted(house, first), accepted(house, second)) == (True, True)
    dialog = press(page, "Rotate")
    expect(dialog).to_contain_text("The old secret of the last rotation still works. It stops at once.")
    dialog.get_by_label("The current secret keeps working").select_option("0")
    dialog.get_by_role("button", name="Rotate").click()
    third = take_secret(page, "The new secret of “Importer”")
    expect(card(page)).not_to_contain_text("Works until")
    assert [accepted(house, secret) for secret in (first, second, third)] == [False, False, True]


def test_a_revoked_key_leaves_the_list_and_is_refused(page: Page, house: House) -> None:
    kept, secret = make(page, "Plugin"), make(page)
    dialog = press(page, "Revoke")
    expect(dialog).to_contain_text("It was never used.")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(card(page).get_by_role("button", name="Revoke")).to_be_focused()
    press(page, "Revoke").get_by_role("button", name="Revoke").click()
    expect(card(page)).to_have_count(0)
    expect(page.locator("#announcer")).to_have_text("Revoked Importer.")
    expect(page.locator("#list-title")).to_be_focused()
    assert (accepted(house, secret), accepted(house, kept)) == (False, True)
    press(page, "Revoke", "Plugin").get_by_role("button", name="Revoke").click()
    expect(page.locator("#state")).to_contain_text("No API keys yet")


def test_limits_are_set_shown_and_cleared(page: Page, house: House) -> None:
    editor = fill_new(page, "Importer")
    editor.get_by_label("See the metrics of the service").check()
    editor.get_by_label("Expires").select_option("")
    editor.get_by_text("Limits", exact=True).click()
    editor.get_by_label("Daily budget").fill("2.50")
    editor.get_by_label("Request rate").fill("20/m")
    editor.get_by_label("Max. in progress").fill("3")
    editor.get_by_label("Highest priority").select_option("high")
    editor.get_by_label("gpt-image-2", exact=True).check()
    editor.get_by_label("Projects").fill("spring\n\n  winter, too ")
    editor.get_by_role("button", name="Make key").click()
    secret = take_secret(page, "Your new key “Importer”")
    limits = (
        "$2.50 a day · 20 requests a minute · 3 at once · priority up to high · gpt-image-2 · in spring, winter, too"
    )
    expect(card(page).locator(".limits")).to_have_text(limits)
    expect(card(page).locator(".expires")).to_have_text("Never")
    made = key_row(house, secret)
    assert made["scopes"] == ["requests:read", "requests:write", "metrics"]
    assert made["allowed_projects"] == ["spring", "winter, too"]
    assert (made["allowed_models"], made["expires_at"]) == (["gpt-image-2"], None)
    editor = press(page, "Edit")
    expect(editor.get_by_label("Max. in progress")).to_have_value("3")
    editor.get_by_label("Name").fill("Importer of spring")
    for label in ("Daily budget", "Request rate", "Max. in progress", "Projects"):
        editor.get_by_label(label).fill("")
    editor.get_by_label("Highest priority").select_option("")
    editor.get_by_label("gpt-image-2", exact=True).uncheck()
    editor.get_by_role("button", name="Save").click()
    changed = card(page, "Importer of spring")
    expect(changed.locator(".limits")).to_have_text("None")
    expect(changed.get_by_role("button", name="Edit")).to_be_focused()
    expect(page.locator("#announcer")).to_have_text("Saved Importer of spring.")


def test_an_edit_sends_only_what_was_changed(page: Page) -> None:
    make(page)
    editor = press(page, "Edit")
    editor.get_by_label("Name").fill("Plugin")
    with page.expect_request("**/keys/*") as sent:
        editor.get_by_role("button", name="Save").click()
    assert (sent.value.method, sent.value.post_data_json) == ("PATCH", {"name": "Plugin"})
    expect(card(page, "Plugin")).to_be_visible()
    sends: list[str] = []
    page.on("request", lambda request: sends.append(request.method))
    press(page, "Edit", "Plugin").get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert sends == []


def test_errors_are_shown_at_their_fields(page: Page) -> None:
    editor = fill_new(page, " ")
    for scope in ("requests:read", "requests:write"):
        editor.get_by_label(scope).uncheck()
    save = editor.get_by_role("button", name="Make key")
    save.click()
    expect(page.locator("#name-error")).to_have_text("Enter a name.")
    expect(page.locator("#scopes-error")).to_have_text("Choose at least one scope.")
    expect(editor.get_by_label("Name")).to_be_focused()
    editor.get_by_label("Name").fill("Importer")
    save.click()
    expect(editor.get_by_label("requests:read")).to_be_focused()
    editor.get_by_label("requests:read").check()
    editor.get_by_label("Expires").select_option("date")
    editor.get_by_label("Last day").fill("2020-01-31")
    limits = page.locator("#limits")
    limits.get_by_text("Limits", exact=True).click()
    limits.get_by_label("Request rate").fill("many")
    limits.get_by_label("Max. in progress").fill("0")
    limits.get_by_text("Limits", exact=True).click()
    save.click()
    for name in ("expiresAt", "rate", "maxActive"):
        expect(page.locator(f"#{name}-error")).not_to_be_empty()
        expect(page.locator(f"#{name}")).to_have_attribute("aria-invalid", "true")
    expect(limits).to_have_attribute("open", "")
    expect(editor.get_by_label("Last day")).to_be_focused()
    expect(page.locator("#name-error")).to_be_empty()


def test_a_lost_connection_keeps_the_form(page: Page) -> None:
    editor = fill_new(page, "Importer")
    page.context.set_offline(offline=True)
    editor.get_by_role("button", name="Make key").click()
    expect(editor.get_by_role("alert")).to_contain_text("The server cannot be reached")
    page.context.set_offline(offline=False)
    editor.get_by_role("button", name="Make key").click()
    take_secret(page, "Your new key “Importer”")


def test_keys_are_made_and_revoked_by_keyboard_alone(page: Page) -> None:
    page.get_by_role("button", name="New key").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#name")).to_be_focused()
    page.keyboard.type("Importer")
    page.keyboard.press("Enter")
    expect(page.locator("#secret-copy")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#secret-status")).to_have_text("Copied.")
    page.keyboard.press("Escape")
    wait_loaded(page)
    expect(page.locator("#make")).to_be_focused()
    for name in ("Edit", "Rotate", "Revoke"):
        page.keyboard.press("Tab")
        expect(card(page).get_by_role("button", name=name)).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#list-title")).to_be_focused()
    expect(page.locator("#state")).to_contain_text("No API keys yet")


def test_an_expired_key_is_marked(page: Page, house: House) -> None:
    secret = make(page)
    expect(card(page).locator(".badge")).to_be_hidden()
    for interval, badge in (("3 days", "Expires soon"), ("-1 hour", "Expired")):
        house.execute(
            "UPDATE generation_api_keys SET expires_at = now() + %s::interval WHERE id = %s",
            interval,
            secret.split("_")[1],
        )
        page.reload()
        expect(card(page).locator(".badge")).to_have_text(badge)
    dialog = press(page, "Edit")
    dialog.get_by_label("Expires").select_option("365")
    dialog.get_by_role("button", name="Save").click()
    expect(card(page).locator(".badge")).to_be_hidden()


def test_the_keys_of_other_users_never_appear(page: Page, visit: Visit) -> None:
    make(page)
    for name in ("charlie", "bob"):  # bob is staff
        other = open_keys(visit(name))
        expect(other.locator("#state")).to_contain_text("No API keys yet")
        expect(other.get_by_role("listitem")).to_have_count(0)


def test_the_command_that_the_page_shows_works(page: Page, house: House) -> None:
    secret = make(page)
    page.get_by_role("button", name="Copy the command").click()
    expect(page.locator("#announcer")).to_have_text("Copied.")
    command = ["sh", "-c", str(page.evaluate("navigator.clipboard.readText()"))]
    environment = os.environ | {"VGA_API_KEY": secret}
    done = subprocess.run(command, check=True, capture_output=True, timeout=60, env=environment)
    house.wait_for(json.loads(done.stdout)["requestId"], "completed")


def test_the_page_shows_the_address_for_openai_clients(page: Page, house: House) -> None:
    expect(page.locator("#openai-base")).to_have_text(f"http://127.0.0.1:{house.stack.realtime_port}/v1")
    page.get_by_role("button", name="Copy the address").click()
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#openai-base").inner_text()
