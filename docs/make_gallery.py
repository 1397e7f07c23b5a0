"""Generate the images of ``docs/gallery`` with the built-in provider, and the page that shows them.

Run it with ``.venv/bin/python docs/make_gallery.py``, so that images and page match the code.
"""

from __future__ import annotations

import asyncio
import io
import sys
from dataclasses import dataclass
from pathlib import Path

_DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(_DOCS.parent))

from PIL import Image  # noqa: E402 - the project is not installed, so its path comes first
from PIL.PngImagePlugin import PngInfo  # noqa: E402

from workers.providers.base import ImageRequest  # noqa: E402
from workers.providers.clipart import ClipartProvider  # noqa: E402

_COLORS = 256
_COLUMNS = 3


@dataclass(frozen=True)
class Example:
    """One image of the gallery. ``width`` and ``height`` are in pixels."""

    file: str
    subject: str
    type: str
    seed: int = 1
    width: int = 768
    height: int = 768
    title: str = ""


EXAMPLES = (
    Example("dragon-garden", "A friendly dragon playing in a garden", "coloring-page"),
    Example("cats-house", "Three cats in a house", "coloring-page"),
    Example("elephant-giraffe", "An elephant and a giraffe in the jungle", "coloring-page"),
    Example("fire-truck", "A fire truck in the city", "coloring-page", seed=4),
    Example("fox-forest", "A fox in the forest", "coloring-page", width=640, height=896),
    Example("mandala", "Calm and quiet", "coloring-page"),
    Example("octopus", "An octopus under the sea", "illustration"),
    Example("astronauts", "Two astronauts in space", "illustration"),
    Example("owl-night", "An owl in the forest at night", "illustration"),
    Example("knight-cover", "A brave knight and a dragon near a castle", "cover", width=640, height=896,
            title="The Knight & the Dragon Who Loved Tea"),
    Example("garden-background", "A garden", "background", width=896, height=640),
    Example("princess", "A princess", "character-reference", width=896, height=640),
)  # fmt: skip


def main() -> None:
    """Write ``docs/gallery/*.png`` and ``docs/gallery.md``."""
    folder = _DOCS / "gallery"
    folder.mkdir(exist_ok=True)
    provider = ClipartProvider()
    for example in EXAMPLES:
        data = asyncio.run(provider.generate(_request(example))).data
        (folder / f"{example.file}.png").write_bytes(_to_palette(data))
    (_DOCS / "gallery.md").write_text(_page(), encoding="utf-8")


def _request(example: Example) -> ImageRequest:
    return ImageRequest(
        request_id=example.file,
        type=example.type,
        subject=example.subject,
        prompt=example.subject,
        width=example.width,
        height=example.height,
        seed=example.seed,
        title=example.title,
    )


def _to_palette(data: bytes) -> bytes:
    """Reduce the image to a palette, to keep the repository small. Text chunks are kept."""
    with Image.open(io.BytesIO(data)) as image:
        notes = PngInfo()
        for key, value in image.info.items():
            if isinstance(key, str) and isinstance(value, str):
                notes.add_text(key, value)
        palette = image.quantize(_COLORS if image.mode == "RGB" else 16, dither=Image.Dither.NONE)
        file = io.BytesIO()
        palette.save(file, "PNG", optimize=True, pnginfo=notes)
        return file.getvalue()


def _page() -> str:
    lines = [
        "# Gallery",
        "",
        "Images of the built-in `clipart` provider, which needs no key. `docs/make_gallery.py` generates them.",
        "",
        "<table>",
    ]
    for start in range(0, len(EXAMPLES), _COLUMNS):
        lines.append("<tr>")
        for example in EXAMPLES[start : start + _COLUMNS]:
            lines += [
                '<td align="center" valign="top">',
                f'<img src="gallery/{example.file}.png" width="260" alt="{example.subject}"><br>',
                f"“{example.subject}”<br><code>{example.type}</code>, seed {example.seed}",
                "</td>",
            ]
        lines.append("</tr>")
    lines += [
        "</table>",
        "",
        "Drawings by [OpenMoji](https://openmoji.org), the open-source emoji and icon project, licensed",
        "[CC BY-SA 4.0](https://creativecommons.org/licenses/by-sa/4.0/): arranged, recolored and extended for these",
        "images, which are under the same license. The mandala contains no OpenMoji drawing.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
