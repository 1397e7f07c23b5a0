"""A test's own connection to a stack's database, beside Django: it sees what is committed, whatever is cached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import dict_row

Row = dict[str, Any]


def _all(table: str) -> str:
    return f"SELECT * FROM {table}"  # noqa: S608  a table of ours


class Database:
    """The database at this address. Each call connects."""

    def __init__(self, url: str) -> None:
        self._url = url

    def rows(self, query: str, *parameters: Any) -> list[Row]:
        """Return the rows of a query."""
        with psycopg.connect(self._url, row_factory=dict_row) as connection:
            return connection.execute(query.encode(), parameters or None).fetchall()

    def snapshot(self, tables: Mapping[str, str]) -> dict[str, list[Row]]:
        """Return all rows of these tables as of one moment, by the names that are given to them."""
        with psycopg.connect(self._url, row_factory=dict_row) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            return {name: connection.execute(_all(table).encode()).fetchall() for name, table in tables.items()}

    def execute(self, statement: str, *parameters: Any) -> None:
        """Run a statement and commit."""
        with psycopg.connect(self._url) as connection:
            connection.execute(statement.encode(), parameters or None)

    @contextmanager
    def holding(self, statement: str, *parameters: Any) -> Iterator[None]:
        """Run a statement, hold its locks while the block lasts, and roll it back."""
        with psycopg.connect(self._url) as connection:
            assert connection.execute(statement.encode(), parameters or None).rowcount, statement
            yield
            connection.rollback()
