"""The corpus of odd images in a browser: what it says of each is what the browser shows."""

from __future__ import annotations

import base64

import pytest
from playwright.sync_api import Browser

from tests.corpus.shapes import SIZE
from tests.corpus.sound import SOUND

_SHOW = """async (address) => {
  const image = new Image();
  image.src = address;
  await image.decode();
  const canvas = document.createElement("canvas");
  const [width, height] = [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0);
  const colors = [];
  for (const y of [1, 3]) for (const x of [1, 3])
    colors.push([...context.getImageData(width * x / 4, height * y / 4, 1, 1).data].slice(0, 3));
  return {size: [width, height], colors};
}"""
#: Its own rounding.
TOLERANCE = 5


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_browser_shows_odd_images_as_the_corpus_says(browser: Browser, kind: str) -> None:
    page = browser.new_page()
    wrong = {}
    for name, make in SOUND.items():
        odd = make()
        # Large ones are large by metadata, which other tests show to be of no matter.
        if not name.startswith(kind) or len(odd.data) > 500_000:
            continue
        shown = page.evaluate(_SHOW, f"data:image/{kind.lower()};base64,{base64.b64encode(odd.data).decode()}")
        pairs = [
            pair
            for shade, wanted in zip(shown["colors"], odd.colors, strict=True)
            for pair in zip(shade, wanted, strict=True)
        ]
        if shown["size"] != [*SIZE] or max(abs(value - wanted) for value, wanted in pairs) > TOLERANCE:
            wrong[name] = shown
    page.close()
    assert not wrong
