"""Statements that are built once and run often. Building one with the ORM takes several times as long as running it.

The statement is still the ORM's, so it is the same on every database; only its parameters differ from run to run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.models import Expression, Q
from django.db.models.sql import DeleteQuery, UpdateQuery

M = TypeVar("M", bound=models.Model)

#: Statements of different shapes; there are some dozens.
_SHAPES: Final = 256


class Param(Expression):
    """A place in a statement that is filled in when it is run."""

    def __init__(self, name: str, field: models.Field[Any, Any] | None = None) -> None:
        super().__init__(output_field=field)
        self.name = name

    def __repr__(self) -> str:
        return f"Param({self.name})"

    def as_sql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return "%s", [self]


@dataclass(frozen=True, eq=False)
class Condition:
    """A condition with :class:`Param` in it. Made once, since statements are told apart by it."""

    q: Q


def update(model: type[M], where: Condition, values: Mapping[str, Any], **bound: Any) -> int:
    """Change the rows that fulfil the condition. Returns how many. ``bound`` are the condition's parameters."""
    statement, parameters = _filled(model, where, values, bound)
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(statement, parameters)
        return int(cursor.rowcount)


def update_returning(model: type[M], where: Condition, values: Mapping[str, Any], **bound: Any) -> list[M]:
    """As :func:`update`, and returns the rows as they are now."""
    statement, parameters = _filled(model, where, values, bound)
    return list(model._default_manager.raw(f"{statement} RETURNING *", parameters))


def delete(model: type[models.Model], where: Condition, **bound: Any) -> int:
    """Remove the rows that fulfil the condition, and nothing that refers to them. Returns how many."""
    statement, parameters = _deletion(model, where)
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(statement, [bound[one.name] if isinstance(one, Param) else one for one in parameters])
        return int(cursor.rowcount)


def insert(model: type[models.Model], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows that have the same columns; what is left out has the database's default, so every field without a
    value needs one."""
    if not rows:
        return
    names = tuple(rows[0])
    statement, fields = _insert(model, names, len(rows))
    connection = connections[DEFAULT_DB_ALIAS]
    prepared = [
        field.get_db_prep_save(row[name], connection) for row in rows for name, field in zip(names, fields, strict=True)
    ]
    with connection.cursor() as cursor:
        cursor.execute(statement, prepared)


def _filled(
    model: type[models.Model], where: Condition, values: Mapping[str, Any], bound: Mapping[str, Any]
) -> tuple[str, list[Any]]:
    shape = tuple((name, repr(value) if _is_expression(value) else None) for name, value in values.items())
    connection = connections[DEFAULT_DB_ALIAS]
    key = (model, where, shape, connection.vendor)
    if (found := _statements.get(key)) is None:
        found = _statements[key] = _build(model, where, values)
    statement, parameters, fields = found

    def fill(parameter: Any) -> Any:
        if not isinstance(parameter, Param):
            return parameter
        if (field := fields.get(parameter.name)) is not None:
            return field.get_db_prep_save(values[parameter.name], connection)
        return bound[parameter.name]

    return statement, [fill(parameter) for parameter in parameters]


_statements: Final[dict[Any, tuple[str, tuple[Any, ...], dict[str, Any]]]] = {}


def _build(
    model: type[models.Model], where: Condition, values: Mapping[str, Any]
) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    fields: dict[str, Any] = {name: model._meta.get_field(name) for name in values if not _is_expression(values[name])}
    places = {name: Param(name, fields[name]) if name in fields else value for name, value in values.items()}
    query: UpdateQuery = model._default_manager.filter(where.q).query.chain(UpdateQuery)  # type: ignore[assignment]
    query.add_update_values(places)
    statement, parameters = query.get_compiler(DEFAULT_DB_ALIAS).as_sql()
    return statement, tuple(parameters), fields


@lru_cache(_SHAPES)
def _deletion(model: type[models.Model], where: Condition) -> tuple[str, tuple[Any, ...]]:
    query = model._default_manager.filter(where.q).query.chain(DeleteQuery)
    statement, parameters = query.get_compiler(DEFAULT_DB_ALIAS).as_sql()
    return statement, tuple(parameters)


@lru_cache(_SHAPES)
def _insert(model: type[models.Model], names: tuple[str, ...], count: int) -> tuple[str, tuple[Any, ...]]:
    quote = connections[DEFAULT_DB_ALIAS].ops.quote_name
    fields: tuple[Any, ...] = tuple(model._meta.get_field(name) for name in names)
    columns = ", ".join(quote(field.column) for field in fields)
    row = "(" + ", ".join(["%s"] * len(fields)) + ")"
    return f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES {', '.join([row] * count)}", fields  # noqa: S608


def _is_expression(value: Any) -> bool:
    return hasattr(value, "resolve_expression")
