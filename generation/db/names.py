"""Check that the table and column names in SQL exist in the models."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from django.core.exceptions import ImproperlyConfigured
from django.db import models

#: Text without names: comments, string literals, parameters.
_NO_NAMES: Final = re.compile(r"/\*.*?\*/|'[^']*'|%\(\w+\)s", re.DOTALL)
_NAME: Final = re.compile(r"\b[a-z_][a-z0-9_]*\b")
#: An alias, a part of WITH, and a column that is declared with its type.
_DECLARED: Final = (
    re.compile(r"\bAS ([a-z_]+)"),
    re.compile(r"\b([a-z_]+) AS \("),
    re.compile(r"\b([a-z_]+) (?:BOOLEAN|INTEGER|JSONB|NUMERIC|TEXT|TIMESTAMPTZ)\b"),
)
_TABLE: Final = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE) (generation_[a-z_]+)")
_INSERT: Final = re.compile(r"INSERT INTO ([a-z_]+)(?: AS [a-z_]+)? \(([^)]*)\)")
_UPDATE: Final = re.compile(
    r"UPDATE ([a-z_]+)(?: AS [a-z_]+)?\s+SET (.*?)(?:\b(?:WHERE|FROM|RETURNING)\b|\Z)", re.DOTALL
)
_SET: Final = re.compile(r"(?:\A|,)\s*([a-z_]+) =")
_ALIAS: Final = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE) ([a-z_]+) AS ([a-z_]+)")
_QUALIFIED: Final = re.compile(r"\b([a-z_]+)\.([a-z_]+)\b")
#: The row that could not be inserted.
_BUILT_IN: Final = frozenset({"excluded"})


def check(queries: Mapping[str, str], tables: Collection[type[models.Model]]) -> None:
    """Raise ``ImproperlyConfigured`` if a statement names an unknown table or column, or leaves out a column that a new
    row needs."""
    by_table = {model._meta.db_table: model for model in tables}
    found = [f"{name}: {mistake}" for name, sql in queries.items() for mistake in mistakes(sql, by_table)]
    if found:
        raise ImproperlyConfigured("SQL does not fit the models: " + "; ".join(found))


def mistakes(sql: str, tables: Mapping[str, type[models.Model]]) -> list[str]:
    """Return the mistakes in the statement. ``tables`` maps table names to models."""
    text = _NO_NAMES.sub(" ", sql)
    used = set(_TABLE.findall(text))
    found = [f"no table {table}" for table in sorted(used - tables.keys())]
    used &= tables.keys()
    columns = {table: {str(field.column) for field in tables[table]._meta.concrete_fields} for table in used}
    known = {*_BUILT_IN, *_TABLE.findall(text)}.union(*columns.values())
    for pattern in _DECLARED:
        known.update(pattern.findall(text))
    found += [f"no column {name}" for name in sorted(set(_NAME.findall(text)) - known) if name not in found]
    # Another table of the statement may have a column of that name.
    named = [(table, name) for table, name in _columns_of_tables(text) if table in used and name in known]
    found += [f"no column {name} in {table}" for table, name in sorted(set(named)) if name not in columns[table]]
    for table, listed in _INSERT.findall(text):
        given = set(_NAME.findall(listed))
        found += [f"{table} needs {name}" for name in sorted(_needed(tables[table]) - given)] if table in tables else []
    return found


def _columns_of_tables(text: str) -> Iterator[tuple[str, str]]:
    """Yield table and column wherever the statement names the table of a column."""
    for table, listed in _INSERT.findall(text):
        yield from ((table, name) for name in _NAME.findall(listed))
    for table, assignments in _UPDATE.findall(text):
        yield from ((table, name) for name in _SET.findall(assignments))
    tables = {alias: table for table, alias in _ALIAS.findall(text)}
    yield from ((tables[alias], name) for alias, name in _QUALIFIED.findall(text) if alias in tables)


def _needed(model: type[models.Model]) -> set[str]:
    return {
        str(field.column)
        for field in model._meta.concrete_fields
        if not (field.null or field.db_default is not models.NOT_PROVIDED or isinstance(field, models.AutoField))
    }
