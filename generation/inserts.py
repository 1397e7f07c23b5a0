"""New rows by statements that are built once: of several tables together, many as fast as few, and chained to a change
of another row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, Final, NamedTuple

from django.db import DEFAULT_DB_ALIAS, connections, models, transaction
from django.db.models.expressions import DatabaseDefault
from django.db.models.sql import InsertQuery

from generation.prepared import Changed, Statement, adapted, is_expression, open_cursor, readers_of

Rows = Sequence[Mapping[str, Any]]

#: Tables with the columns that are given; there are a handful.
_SHAPES: Final = 64


class Plain(NamedTuple):
    """Rows of a table of which nobody needs instances. What is left out has the database's default."""

    model: type[models.Model]
    rows: Rows


def create(*groups: Sequence[models.Model] | Plain) -> None:
    """Write new rows of several tables, all or nothing: in each group instances of one model or plain rows, with values
    for the same columns, which may refer to those in the groups before. What the database gives to the columns that
    were left out is taken to be the same for the whole group, as the time of a statement is, and is set on the
    instances."""
    tables = [_Table(group) for group in groups]
    if connections[DEFAULT_DB_ALIAS].vendor == "postgresql":
        _create_at_once(tables)
    else:
        _create_in_turn(tables)


class _Table:
    """The instances of a group, the statements that write its rows, and the columns that the database fills."""

    def __init__(self, group: Sequence[models.Model] | Plain) -> None:
        if isinstance(group, Plain):
            self.statements = _statements(group.model, group.rows)
            self.instances: Sequence[models.Model] = ()
            self.given: Sequence[_Given] = ()
            return
        model, rows = type(group[0]), [_row(instance) for instance in group]
        self.statements = _statements(model, rows)
        self.instances = group
        self.given = _given(model, tuple(rows[0]))

    def created(self, values: Sequence[Any]) -> None:
        """The rows are written, with these values in the columns that were left out."""
        told = [(one.name, one.read(value)) for one, value in zip(self.given, values, strict=True)]
        for instance in self.instances:
            for name, value in told:
                setattr(instance, name, value)
            instance._state.adding, instance._state.db = False, DEFAULT_DB_ALIAS


def _create_at_once(tables: Sequence[_Table]) -> None:
    parts: list[str] = []
    parameters: list[Any] = []
    asked: list[str] = []
    for table in tables:
        asked += [f"(SELECT {one.column} FROM rows{len(parts)} LIMIT 1)" for one in table.given]  # noqa: S608
        for statement in table.statements:
            parts.append(f"rows{len(parts)} AS ({statement.sql} RETURNING *)")
            parameters += statement.parameters
    with open_cursor() as cursor:
        cursor.execute(f"WITH {', '.join(parts)} SELECT {', '.join(asked)}", parameters)
        answer = iter(cursor.fetchone())
    for table in tables:
        table.created([next(answer) for _ in table.given])


def _create_in_turn(tables: Sequence[_Table]) -> None:
    with transaction.atomic(savepoint=False), open_cursor() as cursor:
        for table in tables:
            [statement] = table.statements
            columns = ", ".join(one.column for one in table.given)
            returning = f" RETURNING {columns}" if columns else ""
            cursor.execute(statement.sql + returning, statement.parameters)
            table.created(cursor.fetchall()[0] if columns else ())


def _row(instance: models.Model) -> dict[str, Any]:
    values = {field.attname: getattr(instance, field.attname) for field in instance._meta.concrete_fields}
    if instance.pk is None:
        del values[instance._meta.pk.attname]
    return {name: value for name, value in values.items() if not isinstance(value, DatabaseDefault)}


# --- What can be chained to a change ---


def defaults(model: type[models.Model]) -> dict[str, Any]:
    """The values of a new row that its columns must have and that the database does not give them."""
    return {
        field.attname: field.get_default()
        for field in model._meta.concrete_fields
        if not (field.primary_key or field.null or field.db_default is not models.NOT_PROVIDED or field.is_relation)
    }


def inserting(model: type[models.Model], values: Mapping[str, Any]) -> Statement:
    """Write one row. What is left out has the database's default."""
    return _chained(model, values, ())


def adding(model: type[models.Model], key: Mapping[str, Any], amounts: Mapping[str, Any]) -> Statement:
    """Add the amounts to the row with this unique key, or begin it with them."""
    return _chained(model, {**key, **amounts}, tuple(key))


def _chained(model: type[models.Model], values: Mapping[str, Any], key: tuple[str, ...]) -> Statement:
    names = tuple(values)
    connection = connections[DEFAULT_DB_ALIAS]
    cells: list[str] = []
    parameters: list[Any] = []
    for field, value in zip(_insertion(model, names).fields, values.values(), strict=True):
        if type(value) is Changed:
            cells.append(f"changed.{connection.ops.quote_name(value.column)}")
        elif is_expression(value):
            cell, bound = _expression(model, value)
            cells.append(cell)
            parameters += bound
        else:
            cells.append("%s")
            parameters.append(adapted(field, value, connection))
    return Statement(_insertion_from_changed(model, names, tuple(cells), key), parameters)


# --- Statements ---


