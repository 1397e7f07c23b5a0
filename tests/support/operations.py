"""The commands of docs/operations.md and other pages."""

from __future__ import annotations

import re
from typing import Final

from tests.support.stack import ROOT

PAGE: Final = (ROOT / "docs" / "operations.md").read_text()
SCALING: Final = (ROOT / "docs" / "scaling.md").read_text()


def commands(heading: str, page: str = PAGE) -> list[str]:
    """The commands of the section, in their order."""
    found = blocks("console", heading, page)
    return [line.removeprefix("$ ") for block in found for line in block.splitlines()]


def blocks(language: str, heading: str, page: str = PAGE) -> list[str]:
    """The blocks of code in the section."""
    section = page.partition(f"\n{heading}\n")[2]
    assert section, heading
    level = heading.partition(" ")[0]
    section = re.split(rf"^#{{1,{len(level)}}} ", section, maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
