"""``.env.example`` lists what can be set: no more, no less."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

from config import env

ROOT = Path(__file__).resolve().parents[2]
SETTING = re.compile(r"^# ?([A-Z][A-Z0-9_]*)=", re.MULTILINE)
READERS = {
    name
    for name, reader in inspect.getmembers(env, inspect.isfunction)
    if next(iter(inspect.signature(reader).parameters), "") == "name"
}


def names_read_by(source: Path) -> set[str]:
    """The names in ``env.reader("NAME", ...)``."""
    return {
        node.args[0].value
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "env"
        and node.func.attr in READERS
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }


def names_used_by_procfile() -> set[str]:
    return set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "Procfile").read_text()))


def documented() -> list[str]:
    return SETTING.findall((ROOT / ".env.example").read_text())


def test_every_setting_is_documented_and_nothing_else() -> None:
    read = names_used_by_procfile().union(*(names_read_by(path) for path in (ROOT / "config").glob("*.py")))
    assert read, "the search found nothing, so it is broken"
    assert set(documented()) == read


def test_every_setting_is_documented_once_with_a_line_that_explains_it() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert len(documented()) == len(set(documented()))
    for number, line in enumerate(lines):
        if SETTING.match(line):
            assert re.match(r"# [A-Z].*\.$", lines[number - 1]), f"line {number + 1} is not explained: {line}"


def test_the_example_sets_nothing() -> None:
    assert all(not line or line.startswith("#") for line in (ROOT / ".env.example").read_text().splitlines())
