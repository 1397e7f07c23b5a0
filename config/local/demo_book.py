"""The demo of a book: one character sheet and pages that refer to it, in one batch, on one contact sheet."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from config.local.contact_sheet import contact_sheet
from config.local.demo import Client, DemoError, followed, image_of, print_attribution, shown

SHEET = "Pip the red fox with a green scarf"
PAGES = (
    "Pip flies a kite on a hill",
    "Pip and an owl in the forest at night",
    "Pip reads books with a teddy bear in the living room",
    "Pip sleeps under a tree",
)
_BATCH = "/api/visual-generation/batch"


def draw(base_url: str, username: str, password: str, folder: Path) -> None:
    """Generate the book, save its images and a contact sheet in the folder and print where they are. Raises
    :class:`DemoError`."""
    client = Client(base_url)
    client.sign_in(username, password)
    print(f'Submitting a character sheet, "{SHEET}", and {len(PAGES)} pages that refer to it', flush=True)
    submitted = time.monotonic()
    batch_id = client.call("POST", _BATCH, {"requests": _requests()})["batchId"]
    batch = followed(client, f"{_BATCH}/{batch_id}", finished=batch_id, count=_count)
    took = time.monotonic() - submitted
    sheet, *pages = batch["requests"]
    images = [image_of(client, one) for one in (sheet, *pages)]
    for page in pages:
        if [one["requestId"] for one in page["references"]] != [sheet["requestId"]]:
            raise DemoError(f"{page['requestId']} does not refer to the character sheet")
    target = folder / "book"
    target.mkdir(exist_ok=True)
    for number, data in enumerate(images):
        (target / (f"page-{number}.png" if number else "character-sheet.png")).write_bytes(data)
    overview = target / "contact-sheet.png"
    overview.write_bytes(contact_sheet(list(zip((SHEET, *PAGES), images, strict=True))))
    print(
        f"\n  Contact sheet  {shown(overview)}"
        f"\n  Images         {len(images)} beside it"
        f"\n  Batch          {batch_id}"
        f"\n  Completed      {took * 1000:.0f} ms after it was submitted; the pages waited for the character sheet"
    )
    print_attribution(sheet["result"].get("attribution") or "")
    print("\nNext: docs/references.md shows the calls.", flush=True)


def _requests() -> list[dict[str, Any]]:
    """Return the requests of the batch; the pages refer to the first one."""
    common = {"projectId": "demo-book"}
    pip = {"item": 0, "role": "character", "name": "Pip"}
    sheet = {"type": "character-reference", "prompt": SHEET, **common}
    pages = (
        {"type": "illustration", "prompt": text, "pageId": f"page_{number}", "references": [pip], **common}
        for number, text in enumerate(PAGES, start=1)
    )
    return [sheet, *pages]


def _count(batch: dict[str, Any]) -> str:
    return f"{batch['counts']['completed']} of {len(batch['requests'])} images"
