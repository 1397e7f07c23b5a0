"""Empty the database after a test with real transactions, and put the rows of the migrations back.

Django's own way empties every table and then creates content types and permissions again, which takes a third of a
second: longer than most of these tests.
"""

from __future__ import annotations

from typing import Any, Final

from django.db import connection
from django.test import TransactionTestCase

#: A table that was truncated and not written since has no file content.
_WRITTEN: Final = "SELECT name FROM unnest(%s::text[]) AS name WHERE pg_relation_size(quote_ident(name)::regclass) > 0"
_DIGEST: Final = "SELECT md5(string_agg(seed::text, ' ' ORDER BY seed::text)) FROM {} seed"


class Sweeper:
    """Knows the tables and the rows of a database in which no test has run yet."""

    def __init__(self) -> None:
        names = connection.introspection.django_table_names(only_existing=True, include_views=False)
        with connection.cursor() as cursor:
            cursor.execute(_WRITTEN, [names])
            seeded = [name for (name,) in cursor.fetchall()]
            self._others = [name for name in names if name not in seeded]
            self._seeds = {name: _copied(cursor, name) for name in seeded}
            self._digests = _digests(cursor, seeded)

    def sweep(self) -> None:
        """Bring the database back into its first state."""
        with connection.cursor() as cursor:
            cursor.execute(_WRITTEN, [self._others])
            _truncate(cursor, [name for (name,) in cursor.fetchall()])
            if _digests(cursor, list(self._seeds)) != self._digests:
                self._seed(cursor)

    def use(self) -> None:
        """Let all tests with real transactions end with :meth:`sweep`."""

        def teardown(_: TransactionTestCase) -> None:
            self.sweep()

        TransactionTestCase._fixture_teardown = teardown  # type: ignore[attr-defined]

    def _seed(self, cursor: Any) -> None:
        cursor.execute("BEGIN")  # foreign keys are checked at the end
        try:
            _truncate(cursor, list(self._seeds))
            for name, rows in self._seeds.items():
                with cursor.copy(f"COPY {name} FROM STDIN") as copy:
                    copy.write(rows)
        except BaseException:
            cursor.execute("ROLLBACK")
            raise
        cursor.execute("COMMIT")


def _copied(cursor: Any, name: str) -> bytes:
    with cursor.copy(f"COPY {name} TO STDOUT") as copy:
        return b"".join(copy)


def _digests(cursor: Any, names: list[str]) -> tuple[str, ...]:
    cursor.execute("SELECT " + ", ".join(f"({_DIGEST.format(name)})" for name in names))
    digests: tuple[str, ...] = cursor.fetchone()
    return digests


def _truncate(cursor: Any, names: list[str]) -> None:
    if names:
        cursor.execute(f"TRUNCATE {', '.join(names)} CASCADE")
