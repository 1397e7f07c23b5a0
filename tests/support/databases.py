"""A test's own door to a stack's database, beside Django: it sees what is committed and waits for nobody's caches."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

import psycopg
from psycopg.rows import dict_row

from tests.support.stack import is_postgresql

Row = dict[str, Any]


def _all(table: str) -> str:
    return f"SELECT * FROM {table}"  # noqa: S608  a table of ours


class Database(Protocol):
    """Statements have ``%s`` for each parameter, whatever the database."""

    def rows(self, query: str, *parameters: Any) -> list[Row]:
        """Look into it."""

    def snapshot(self, tables: Mapping[str, str]) -> dict[str, list[Row]]:
        """All rows of these tables as they were at one moment, by the names that are given to them."""

    def execute(self, statement: str, *parameters: Any) -> None:
        """Change it."""

    def holding(self, statement: str, *parameters: Any) -> AbstractContextManager[None]:
        """A context in which the statement is done and not committed; afterwards it never was."""


class _Postgresql:
    def __init__(self, url: str) -> None:
        self._url = url

    def rows(self, query: str, *parameters: Any) -> list[Row]:
        with psycopg.connect(self._url, row_factory=dict_row) as connection:
            return connection.execute(query.encode(), parameters or None).fetchall()

    def snapshot(self, tables: Mapping[str, str]) -> dict[str, list[Row]]:
        with psycopg.connect(self._url, row_factory=dict_row) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            return {name: connection.execute(_all(table).encode()).fetchall() for name, table in tables.items()}

    def execute(self, statement: str, *parameters: Any) -> None:
        with psycopg.connect(self._url) as connection:
            connection.execute(statement.encode(), parameters or None)

    @contextmanager
    def holding(self, statement: str, *parameters: Any) -> Iterator[None]:
        with psycopg.connect(self._url) as connection:
            assert connection.execute(statement.encode(), parameters or None).rowcount, statement
            yield
            connection.rollback()


class _Sqlite:
    #: SQLite keeps JSON as text and does not say which text is JSON.
    _JSON = frozenset({"result", "error", "metadata"})

    def __init__(self, url: str) -> None:
        self._path = url.removeprefix("sqlite:///")

    def rows(self, query: str, *parameters: Any) -> list[Row]:
        with self._connection() as connection:
            found = connection.execute(*self._said(query, parameters)).fetchall()
        return [self._whole(row) for row in found]

    def snapshot(self, tables: Mapping[str, str]) -> dict[str, list[Row]]:
        with self._connection() as connection:
            connection.execute("BEGIN")
            return {name: list(map(self._whole, connection.execute(_all(table)))) for name, table in tables.items()}

    def execute(self, statement: str, *parameters: Any) -> None:
        with self._connection() as connection:
            connection.execute(*self._said(statement, parameters))

    @contextmanager
    def holding(self, statement: str, *parameters: Any) -> Iterator[None]:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(*self._said(statement, parameters))
            yield
            connection.rollback()

    def _connection(self) -> closing[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=20, isolation_level=None)
        connection.row_factory = sqlite3.Row
        return closing(connection)

    @staticmethod
    def _said(statement: str, parameters: tuple[Any, ...]) -> tuple[str, list[Any]]:
        said = [f"{one:%Y-%m-%d %H:%M:%S.%f}" if isinstance(one, datetime) else one for one in parameters]
        return statement.replace("%s", "?"), said

    def _whole(self, row: sqlite3.Row) -> Row:
        return {name: self._read(name, row[name]) for name in row.keys()}  # noqa: SIM118

    def _read(self, name: str, value: Any) -> Any:
        if isinstance(value, str) and (name == "at" or name.endswith("_at")):
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        return json.loads(value) if name in self._JSON and value else value


def database(url: str) -> Database:
    """The door to the database at this address."""
    return _Postgresql(url) if is_postgresql(url) else _Sqlite(url)
