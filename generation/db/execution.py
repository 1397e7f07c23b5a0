"""Run the statements of :mod:`generation.db.queries` as prepared statements, if the database address allows it.

Each function raises Django's database errors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from django.db import DEFAULT_DB_ALIAS, Error, connection, models
from django.db.backends.utils import CursorWrapper

from generation.db.outages import is_cut_connection

M = TypeVar("M", bound=models.Model)
#: Values of a row. Each caller knows the types of its statement.
Row = Sequence[Any]
Parameters = Mapping[str, Any]


class _Connection(Protocol):
    def prepared_cursor(self, *, repeats: bool = False) -> CursorWrapper: ...


def open_cursor(*, repeats: bool = False) -> CursorWrapper:
    """Return a cursor whose statements are prepared by the server. The caller ``repeats`` a statement whose connection
    turns out to be cut."""
    return cast(_Connection, connection).prepared_cursor(repeats=repeats)


def fetch_one(sql: str, parameters: Parameters, *, repeats: bool = False) -> Row | None:
    """Run a statement that returns at most one row."""
    with open_cursor(repeats=repeats) as cursor:
        cursor.execute(sql, parameters)
        return cast("Row | None", cursor.fetchone())


def read_one(sql: str, parameters: Parameters) -> Row | None:
    """Run a statement that writes nothing and returns at most one row; once more if its connection was cut."""
    try:
        return fetch_one(sql, parameters, repeats=not connection.in_atomic_block)
    except Error as error:
        if connection.in_atomic_block or not is_cut_connection(error):
            raise
    connection.close()
    return fetch_one(sql, parameters)


def fetch_all(sql: str, parameters: Parameters) -> list[Row]:
    """Run a statement and return its rows."""
    with open_cursor() as cursor:
        cursor.execute(sql, parameters)
        return cast("list[Row]", cursor.fetchall())


def execute(sql: str, parameters: Parameters) -> int:
    """Run a statement and return the number of changed rows."""
    with open_cursor() as cursor:
        cursor.execute(sql, parameters)
        return int(cursor.rowcount)


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as the array that a statement reads. Decimals keep all of their digits."""
    return json.dumps(rows, default=str)


def instances(model: type[M], columns: str, *, is_partial: bool = False) -> Callable[[Row], M]:
    """Return a function that makes a model instance from a row that begins with these columns: all columns of the
    model, in the order of its fields. With ``is_partial`` some may be missing, which are read at their use."""
    fields = [field for field in model._meta.concrete_fields if not is_partial or field.column in columns.split(", ")]
    if columns.split(", ") != [field.column for field in fields]:
        raise ValueError(f"these are not the columns of {model.__name__}: {columns}")
    names = [field.attname for field in fields]
    texts = [index for index, field in enumerate(fields) if isinstance(field, models.JSONField)]

    def read(row: Row) -> M:
        values = list(row[: len(names)])
        for index in texts:
            if values[index] is not None:
                values[index] = json.loads(values[index])
        return model.from_db(DEFAULT_DB_ALIAS, names, values)

    return read
