"""Whether the names in SQL are those of the models."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from django.core.exceptions import ImproperlyConfigured
from django.db import models

#: What is no name: comments, texts in quotation marks, parameters.
_NO_NAMES: Final = re.compile(r"/\*.*?\*/|'[^']*'|%\(\w+\)s", re.DOTALL)
_NAME: Final = re.compile(r"\b[a-z_][a-z0-9_]*\b")
#: An alias, a part of WITH, and a column that is given with its type.
_DECLARED: Final = (
    re.compile(r"\bAS ([a-z_]+)"),
    re.compile(r"\b([a-z_]+) AS \("),
    re.compile(r"\b([a-z_]+) (?:BOOLEAN|INTEGER|JSONB|NUMERIC|TEXT)\b"),
)
_TABLE: Final = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE) (generation_[a-z_]+)")
_INSERT: Final = re.compile(r"INSERT INTO ([a-z_]+)(?: AS [a-z_]+)? \(([^)]*)\)")
#: The row that could not be inserted.
_BUILT_IN: Final = frozenset({"excluded"})


def check(queries: Mapping[str, str], tables: Collection[type[models.Model]]) -> None:
    """Raise ``ImproperlyConfigured`` where a statement names a table or a column that the models do not have, or leaves
    out a column that a new row needs."""
    by_table = {model._meta.db_table: model for model in tables}
    found = [f"{name}: {mistake}" for name, sql in queries.items() for mistake in mistakes(sql, by_table)]
    if found:
        raise ImproperlyConfigured("SQL does not fit the models: " + "; ".join(found))


def mistakes(sql: str, tables: Mapping[str, type[models.Model]]) -> list[str]:
    """Return what in the statement does not fit the models, which are given by the names of their tables."""
    text = _NO_NAMES.sub(" ", sql)
    used = set(_TABLE.findall(text))
    found = [f"no table {table}" for table in sorted(used - tables.keys())]
    used &= tables.keys()
    known = {*_BUILT_IN, *_TABLE.findall(text)}
    for table in used:
        known.update(str(field.column) for field in tables[table]._meta.concrete_fields)
    for pattern in _DECLARED:
        known.update(pattern.findall(text))
    found += [f"no column {name}" for name in sorted(set(_NAME.findall(text)) - known) if name not in found]
    for table, columns in _INSERT.findall(text):
        given = set(_NAME.findall(columns))
        found += [f"{table} needs {name}" for name in sorted(_needed(tables[table]) - given)] if table in tables else []
    return found


def _needed(model: type[models.Model]) -> set[str]:
    return {
        str(field.column)
        for field in model._meta.concrete_fields
        if not (field.null or field.db_default is not models.NOT_PROVIDED or isinstance(field, models.AutoField))
    }
