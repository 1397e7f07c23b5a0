"""Statements that are built once and run often. Building one with the ORM takes several times as long as running it.

The statement is still the ORM's, so it is the same on every database; only its parameters differ from run to run.

What follows from a change of a row can be chained to it: PostgreSQL then does all of it in one statement, which is one
round trip and a transaction of its own. SQLite, which has no round trips to save, does one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections, models, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import BooleanField, Expression, Q
from django.db.models.expressions import RawSQL
from django.db.models.sql import DeleteQuery, UpdateQuery

M = TypeVar("M", bound=models.Model)

#: Statements of different shapes; there are some dozens.
_SHAPES: Final = 256


class Param(Expression):
    """A place in a statement that is filled in when it is run, with a value as the ``field`` has it, or the database
    itself."""

    def __init__(self, name: str, field: models.Field[Any, Any] | None = None) -> None:
        super().__init__(output_field=field)
        self.name = name
        self._field = field

    def prepare(self, value: Any, connection: Any) -> Any:
        """The value as this database takes it."""
        return value if self._field is None else adapted(self._field, value, connection)

    def __repr__(self) -> str:
        return f"Param({self.name})"

    def as_sql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return "%s", [self]


@dataclass(frozen=True, eq=False)
class Condition:
    """A condition with :class:`Param` in it. Made once, since statements are told apart by it."""

    q: Q


@dataclass(frozen=True, slots=True)
class Changed:
    """In a statement that is chained: this column of the row that was changed, as it is now."""

    column: str


@dataclass(frozen=True, slots=True)
class Statement:
    """What is to be run after a row was changed, which it knows as the table ``changed``; without a change it does
    nothing."""

    sql: str
    parameters: Sequence[Any]


#: For a :class:`Condition` of what is chained.
IS_CHANGED: Final = Q(RawSQL("EXISTS (SELECT 1 FROM changed)", [], output_field=BooleanField()))

_THIS: Final = Condition(Q(pk=Param("pk")))


def find(model: type[M], where: Condition, **bound: Any) -> M | None:
    """The row that fulfils the condition, or one of them. ``bound`` are the condition's parameters."""
    statement, parameters = _selection(model, where)
    with open_cursor() as cursor:
        cursor.execute(statement, _bound(parameters, bound))
        row = cursor.fetchone()
    return _reader(model)[1](row) if row is not None else None


def get(model: type[M], pk: Any) -> M | None:
    """The row with this primary key."""
    return find(model, _THIS, pk=pk)


def in_bulk(model: type[M], keys: Sequence[str]) -> dict[Any, M]:
    """The rows with these primary keys, which are text, by their keys."""
    connection = connections[DEFAULT_DB_ALIAS]
    columns, read = _reader(model)
    quote = connection.ops.quote_name
    # One parameter, so that it is the same statement for any number of keys.
    on_postgresql = connection.vendor == "postgresql"
    among = "= ANY(%s)" if on_postgresql else "IN (SELECT value FROM json_each(%s))"
    table, key = quote(model._meta.db_table), quote(model._meta.pk.attname)
    with open_cursor() as cursor:
        asked = list(keys) if on_postgresql else json.dumps(list(keys))
        cursor.execute(f"SELECT {columns} FROM {table} WHERE {key} {among}", [asked])  # noqa: S608
        found = [read(row) for row in cursor.fetchall()]
    return {row.pk: row for row in found}


def count(model: type[M], *parts: Condition, order: Sequence[str], up_to: int, **bound: Any) -> int:
    """How many rows fulfil one of the conditions, none of them two; no more than so many are counted. The ``order`` is
    that of an index in which what fulfils a condition lies together. Without it PostgreSQL, which plans once for all
    parameters, would read the whole table where few rows fulfil it."""
    counts, parameters = [], []
    for part in parts:
        statement, places = _selection(model, part, order=tuple(order))
        counts.append(f"(SELECT COUNT(*) FROM ({statement} LIMIT %s) found)")  # noqa: S608
        parameters += [*_bound(places, bound), up_to]
    with open_cursor() as cursor:
        cursor.execute(f"SELECT {' + '.join(counts)}", parameters)
        return min(up_to, int(cursor.fetchone()[0]))


def update(model: type[M], where: Condition, values: Mapping[str, Any], **bound: Any) -> int:
    """Change the rows that fulfil the condition. Returns how many. ``bound`` are the condition's parameters."""
    statement, parameters = _filled(model, where, values, bound)
    with open_cursor() as cursor:
        cursor.execute(statement, parameters)
        return int(cursor.rowcount)


def change(model: type[M], where: Condition, values: Mapping[str, Any], *then: Statement, **bound: Any) -> M | None:
    """Change the one row that fulfils the condition and do what follows from it, all or nothing. Returns the row as it
    is now, or nothing where there is none."""
    connection = connections[DEFAULT_DB_ALIAS]
    statement, parameters = _filled(model, where, values, bound)
    columns, read = _reader(model)
    changed: M
    if connection.vendor == "postgresql":
        parts = [("changed", f"{statement} RETURNING *"), *((f"then{n}", one.sql) for n, one in enumerate(then))]
        chained = ", ".join(f"{name} AS ({part})" for name, part in parts)
        everything = [*parameters, *(parameter for one in then for parameter in one.parameters)]
        with open_cursor() as cursor:
            cursor.execute(f"WITH {chained} SELECT {columns} FROM changed", everything)  # noqa: S608
            row = cursor.fetchone()
        if row is None:
            return None
        changed = read(row)
        return changed
    with transaction.atomic(savepoint=False):
        with open_cursor() as cursor:
            cursor.execute(f"{statement} RETURNING {columns}", parameters)
            row = cursor.fetchone()
        if row is None:
            return None
        changed = read(row)
        quote = connection.ops.quote_name
        table, key = quote(model._meta.db_table), quote(model._meta.pk.attname)
        it = f"WITH changed AS (SELECT * FROM {table} WHERE {key} = %s)"  # noqa: S608
        with open_cursor() as cursor:
            for one in then:
                cursor.execute(f"{it} {one.sql}", [changed.pk, *one.parameters])
    return changed