def _statements(model: type[models.Model], rows: Rows) -> list[Statement]:
    if len(rows) == 1 or connections[DEFAULT_DB_ALIAS].vendor != "postgresql":
        return [_with_values(model, rows)]
    # The same statement for any number of rows, which need not be read by it place by place. A column has an expression
    # or values, so rows whose expressions differ have statements of their own.
    alike: dict[tuple[str | None, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        expressions = tuple(repr(value) if is_expression(value) else None for value in row.values())
        alike.setdefault(expressions, []).append(row)
    return [_with_arrays(model, some) for some in alike.values()]


def _with_values(model: type[models.Model], rows: Rows) -> Statement:
    table = _insertion(model, tuple(rows[0]))
    connection = connections[DEFAULT_DB_ALIAS]
    places: list[str] = []
    parameters: list[Any] = []
    for row in rows:
        cells = []
        for field, value in zip(table.fields, row.values(), strict=True):
            if is_expression(value):
                cell, bound = _expression(model, value)
                parameters += bound
            else:
                cell = "%s"
                parameters.append(adapted(field, value, connection))
            cells.append(cell)
        places.append(f"({', '.join(cells)})")
    return Statement(f"{table.beginning} VALUES {', '.join(places)}", parameters)


def _with_arrays(model: type[models.Model], rows: Rows) -> Statement:
    table = _insertion(model, tuple(rows[0]))
    connection = connections[DEFAULT_DB_ALIAS]
    cells: list[str] = []
    arrays: list[str] = []
    before: list[Any] = []
    parameters: list[Any] = []
    for field, array, values in zip(
        table.fields, table.arrays, zip(*(row.values() for row in rows), strict=True), strict=True
    ):
        if is_expression(values[0]):
            cell, bound = _expression(model, values[0])
            before += bound
            cells.append(cell)
        else:
            cells.append(f"given.c{len(arrays)}")
            arrays.append(array)
            parameters.append(_column(field, values, connection))
    names = ", ".join(f"c{number}" for number in range(len(arrays)))
    given = f"UNNEST({', '.join(arrays)}) AS given({names})"
    return Statement(f"{table.beginning} SELECT {', '.join(cells)} FROM {given}", [*before, *parameters])  # noqa: S608


def _column(field: Any, values: Sequence[Any], connection: Any) -> list[Any]:
    first = values[0]
    if all(value is first for value in values):  # as in most columns
        return [_plain(adapted(field, first, connection))] * len(values)
    return [_plain(adapted(field, value, connection)) for value in values]


def _plain(value: Any) -> Any:
    # psycopg takes no array in which one name of a choice is plain text and the other its enumeration's.
    return value.value if isinstance(value, Enum) else value


def _expression(model: type[models.Model], value: Any) -> tuple[str, Sequence[Any]]:
    key = (model, repr(value), connections[DEFAULT_DB_ALIAS].vendor)
    if (found := _expressions.get(key)) is None:
        query = InsertQuery(model)
        resolved = value.resolve_expression(query, allow_joins=False, for_save=True)
        found = _expressions[key] = query.get_compiler(DEFAULT_DB_ALIAS).compile(resolved)
    return found


_expressions: Final[dict[Any, tuple[str, Sequence[Any]]]] = {}


class _Insertion(NamedTuple):
    """The beginning of a statement, its fields, and for each of them a place for an array of its values."""

    beginning: str
    fields: Sequence[Any]
    arrays: Sequence[str]


@lru_cache(_SHAPES)
def _insertion(model: type[models.Model], names: tuple[str, ...]) -> _Insertion:
    connection = connections[DEFAULT_DB_ALIAS]
    quote = connection.ops.quote_name
    fields: tuple[Any, ...] = tuple(model._meta.get_field(name) for name in names)
    columns = ", ".join(quote(field.column) for field in fields)
    # Without its length: where a value is too long for a column, a cast would cut it.
    types = [str(field.db_type(connection)).partition("(")[0] for field in fields]
    beginning = f"INSERT INTO {quote(model._meta.db_table)} ({columns})"
    return _Insertion(beginning, fields, [f"%s::{one}[]" for one in types])


class _Given(NamedTuple):
    """A column that has the database's default."""

    name: str
    column: str
    conversions: Sequence[Callable[[Any, Any], Any]]

    def read(self, value: Any) -> Any:
        """The field's value."""
        connection = connections[DEFAULT_DB_ALIAS]
        for conversion in self.conversions:
            value = conversion(value, connection)
        return value


@lru_cache(_SHAPES)
def _given(model: type[models.Model], names: tuple[str, ...]) -> list[_Given]:
    quote = connections[DEFAULT_DB_ALIAS].ops.quote_name
    fields: Sequence[Any] = model._meta.concrete_fields
    return [
        _Given(field.attname, quote(field.column), readers_of(field))
        for field in fields
        if field.db_default is not models.NOT_PROVIDED and field.attname not in names
    ]


@lru_cache(_SHAPES)
def _insertion_from_changed(
    model: type[models.Model], names: tuple[str, ...], cells: tuple[str, ...], key: tuple[str, ...]
) -> str:
    quote = connections[DEFAULT_DB_ALIAS].ops.quote_name
    insertion, table = _insertion(model, names), quote(model._meta.db_table)
    statement = f"{insertion.beginning} SELECT {', '.join(cells)} FROM changed"  # noqa: S608
    if key:
        columns = {name: quote(field.column) for name, field in zip(names, insertion.fields, strict=True)}
        unique = ", ".join(columns[name] for name in key)
        amounts = [column for name, column in columns.items() if name not in key]
        sums = ", ".join(f"{amount} = {table}.{amount} + excluded.{amount}" for amount in amounts)
        # SQLite would take ON for the beginning of a join.
        statement += f" WHERE TRUE ON CONFLICT ({unique}) DO UPDATE SET {sums}"
    return statement
