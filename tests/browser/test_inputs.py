"""Uploads, references and edits in the Studio."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import FilePayload, Locator, Page, expect

from tests.browser.conftest import Visit
from tests.browser.visitor import PATIENCE, Visitor, wait_status
from tests.faults.house import House
from tests.support.uploads import drawing, encoded

#: Drops a file on an element.
_DROP_FILE = """(element, [name, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
  for (const type of ["dragover", "drop"])
    element.dispatchEvent(new DragEvent(type, {dataTransfer: data, bubbles: true, cancelable: true}));
}"""


@pytest.fixture
def clean(house: House) -> Iterator[None]:
    """Remove the uploads of all users, before and after the test."""

    def remove() -> None:
        house.execute("UPDATE generation_references SET upload_id = NULL")
        house.execute("DELETE FROM generation_uploads")

    remove()
    yield
    house.wait_all_ended()
    remove()


pytestmark = pytest.mark.usefixtures("calm", "clean")


def png(name: str = "pip.png", color: str = "red", size: tuple[int, int] = (80, 64)) -> FilePayload:
    return {"name": name, "mimeType": "image/png", "buffer": encoded(drawing(size, color))}


def open_uploads(visitor: Visitor) -> Page:
    visitor.page.get_by_role("link", name="Uploads", exact=True).click()
    return wait_uploads(visitor.page)


def wait_uploads(page: Page) -> Page:
    expect(page.locator("#uploads")).to_have_attribute("aria-busy", "false", timeout=PATIENCE)
    return page


def tiles(page: Page) -> Locator:
    return page.locator("#uploads .tile")


def sheet(visitor: Visitor, project: str, prompt: str = "Pip the red fox with a green scarf") -> str:
    """A completed character sheet; its id."""
    request_id = visitor.submit_by_api(prompt, type="character-reference", projectId=project)
    visitor.house.wait_for(request_id, "completed")
    return request_id


def newest(house: House) -> dict[str, Any]:
    """The newest request with its images."""
    [row] = house.rows("SELECT id, inputs FROM generation_requests ORDER BY id DESC LIMIT 1")
    images = house.rows(
        "SELECT source_id, upload_id FROM generation_references WHERE request_id = %s ORDER BY position", row["id"]
    )
    return {
        "id": row["id"],
        "inputs": row["inputs"],
        "images": [(one["source_id"], one["upload_id"]) for one in images],
    }


def rows(page: Page) -> Locator:
    return page.locator("#reference-list > li")


# --- Uploads ----------------------------------------------------------------------------------------------------------


def test_an_image_is_uploaded_listed_and_deleted(alice: Visitor) -> None:
    page = open_uploads(alice)
    expect(page.get_by_role("heading", name="No uploads yet")).to_be_visible()
    page.locator("#files").set_input_files([png(), png("owl.png", "blue")])
    expect(tiles(page)).to_have_count(2, timeout=PATIENCE)
    expect(tiles(page).first).to_contain_text("owl.png")
    expect(tiles(page).first).to_contain_text("80 × 64")
    page.wait_for_function("document.querySelector('#uploads img').naturalWidth === 80")
    expect(page.locator("#transfers > li")).to_have_count(0)
    page.locator("#files").set_input_files(png("again.png"))
    expect(tiles(page).first).to_contain_text("pip.png", timeout=PATIENCE)
    expect(tiles(page)).to_have_count(2)
    page.reload()
    wait_uploads(page)
    for left in (1, 0):
        tiles(page).first.get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(tiles(page)).to_have_count(left, timeout=PATIENCE)
    expect(page.locator("#list-title")).to_be_focused()
    expect(page.get_by_role("heading", name="No uploads yet")).to_be_visible()


def test_a_file_that_is_not_accepted_is_explained(alice: Visitor, tmp_path: Path) -> None:
    page = open_uploads(alice)
    still = [drawing(color=color) for color in ("red", "blue")]
    files: dict[str, tuple[bytes, str]] = {
        "notes.png": (b"not an image", "neither PNG, JPEG nor WebP"),
        "large.png": (bytes(21 * 1024 * 1024), "larger than 20 MB"),
        "tiny.png": (encoded(drawing((10, 10))), "at least 64 pixels"),
        "dance.webp": (
            encoded(still[0], "WEBP", save_all=True, append_images=still[1:]),
            "Animations are not supported",
        ),
        "half.png": (encoded(drawing())[:-40], "it is cut off"),
    }
    for name, (content, words) in files.items():
        (tmp_path / name).write_bytes(content)
        page.locator("#files").set_input_files(tmp_path / name)
        line = page.locator("#transfers > li", has_text=name)
        expect(line).to_contain_text(words, timeout=PATIENCE)
    for name in files:
        page.locator("#transfers > li", has_text=name).get_by_role("button", name="Close").click()
    expect(page.locator("#transfers > li")).to_have_count(0)
    expect(tiles(page)).to_have_count(0)


def test_uploads_beyond_the_quota_are_explained(alice: Visitor, house: House) -> None:
    page = open_uploads(alice)
    page.locator("#files").set_input_files(png())
    expect(tiles(page)).to_have_count(1, timeout=PATIENCE)
    house.execute("UPDATE generation_uploads SET bytes = 1000000000")
    page.locator("#files").set_input_files(png("owl.png", "blue"))
    expect(page.locator("#transfers")).to_contain_text("Your uploads are full", timeout=PATIENCE)


def test_an_upload_in_use_says_why_it_stays(alice: Visitor, house: House) -> None:
    page = open_uploads(alice)
    page.locator("#drop").evaluate(_DROP_FILE, ["pip.png", [*png()["buffer"]]])
    expect(tiles(page)).to_have_count(1, timeout=PATIENCE)
    upload_id = tiles(page).get_attribute("data-id")
    house.provider.script(default="hold=1")
    options: dict[str, Any] = {"metadata": {"provider": "openai"}, "references": [{"uploadId": upload_id}]}
    alice.submit_by_api("A page that takes its time", **options)
    house.wait_for_active_calls(1)
    tiles(page).get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Delete").click()
    expect(dialog.get_by_role("alert")).to_contain_text("has not ended uses this image", timeout=PATIENCE)
    house.provider.script(default="")
    house.provider.release()
    house.wait_all_ended()
    dialog.get_by_role("button", name="Delete").click()
    expect(tiles(page)).to_have_count(0, timeout=PATIENCE)


def test_a_list_that_cannot_be_loaded_says_so(alice: Visitor) -> None:
    page = alice.page
    page.route("**/uploads?limit=*", lambda route: route.abort())
    open_uploads(alice)
    expect(page.get_by_role("heading", name="could not be loaded")).to_be_visible()
    page.unroute("**/uploads?limit=*")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name="No uploads yet")).to_be_visible(timeout=PATIENCE)


# --- References -------------------------------------------------------------------------------------------------------


def test_references_are_chosen_named_ordered_and_sent(alice: Visitor, house: House) -> None:
    fox = sheet(alice, "Book of Pip")
    owl = sheet(alice, "Book of Pip", "Ola is an owl with round glasses")
    sheet(alice, "Another book", "A snail with a striped house")
    alice.wait_loaded()
    page = alice.page
    page.locator("#more").evaluate("(more) => { more.open = true; }")
    page.locator("#projectId").fill("Book of Pip")
    page.get_by_role("button", name="Add reference").click()
    picker = page.get_by_role("dialog", name="Add references")
    images = picker.locator("#picker-images .tile")
    expect(images).to_have_count(2, timeout=PATIENCE)
    for prompt in ("Pip the red fox", "Ola is an owl"):
        images.filter(has_text=prompt).get_by_role("button", name="Add").click()
    picker.get_by_role("radio", name="Uploads").check()
    picker.locator("#files").set_input_files(png("style.png", "green"))
    picker.locator("#uploads .tile").get_by_role("button", name="Add").click()
    expect(picker.locator("#picker-count")).to_have_text("3 chosen")
    picker.get_by_role("button", name="Done").click()
    expect(page.locator("#add-reference")).to_be_focused()
    expect(rows(page)).to_have_count(3)
    expect(page.get_by_label("Name of reference 1 in the prompt")).to_have_value("Pip")
    expect(page.get_by_label("Name of reference 2 in the prompt")).to_have_value("Ola")
    page.get_by_label("Role of reference 3").select_option("style")
    page.get_by_role("button", name="Move up reference 3").press("Enter")
    expect(page.get_by_role("button", name="Move up reference 2")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Move down reference 1")).to_be_focused()
    page.get_by_label("Name of reference 2 in the prompt").fill("Pippa")
    page.locator("#onReferenceFailure").select_option("cancel")
    card = alice.submit("Pippa and Ola bake bread together", provider="openai")
    wait_status(card, "completed")
    expect(card).to_contain_text("3 references")
    sent = newest(house)
    [(_, upload), *requests] = sent["images"]
    assert upload.startswith("vgu_")
    assert requests == [(fox, None), (owl, None)]
    named = [(one["role"], one["name"]) for one in sent["inputs"]["images"]]
    assert named == [("style", ""), ("character", "Pippa"), ("character", "Ola")]
    assert sent["inputs"]["onFailure"] == "cancel"
    expect(rows(page)).to_have_count(3)  # for the next page of the book
    page.get_by_role("button", name="Remove reference 2").click()
    expect(page.get_by_role("button", name="Remove reference 2")).to_be_focused()
    expect(rows(page)).to_have_count(2)


def test_a_file_dropped_on_the_form_is_a_reference(alice: Visitor) -> None:
    alice.wait_loaded()
    area = alice.page.locator("#references")
    area.evaluate(_DROP_FILE, ["pip.png", [*png()["buffer"]]])
    expect(rows(alice.page)).to_have_count(1, timeout=PATIENCE)
    area.evaluate(_DROP_FILE, ["notes.png", [*b"not an image"]])
    expect(alice.page.locator("#references-error")).to_contain_text("notes.png: The file is neither", timeout=PATIENCE)
    expect(rows(alice.page)).to_have_count(1)


def test_an_error_of_a_reference_is_shown_at_it(alice: Visitor, house: House) -> None:
    alice.wait_loaded()
    page = alice.page
    for color in ("red", "blue"):
        page.locator("#references").evaluate(_DROP_FILE, [f"{color}.png", [*png(color=color)["buffer"]]])
        expect(rows(page).filter(has_text=color)).to_have_count(1, timeout=PATIENCE)
    house.execute("DELETE FROM generation_uploads WHERE name = 'blue.png'")
    page.locator("#prompt").fill("A page about something blue")
    page.locator("#submit").click()
    blue = rows(page).filter(has_text="blue")
    expect(blue.locator(".field-error")).to_have_text("There is no such image.", timeout=PATIENCE)
    expect(blue.locator("input")).to_be_focused()
    expect(rows(page).first.locator(".field-error")).to_be_empty()


def test_a_batch_sends_the_references_with_each_request(alice: Visitor, house: House) -> None:
    fox = sheet(alice, "Batch of Pip")
    alice.studio(f"?reference={fox}")
    page = alice.page
    expect(rows(page)).to_have_count(1, timeout=PATIENCE)
    page.get_by_label("Batch").check()
    page.locator("#prompt").fill("Pip flies a red kite\nPip sleeps under a tree")
    page.locator("#submit").click()
    for prompt in ("Pip flies a red kite", "Pip sleeps under a tree"):
        wait_status(alice.card(prompt), "completed")
    found = house.rows("SELECT count(*) AS n FROM generation_references WHERE source_id = %s", fox)
    assert found[0]["n"] == 2


def test_a_variation_has_the_same_references(alice: Visitor, house: House) -> None:
    fox = sheet(alice, "Variations of Pip")
    references = [{"requestId": fox, "name": "Pip"}]
    page_id = alice.submit_by_api("Pip is at the seaside", references=references)
    house.wait_for(page_id, "completed")
    alice.page.goto(f"/requests/{page_id}")
    alice.page.get_by_role("button", name="New variation").click()
    alice.page.wait_for_url(lambda url: page_id not in url and "/requests/vga_" in url)
    assert newest(house)["images"] == [(fox, None)]
    expect(alice.page.locator("#inputs")).to_contain_text("Pip the red fox")


# --- The shelf --------------------------------------------------------------------------------------------------------


def test_the_shelf_has_the_characters_of_the_project(alice: Visitor) -> None:
    fox = sheet(alice, "Shelf of Pip")
    alice.studio("?projectId=Shelf+of+Pip")
    page = alice.page
    characters = page.locator("#characters > li")
    expect(characters).to_have_count(1, timeout=PATIENCE)
    expect(characters).to_contain_text("Pip")
    characters.drag_to(page.locator("#references"))
    expect(rows(page)).to_have_attribute("data-id", fox)
    page.get_by_role("button", name="Remove reference 1").click()
    expect(rows(page)).to_have_count(0)
    characters.get_by_role("button").press("Enter")
    expect(rows(page)).to_have_count(1)
    page.get_by_label("Character", exact=True).check()
    page.locator("#more").evaluate("(more) => { more.open = true; }")
    page.locator("#projectId").fill("Shelf of Pip")
    page.get_by_role("button", name="Remove reference 1").click()
    wait_status(alice.submit("Ola is an owl with round glasses"), "completed")
    expect(characters).to_have_count(2, timeout=PATIENCE)
    expect(characters.first).to_contain_text("Ola")
    page.locator("#projectId").fill("A project without any")
    expect(page.locator("#shelf-words")).to_contain_text("no characters yet", timeout=PATIENCE)


def test_the_shelf_prefers_approved_characters(alice: Visitor) -> None:
    chosen = sheet(alice, "Approved Pip")
    sheet(alice, "Approved Pip")
    alice.studio("?projectId=Approved+Pip")
    characters = alice.page.locator("#characters > li")
    expect(characters).to_have_count(2, timeout=PATIENCE)
    with alice.house.stack.client("alice") as client:
        client.patch(f"/requests/{chosen}", json={"approval": "approved"}).raise_for_status()
    alice.page.reload()
    expect(characters).to_have_count(1, timeout=PATIENCE)
    expect(characters).to_have_attribute("data-id", chosen)


def test_a_card_is_dragged_or_added_to_the_references(alice: Visitor) -> None:
    alice.wait_loaded()
    page = alice.page
    card = alice.submit("A style with thick crayon lines")
    wait_status(card, "completed")
    card.locator(".frame").drag_to(page.locator("#references"))
    expect(rows(page)).to_have_count(1)
    page.get_by_role("button", name="Remove reference 1").click()
    card.get_by_role("button", name="Use as reference").click()
    expect(rows(page)).to_contain_text("A style with thick crayon lines")


# --- Editing ----------------------------------------------------------------------------------------------------------


def test_an_image_is_edited_with_a_mask(alice: Visitor, house: House) -> None:
    fox = sheet(alice, "Edits of Pip")
    page = alice.page
    page.goto(f"/requests/{fox}")
    page.get_by_role("link", name="Edit this image").click()
    alice.wait_loaded()
    expect(page.locator("#edit-label")).to_have_text("Pip the red fox with a green scarf", timeout=PATIENCE)
    mask = page.locator("#mask")
    mask.set_input_files({"name": "mask.png", "mimeType": "image/png", "buffer": encoded(Image.new("RGBA", (70, 70)))})
    expect(page.locator("#mask-name")).to_have_text("mask.png", timeout=PATIENCE)
    page.locator("#more").evaluate("(more) => { more.open = true; }")
    page.locator("[name=provider]").select_option("openai")
    page.locator("#prompt").fill("Give the fox a blue scarf instead")
    page.locator("#submit").click()
    expect(page.locator("#mask-error")).to_contain_text("must have the size of the image", timeout=PATIENCE)
    [result] = house.rows("SELECT result FROM generation_requests WHERE id = %s", fox)
    size = (result["result"]["width"], result["result"]["height"])
    mask.set_input_files({"name": "right.png", "mimeType": "image/png", "buffer": encoded(Image.new("RGBA", size))})
    expect(page.locator("#mask-name")).to_have_text("right.png", timeout=PATIENCE)
    page.locator("#maskMode").select_option("strict")
    page.locator("#submit").click()
    card = alice.card("Give the fox a blue scarf")
    expect(card).to_be_visible(timeout=PATIENCE)
    sent = newest(house)
    assert sent["images"][0] == (fox, None)
    assert [one["role"] for one in sent["inputs"]["images"]] == ["source", "mask"]
    assert sent["inputs"]["maskMode"] == "strict"
    expect(page.locator("#editOf")).to_be_hidden()
    house.wait_all_ended()
    page.goto(f"/requests/{sent['id']}")
    expect(page.locator("#inputs")).to_contain_text("Image to edit")
    expect(page.locator("#variation")).to_have_count(0)


def test_an_address_of_a_missing_image_says_so(alice: Visitor) -> None:
    alice.studio("?editOf=vga_1700000000000000_000000000000000000")
    expect(alice.page.locator("#references-error")).to_contain_text("does not exist any more", timeout=PATIENCE)
    expect(alice.page.locator("#editOf")).to_be_hidden()


# --- The page of a request --------------------------------------------------------------------------------------------


def test_a_parked_request_says_what_it_waits_for(alice: Visitor, house: House) -> None:
    house.provider.script(default="moderation=input")
    source = alice.submit_by_api("A sheet that the provider refuses", metadata={"provider": "openai"})
    house.wait_for(source, "failed")
    house.provider.script(default="hold=1")
    with house.stack.client("alice") as client:
        client.post(f"/retry/{source}").raise_for_status()
    parked = alice.submit_by_api("A page with that character", references=[{"requestId": source, "name": "Pip"}])
    house.provider.script(default="moderation=input")
    house.wait_for_active_calls(1)
    page = alice.page
    page.goto(f"/requests/{parked}")
    alice.wait_live()
    expect(page.locator(".parked")).to_contain_text(f"Waits for the image of {source}, which is being generated.")
    with house.stack.client("alice") as client:
        client.delete(f"/cancel/{source}").raise_for_status()
    expect(page.locator(".parked")).to_contain_text("was cancelled: retry it", timeout=PATIENCE)
    house.provider.script(default="")
    page.get_by_role("link", name="retry it").click()
    expect(page.locator("#referring")).to_contain_text("A page with that character")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#facts .badge")).to_have_text("Completed", timeout=PATIENCE)
    page.locator("#referring a").click()
    expect(page.locator("#facts .badge")).to_have_text("Completed", timeout=PATIENCE)
    expect(page.locator("#inputs")).to_contain_text("Character Pip")
    expect(page.locator("#inputs img")).to_be_visible()
    assert json.dumps(newest(house)["images"]).count(source) == 1
    expect(page).to_have_url(re.compile(parked))


def test_staff_do_not_see_the_uploads_of_others(alice: Visitor, visit: Visit, house: House) -> None:
    page = open_uploads(alice)
    page.locator("#files").set_input_files(png())
    expect(tiles(page)).to_have_count(1, timeout=PATIENCE)
    upload_id = tiles(page).get_attribute("data-id")
    options: dict[str, Any] = {"metadata": {"provider": "openai"}, "references": [{"uploadId": upload_id}]}
    request_id = alice.submit_by_api("A page by an uploaded drawing", **options)
    house.wait_for(request_id, "completed")
    page.goto(f"/requests/{request_id}")
    expect(page.locator("#inputs img")).to_be_visible()
    bob = visit("bob")
    bob.page.goto(f"/requests/{request_id}")
    expect(bob.page.locator("#inputs")).to_contain_text("An upload")
    expect(bob.page.locator("#inputs img")).to_have_count(0)
    expect(bob.page.locator("#edit")).to_have_count(0)
