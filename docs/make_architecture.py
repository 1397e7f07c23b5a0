"""Write the diagram in ``docs/architecture.md``: the packages of ``generation/`` in their layers, from the imports.

``make architecture`` runs it. It needs no running stack. ``--check`` writes nothing and fails if the diagram is out of
date.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Final

import grimp

_ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = _ROOT / "docs" / "architecture.md"
_PACKAGE: Final = "generation"
_BEGIN: Final = "<!-- packages: `make architecture` writes this section -->\n"
_END: Final = "<!-- /packages -->"

Arrow = tuple[str, str]


def layers() -> list[list[str]]:
    """Return the layers of import-linter's contract, the top one first, with the modules that it ignores above."""
    settings = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    contract = next(contract for contract in contracts if contract["id"] == _PACKAGE)
    named = [layer.split(" | ") for layer in contract["layers"]]
    return [contract["exhaustive_ignores"], *named]


@cache
def rooms_and_arrows() -> tuple[set[str], set[Arrow]]:
    """Return the packages and flat modules of ``generation/``, and which of them imports which other one."""
    if str(_ROOT) not in sys.path:
        sys.path.insert(0, str(_ROOT))  # the project is not installed
    graph = grimp.build_graph(_PACKAGE, cache_dir=None)
    rooms = {module.split(".")[1] for module in graph.find_children(_PACKAGE)}
    arrows = set()
    for module in graph.modules - {_PACKAGE}:
        importer = module.split(".")[1]
        for imported in graph.find_modules_directly_imported_by(module) - {_PACKAGE}:
            arrows.add((importer, imported.split(".")[1]))
    return rooms, {(importer, imported) for importer, imported in arrows if importer != imported}


def find_cycle(arrows: set[Arrow]) -> set[str]:
    """Return the rooms that import themselves through others, and those between them; empty without a cycle."""
    left = {room for arrow in arrows for room in arrow}
    while ends := left - {importer for importer, imported in arrows if {importer, imported} <= left}:
        left -= ends
    return left


def upward_arrows(arrows: set[Arrow]) -> set[Arrow]:
    """Return the arrows that do not point to a lower layer."""
    depth = {room: index for index, layer in enumerate(layers()) for room in layer}
    return {(importer, imported) for importer, imported in arrows if depth[importer] >= depth[imported]}


def section() -> str:
    """Return the generated section of the page. Raises ``ValueError`` if the imports have a cycle."""
    rooms, arrows = rooms_and_arrows()
    if cycle := find_cycle(arrows):
        raise ValueError(f"a cycle of imports: {', '.join(sorted(cycle))}")
    lines = ["```mermaid", "flowchart TB"]
    for index, layer in enumerate(layers()):
        lines.append(f'  subgraph layer{index}[" "]')
        lines += [f"    {room}" for room in layer if room in rooms]
        lines.append("  end")
    lines += [f"  {importer} --> {imported}" for importer, imported in sorted(_without_implied(arrows))]
    lines += [
        "```",
        "",
        f"{len(rooms)} packages and flat modules, {len(arrows)} pairs of which one imports the other. The diagram",
        "omits an arrow if there is a longer way along other arrows.",
        "",
    ]
    return "\n".join(lines)


def _without_implied(arrows: set[Arrow]) -> set[Arrow]:
    """Return the transitive reduction of arrows without a cycle."""

    def reachable(room: str) -> set[str]:
        following = {imported for importer, imported in arrows if importer == room}
        return following.union(*map(reachable, following))

    implied = {(start, end) for start, middle in arrows for end in reachable(middle)}
    return arrows - implied


def updated(page: str) -> str:
    """Return the page with a new section. Raises ``ValueError`` if the page has no such section."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"{PAGE.name} has no section between {_BEGIN.strip()} and {_END}")
    return f"{before}{begin}{section()}{end}{after}"


def main() -> None:
    """Write the page, or compare it with ``--check``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--check", action="store_true", help="fail if the diagram is out of date")
    is_check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    if not is_check:
        PAGE.write_text(updated(page), encoding="utf-8")
    elif updated(page) != page:
        sys.exit("error: docs/architecture.md is out of date; `make architecture` updates it")


if __name__ == "__main__":
    main()