# --- What can be chained ---


def updating(model: type[models.Model], where: Condition, values: Mapping[str, Any], **bound: Any) -> Statement:
    """As :func:`update`. The condition has to contain ``IS_CHANGED``."""
    return Statement(*_filled(model, where, values, bound))


def deleting(model: type[models.Model], where: Condition, **bound: Any) -> Statement:
    """Remove the rows that fulfil the condition, and nothing that refers to them. It has to contain ``IS_CHANGED``."""
    statement, parameters = _deletion(model, where)
    return Statement(statement, _bound(parameters, bound))


def open_cursor() -> CursorWrapper:
    """One that has the database keep the plans of what it runs, where that can be done."""
    connection: Any = connections[DEFAULT_DB_ALIAS]
    cursor: CursorWrapper = getattr(connection, "prepared_cursor", connection.cursor)()
    return cursor


def _bound(parameters: Sequence[Any], bound: Mapping[str, Any]) -> list[Any]:
    connection = connections[DEFAULT_DB_ALIAS]
    return [one.prepare(bound[one.name], connection) if isinstance(one, Param) else one for one in parameters]


def _filled(
    model: type[models.Model], where: Condition, values: Mapping[str, Any], bound: Mapping[str, Any]
) -> tuple[str, list[Any]]:
    shape = tuple((name, repr(value) if is_expression(value) else None) for name, value in values.items())
    key = (model, where, shape, connections[DEFAULT_DB_ALIAS].vendor)
    if (found := _statements.get(key)) is None:
        found = _statements[key] = _build(model, where, values)
    statement, parameters = found
    return statement, _bound(parameters, {**bound, **values})


_statements: Final[dict[Any, tuple[str, tuple[Any, ...]]]] = {}


def _build(model: type[models.Model], where: Condition, values: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    fields: dict[str, Any] = {name: model._meta.get_field(name) for name in values if not is_expression(values[name])}
    places = {name: Param(name, fields[name]) if name in fields else value for name, value in values.items()}
    query: UpdateQuery = model._default_manager.filter(where.q).query.chain(UpdateQuery)  # type: ignore[assignment]
    query.add_update_values(places)
    statement, parameters = query.get_compiler(DEFAULT_DB_ALIAS).as_sql()
    return statement, tuple(parameters)


@lru_cache(_SHAPES)
def _selection(
    model: type[models.Model], where: Condition, *, order: tuple[str, ...] = ()
) -> tuple[str, tuple[Any, ...]]:
    """Whole rows, or their keys in this order."""
    rows = model._default_manager.filter(where.q).order_by(*order)
    query = (rows.values("pk") if order else rows).query
    statement, parameters = query.get_compiler(DEFAULT_DB_ALIAS).as_sql()
    return statement, tuple(parameters)


@lru_cache(_SHAPES)
def _deletion(model: type[models.Model], where: Condition) -> tuple[str, tuple[Any, ...]]:
    query = model._default_manager.filter(where.q).query.chain(DeleteQuery)
    statement, parameters = query.get_compiler(DEFAULT_DB_ALIAS).as_sql()
    return statement, tuple(parameters)


@lru_cache(_SHAPES)
def _reader(model: type[M]) -> tuple[str, Callable[[Sequence[Any]], M]]:
    """The columns of the model, and what makes an instance of their values."""
    fields: Sequence[Any] = model._meta.concrete_fields
    names = [field.attname for field in fields]
    conversions = [(index, conversion) for index, field in enumerate(fields) for conversion in readers_of(field)]

    def read(row: Sequence[Any]) -> M:
        values, connection = list(row), connections[DEFAULT_DB_ALIAS]
        for index, conversion in conversions:
            values[index] = conversion(values[index], connection)
        return model.from_db(DEFAULT_DB_ALIAS, names, values)

    return ", ".join(connections[DEFAULT_DB_ALIAS].ops.quote_name(field.column) for field in fields), read


def readers_of(field: Any) -> list[Callable[[Any, Any], Any]]:
    """What makes of the database's value the field's, in turn. Each is given the value and the connection."""
    connection = connections[DEFAULT_DB_ALIAS]
    column = field.get_col(field.model._meta.db_table)
    converters = connection.ops.get_db_converters(column) + column.get_db_converters(connection)

    def bound(converter: Any) -> Callable[[Any, Any], Any]:
        return lambda value, connection: converter(value, column, connection)

    return [bound(converter) for converter in converters]


def adapted(field: Any, value: Any, connection: Any) -> Any:
    """The field's value as this database takes it. Plain text is that already, and most of what is written."""
    if type(value) is str and isinstance(field, (models.CharField, models.TextField)):
        return value
    return field.get_db_prep_save(value, connection)


def is_expression(value: Any) -> bool:
    """Whether the database is to compute the value."""
    return hasattr(value, "resolve_expression")
