"""Every sound image by its name."""

from __future__ import annotations

from typing import Final

from tests.corpus.jpeg import JPEG
from tests.corpus.png import PNG
from tests.corpus.shapes import Makers
from tests.corpus.webp import WEBP

SOUND: Final[Makers] = {
    f"{kind}: {name}": make
    for kind, makers in (("PNG", PNG), ("JPEG", JPEG), ("WEBP", WEBP))
    for name, make in makers.items()
}
